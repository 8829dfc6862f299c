//! Text with placeholders and byte escapes, as case files have it.

use std::fmt;

use serde::Deserialize;

/// Most bytes that `${fill.N}` may stand for.
const MAX_FILL: usize = 70_000;

/// The words that are placeholders by themselves.
pub(super) const WORDS: [(&str, &str); 31] = [
    ("via", "all Via values, `received` and `rport` put into the first (RFC 3581 §4)"),
    ("branch", "the branch of the first Via"),
    ("from", "From as it came"),
    ("to", "To as it came, with a tag where it had none"),
    ("tag", "that tag alone"),
    ("call_id", "Call-ID"),
    ("cseq", "CSeq: number and method"),
    ("cseq_number", "the number alone"),
    ("method", "the method"),
    ("contact", "all Contact values"),
    ("contact_uri", "the URI of the first Contact"),
    ("contact_host", "its host"),
    ("expires", "the seconds asked for"),
    ("granted", "the seconds granted: those asked for, within the bounds of the case"),
    ("bindings", "all bindings of the address of record with what is left of each, the oldest first"),
    ("bindings_newest_first", "the same, the newest first"),
    ("request_uri", "the Request-URI"),
    ("request_uri_host", "its host"),
    ("user", "the user of To"),
    ("domain", "the host of To"),
    ("source_ip", "the address that the request came from"),
    ("source_port", "the port that it came from"),
    ("transport", "UDP, TCP or TLS"),
    ("own", "ip:port of the node that was asked"),
    ("own_ip", "its address"),
    ("own_port", "its port"),
    ("nonce", "a nonce of this node, one for each response"),
    ("cnonce", "cnonce of the credentials"),
    ("nc", "nc of the credentials"),
    ("rspauth", "rspauth for Authentication-Info (RFC 7616 §3.5)"),
    ("random", "32 hexadecimal digits, others at each place"),
];

/// Reason that a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `${` without an end.
    #[error("\"${{\" without a \"}}\" after it; write $$ for a dollar sign")]
    Open,
    /// A placeholder that does not exist.
    #[error(
        "placeholder ${{{0}}} does not exist; did you mean ${{{1}}}? All are in src/devstack/field/cases/README.md"
    )]
    Unknown(String, &'static str),
    /// `\x` without two hexadecimal digits after it.
    #[error("\\x needs two hexadecimal digits after it; write \\\\x for the text \\x")]
    Escape,
    /// `${fill.N}` without a number, or with too large a one.
    #[error("placeholder ${{fill.{0}}}: expected a number of bytes up to {MAX_FILL}")]
    Fill(String),
}

/// One placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// One of [`WORDS`].
    Word(&'static str),
    /// `${header.NAME}`: the values of a header field of the request.
    Header(String),
    /// `${node.NAME}`, `${node.NAME.ip}`, `${node.NAME.port}`.
    Node(String, Part),
    /// `${fill.N}`.
    Fill(usize),
}

/// A part of a node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Both,
    Ip,
    Port,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Slot(Slot),
}

/// A text with placeholders, by lines: lines end in CRLF on the wire.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template {
    lines: Vec<Vec<Piece>>,
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        Self::parse(&text)
    }
}

impl Template {
    /// Reads a text. One line end at its end is left out: YAML's `|` adds it.
    ///
    /// # Errors
    /// When a placeholder does not exist, or an escape is broken.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let lines = text.split('\n').map(|line| pieces(line.strip_suffix('\r').unwrap_or(line)));
        Ok(Self { lines: lines.collect::<Result<_, _>>()? })
    }

    /// The lines with their placeholders filled in, without line ends. A header line whose value is nothing
    /// but placeholders that stand for nothing is left out where `drop_empty` is set.
    pub(super) fn lines(&self, drop_empty: bool, value: impl Fn(&Slot) -> Vec<u8>) -> Vec<Vec<u8>> {
        let mut lines = Vec::with_capacity(self.lines.len());
        for pieces in &self.lines {
            let (mut line, mut filled, mut slots) = (Vec::new(), false, false);
            for piece in pieces {
                match piece {
                    Piece::Bytes(bytes) => line.extend_from_slice(bytes),
                    Piece::Slot(slot) => {
                        let value = value(slot);
                        (filled, slots) = (filled || !value.is_empty(), true);
                        line.extend_from_slice(&value);
                    }
                }
            }
            let empty = slots && !filled && line.trim_ascii_end().ends_with(b":");
            if !(drop_empty && empty) {
                lines.push(line);
            }
        }
        lines
    }

    /// The lines joined by CRLF.
    pub(super) fn bytes(&self, value: impl Fn(&Slot) -> Vec<u8>) -> Vec<u8> {
        self.lines(false, value).join(&b"\r\n"[..])
    }

    /// Returns whether it begins with these bytes.
    pub(super) fn begins_with(&self, start: &[u8]) -> bool {
        let first = self.lines.first().and_then(|line| line.first());
        matches!(first, Some(Piece::Bytes(bytes)) if bytes.starts_with(start))
    }

    /// The names of all nodes that placeholders name.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().flatten().filter_map(|piece| match piece {
            Piece::Slot(Slot::Node(name, _)) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({} lines)", self.lines.len())
    }
}

