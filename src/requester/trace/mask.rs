//! Takes secrets out of a SIP message. What is not known to be harmless is masked.

use std::{collections::BTreeSet, fmt::Write as _};

use super::MAX_MESSAGE_BYTES;
use routr_sip::{digest::schemes, message::Headers};
use routr_types::text;

/// Stands for what is masked.
const MASK: &str = "***";
/// Parts of names of header fields that may have secrets: Authorization, WWW-Authenticate,
/// Authentication-Info, X-Gateway-Auth, P-Media-Authorization and their like.
const SECRET_NAMES: [&str; 9] =
    ["auth", "token", "cookie", "secret", "passw", "credential", "nonce", "digest", "key"];
/// Parameters of digest authentication that are shown.
const SHOWN: [&str; 5] = ["realm", "algorithm", "qop", "stale", "nc"];
/// Parameters whose presence is shown.
const MASKED: [&str; 7] = ["username", "nonce", "nextnonce", "cnonce", "response", "rspauth", "opaque"];
/// Shortest text that is replaced wherever it stands: a shorter one would spoil the rest.
const MIN_SECRET: usize = 4;

/// Adds the secrets of header fields to those that are replaced in all others.
pub(super) fn collect(headers: &Headers, secrets: &mut Vec<String>) {
    for (name, value) in headers.iter().filter(|(name, _)| is_secret(name)) {
        let all = schemes(value.as_bytes());
        let parts = all.iter().flat_map(|scheme| MASKED.iter().filter_map(|part| scheme.text(part)));
        // The user's name is no secret elsewhere: it stands in To.
        secrets
            .extend(parts.filter(|part| !all.iter().any(|one| one.text("username").as_ref() == Some(part))));
        if !name.to_ascii_lowercase().contains("auth") || all.iter().all(|scheme| !scheme.is("Digest")) {
            secrets.push(value.trim().to_owned());
        }
    }
    secrets.sort_unstable();
    secrets.dedup();
}

/// Returns a message as lines: the start line, the header fields, and how long the body is.
pub(super) fn text(start: &str, headers: &Headers, body: usize, secrets: &[String]) -> String {
    let mut all = line(start, secrets);
    for (name, value) in headers.iter() {
        let value = if is_secret(name) { field(name, value) } else { line(value, secrets) };
        // A name comes from outside, too.
        let next = format!("\n{}: {value}", text::one_line(name));
        if all.len() + next.len() > MAX_MESSAGE_BYTES {
            all.push_str("\n... (cut)");
            break;
        }
        all.push_str(&next);
    }
    if body > 0 {
        let _ = write!(all, "\n({body} bytes of body)");
    }
    all
}

/// Returns one line without secrets and control characters, cut where it is very long.
pub(super) fn line(value: &str, secrets: &[String]) -> String {
    let mut value = without_uri_passwords(value);
    for secret in secrets.iter().filter(|secret| secret.len() >= MIN_SECRET) {
        if value.contains(&**secret) {
            value = value.replace(&**secret, MASK);
        }
    }
    text::clean(&value, MAX_MESSAGE_BYTES / 4)
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// Returns the value of a field with secrets: of digest authentication its harmless parts, else nothing.
fn field(name: &str, value: &str) -> String {
    let info = name.to_ascii_lowercase().ends_with("authentication-info");
    let all = schemes(value.as_bytes());
    if all.is_empty() || !all.iter().all(|scheme| scheme.is("Digest") || (info && scheme.name().is_empty())) {
        return MASK.to_owned();
    }
    let shown = all.iter().map(|scheme| {
        let harmless = SHOWN.iter().filter_map(|part| Some(format!("{part}={}", short(&scheme.text(part)?))));
        let masked = MASKED.iter().filter(|part| scheme.text(part).is_some());
        let parts: Vec<_> = harmless.chain(masked.map(|part| format!("{part}={MASK}"))).collect();
        format!("{} {}", scheme.name(), parts.join(", ")).trim().to_owned()
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn short(value: &str) -> String {
    format!("\"{}\"", text::clean(value, 200))
}

/// Masks the passwords of SIP URIs: `sip:user:password@host` (RFC 3261 §19.1.1).
fn without_uri_passwords(value: &str) -> String {
    let lower = value.to_ascii_lowercase();
    let (mut shown, mut rest_at) = (String::with_capacity(value.len()), 0);
    let schemes = ["sips:", "sip:"].into_iter().flat_map(|scheme| lower.match_indices(scheme));
    let after: BTreeSet<_> = schemes.map(|(at, scheme)| at + scheme.len()).collect();
    for begin in after {
        if begin < rest_at {
            continue;
        }
        let uri = &value[begin..];
        let end = uri.find(['<', '>', '"', ',', ' ', '\t']).unwrap_or(uri.len());
        let Some(at) = uri[..end].rfind('@') else { continue };
        let Some(colon) = uri[..at].find(':') else { continue };
        shown.push_str(&value[rest_at..=begin + colon]);
        shown.push_str(MASK);
        rest_at = begin + at;
    }
    shown.push_str(&value[rest_at..]);
    shown
}
