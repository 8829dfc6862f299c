//! The dialogue as a person reads it: what came and what went, credentials masked.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use super::case::Over;
use routr_types::secret::Secret;

/// Most entries that are kept.
const MAX_KEPT: usize = 400;
/// Most bytes of a message that are shown.
const MAX_SHOWN: usize = 4096;

/// Header fields whose value is a secret as a whole.
const SECRET_FIELDS: [&str; 1] = ["x-gateway-auth"];
/// Header fields with digest parameters, some of which give a password away to a guesser.
const DIGEST_FIELDS: [&str; 3] = ["authorization", "proxy-authorization", "authentication-info"];
/// Those parameters.
const SECRET_PARAMS: [&str; 3] = ["response", "cnonce", "rspauth"];

/// Receiver of entries as they happen.
pub(super) type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// Direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// The log of a play. Clones share it.
#[derive(Clone)]
pub(super) struct Dialogue(Arc<Inner>);

struct Inner {
    started: Instant,
    sink: Option<Sink>,
    password: Secret,
    kept: Mutex<VecDeque<String>>,
}

impl std::fmt::Debug for Dialogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialogue")
    }
}

impl Dialogue {
    pub fn new(password: &Secret, sink: Option<Sink>) -> Self {
        let (started, password) = (Instant::now(), password.clone());
        Self(Arc::new(Inner { started, sink, password, kept: Mutex::default() }))
    }

    /// Time since the start.
    pub fn elapsed(&self) -> std::time::Duration {
        self.0.started.elapsed()
    }

    /// A message, or what should have been one.
    pub fn message(&self, way: Way, node: &str, over: Over, peer: SocketAddr, note: &str, bytes: &[u8]) {
        let arrow = if way == Way::In { "<-" } else { "->" };
        let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
        let mut text = format!("{node}/{over} {arrow} {peer}{note}\n");
        for line in masked(bytes).lines() {
            // Writing to a String does not fail.
            let _ = writeln!(text, "    {line}");
        }
        self.entry(text.trim_end());
    }

    /// An event.
    pub fn note(&self, text: &str) {
        self.entry(text);
    }

    /// Returns what was said so far, oldest first; only the last part of much.
    pub fn text(&self) -> String {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn entry(&self, text: &str) {
        let mut text = format!("{:9.3} {text}", self.elapsed().as_secs_f64());
        let password = self.0.password.expose();
        if password.len() >= 4 && text.contains(password) {
            text = text.replace(password, "***");
        }
        if let Some(sink) = &self.0.sink {
            sink(&text);
        }
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MAX_KEPT {
            kept.pop_front();
        }
        kept.push_back(text);
    }
}

/// A message as text: bytes that cannot be printed as `\xNN`, credentials as `***`.
fn masked(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(MAX_SHOWN)];
    let mut text = String::new();
    let mut secret = None;
    for line in cut.split_inclusive(|b| *b == b'\n') {
        let shown = printable(line.trim_ascii_end());
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        if !folded {
            secret = shown.split_once(':').map(|(name, _)| name.trim().to_ascii_lowercase());
        }
        let name = secret.as_deref().unwrap_or_default();
        if SECRET_FIELDS.contains(&name) || (DIGEST_FIELDS.contains(&name) && folded) {
            let _ = writeln!(text, "{}: ***", shown.split(':').next().filter(|_| !folded).unwrap_or(name));
        } else if DIGEST_FIELDS.contains(&name) {
            let _ = writeln!(text, "{}", mask_params(&shown));
        } else {
            let _ = writeln!(text, "{shown}");
        }
    }
    if bytes.len() > MAX_SHOWN {
        let _ = writeln!(text, "... {} bytes in all", bytes.len());
    }
    text
}

fn printable(line: &[u8]) -> String {
    let mut text = String::new();
    for chunk in line.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && c != '\t' {
                let _ = write!(text, "\\x{:02X}", u32::from(c));
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    text
}

/// A line of digest credentials without what a password could be guessed from; of another scheme all is
/// hidden.
fn mask_params(line: &str) -> String {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    let value = value.trim();
    let info = name.trim().eq_ignore_ascii_case("authentication-info");
    if !info && !value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("digest")) {
        return format!("{name}: {} ***", value.split([' ', '=']).next().unwrap_or_default());
    }
    let mut parts = Vec::new();
    for part in value.split(',') {
        let key = part.split('=').next().unwrap_or(part);
        let word = key.trim().rsplit([' ', '\t']).next().unwrap_or_default().to_ascii_lowercase();
        parts.push(if SECRET_PARAMS.contains(&word.as_str()) {
            format!("{key}=***")
        } else {
            part.to_owned()
        });
    }
    format!("{name}: {}", parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_and_bytes_are_shown() {
        let text = masked(
            b"REGISTER sip:h SIP/2.0\r\nAuthorization: Digest response=\"s3cret\", username=\"u\",cnonce=s3cret, realm=\"caf\xE9\"\r\n \
            response=s3cret\r\nProxy-authorization : Basic s3cret\r\nX-GATEWAY-AUTH: s3cret\r\n s3cret\r\nTo: <sip:u@h>\r\n\
            Authentication-Info: rspauth=\"s3cret\", nextnonce=\"n\"\r\n\r\n",
        );
        assert!(!text.contains("s3cret"), "{text}");
        for shown in ["username=\"u\"", "caf\\xE9", "To: <sip:u@h>", "nextnonce=\"n\"", "Basic ***"] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
        let dialogue = Dialogue::new(&Secret::new("right-password"), None);
        dialogue.note("right-password");
        assert!(dialogue.text().ends_with("***"));
    }
}