fn pieces(line: &str) -> Result<Vec<Piece>, TemplateError> {
    let (mut pieces, mut bytes) = (Vec::new(), Vec::new());
    let mut rest = line;
    while let Some(at) = rest.find(['$', '\\']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("${") {
            let (name, after) = after.split_once('}').ok_or(TemplateError::Open)?;
            if !bytes.is_empty() {
                pieces.push(Piece::Bytes(std::mem::take(&mut bytes)));
            }
            pieces.push(Piece::Slot(slot(name)?));
            rest = after;
            continue;
        }
        let (byte, length) = match rest.as_bytes() {
            [b'$', b'$', ..] => (b'$', 2),
            [b'\\', b'\\', ..] => (b'\\', 2),
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b't', ..] => (b'\t', 2),
            [b'\\', b'x', ..] => {
                let digits = rest.get(2..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (byte.ok_or(TemplateError::Escape)?, 4)
            }
            // A quoted pair of SIP, a lone dollar sign: as it stands.
            [byte, ..] => (*byte, 1),
            [] => break,
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    if !bytes.is_empty() {
        pieces.push(Piece::Bytes(bytes));
    }
    Ok(pieces)
}

fn slot(name: &str) -> Result<Slot, TemplateError> {
    if let Some((word, _)) = WORDS.iter().find(|(word, _)| *word == name) {
        return Ok(Slot::Word(word));
    }
    match name.split_once('.') {
        Some(("header", header)) if !header.is_empty() => Ok(Slot::Header(header.to_owned())),
        Some(("fill", count)) => {
            let count = count.parse().ok().filter(|count| *count <= MAX_FILL);
            count.map(Slot::Fill).ok_or_else(|| TemplateError::Fill(name[5..].to_owned()))
        }
        Some(("node", node)) => Ok(match node.rsplit_once('.') {
            Some((node, "ip")) => Slot::Node(node.to_owned(), Part::Ip),
            Some((node, "port")) => Slot::Node(node.to_owned(), Part::Port),
            _ => Slot::Node(node.to_owned(), Part::Both),
        }),
        _ => {
            let distance = |word: &str| strsim::damerau_levenshtein(word, name);
            let nearest = WORDS.iter().map(|(word, _)| *word).min_by_key(|word| distance(word));
            Err(TemplateError::Unknown(name.to_owned(), nearest.unwrap_or("via")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Vec<u8> {
        Template::parse(text).unwrap().bytes(|slot| match slot {
            Slot::Word(word) => format!("<{word}>").into_bytes(),
            Slot::Fill(count) => vec![b'x'; *count],
            Slot::Header(name) if name == "None" => Vec::new(),
            other => format!("{other:?}").into_bytes(),
        })
    }

    #[test]
    fn placeholders_escapes_and_line_ends() {
        assert_eq!(filled("a\nb: ${via}\n"), b"a\r\nb: <via>");
        assert_eq!(filled(r"\xE9\x00\\x $$ $5 \n\r\t"), b"\xE9\x00\\x $ $5 \n\r\t");
        assert_eq!(filled(r#"realm="a \"b\"""#), br#"realm="a \"b\"""#, "quoted pairs stay");
        assert_eq!(filled("${fill.3}"), b"xxx");
        assert_eq!(filled("a\n\n"), b"a\r\n", "one line end at the end is YAML's");
    }

    #[test]
    fn mistakes_are_named() {
        let text = |bad: &str| Template::parse(bad).unwrap_err().to_string();
        assert!(text("${contact_url}").contains("${contact_uri}"), "{}", text("${contact_url}"));
        assert!(text("${via").contains("without"));
        assert!(text(r"\xZZ").contains("two hexadecimal digits"));
        assert!(text(r"\xé").contains("two hexadecimal digits"));
        assert!(text("${fill.lots}").contains("lots"));
    }

    #[test]
    fn a_header_line_that_stands_for_nothing_is_left_out() {
        let template = Template::parse("A: ${header.None}\nB:\nC: x${header.None}").unwrap();
        let lines = template.lines(true, |_| Vec::new());
        assert_eq!(lines, [&b"B:"[..], b"C: x"]);
        assert_eq!(template.lines(false, |_| Vec::new()).len(), 3);
    }
}
