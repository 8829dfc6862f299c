//! Reads messages: from a datagram, or from a stream by their Content-Length (RFC 3261 §7 and §18.3).
//!
//! Total and bounded: any bytes lead to a message or to an error. Tolerant where refusing would only cost a
//! registration: bare LF as a line end, folded lines, white space before a colon, bytes that are not UTF-8.

use std::borrow::Cow;

use super::{
    grammar::{ParseError, is_token, is_token_byte},
    headers::{BuildError, Headers, MAX_HEADERS},
    message::{MAX_MESSAGE, Message, Request, Response},
    uri::SipUri,
};

/// See [`Message::parse_datagram`].
pub(super) fn parse_datagram(bytes: &[u8]) -> Result<Message, ParseError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(too_large());
    }
    let bytes = &bytes[line_ends(bytes)..];
    let end = Head::end(bytes, 0).ok_or(ParseError::Truncated("an empty line after the header fields"))?;
    let head = Head::parse(&bytes[..end])?;
    let rest = &bytes[end..];
    let body = match head.content_length()? {
        None => rest,
        Some(length) => {
            rest.get(..length).ok_or(ParseError::Truncated("as much body as Content-Length says"))?
        }
    };
    head.into_message(body)
}

/// Takes a stream apart into messages.
///
/// Line ends between messages (keep-alives, RFC 5626 §4.4.1) are skipped. A message without Content-Length is taken to
/// have no body. Never holds more than one message of [`MAX_MESSAGE`] and what was pushed last.
#[derive(Debug, Default)]
pub struct StreamParser {
    buffer: Vec<u8>,
    /// Before this there is no end of the header fields, so that nothing is searched twice.
    searched: usize,
    /// Bytes that the next message has, once its header fields have told; 0 before. They are not read again until then.
    awaited: usize,
    broken: Option<ParseError>,
}

impl StreamParser {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what has been received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next message, or `None` until more has been pushed.
    ///
    /// # Errors
    /// When a message makes no sense. Where its end is known it is skipped and the stream goes on; otherwise the
    /// stream is [broken](StreamParser::is_broken), and this error is what every later call returns.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Message>, ParseError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let blank = line_ends(&self.buffer);
        if blank > 0 {
            self.buffer.drain(..blank);
            (self.searched, self.awaited) = (0, 0);
        }
        let framed = match self.frame() {
            Ok(Some(framed)) => framed,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.broken = Some(error.clone());
                self.buffer = Vec::new();
                return Err(error);
            }
        };
        let (head, end, length) = framed;
        let message = head.into_message(&self.buffer[end..end + length]);
        self.buffer.drain(..end + length);
        (self.searched, self.awaited) = (0, 0);
        message.map(Some)
    }

    /// Whether the stream can no longer be taken apart: it is to be closed.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// The header fields of the next message, where they end, and how long the body is, once all of it is there.
    fn frame(&mut self) -> Result<Option<(Head, usize, usize)>, ParseError> {
        if self.buffer.len() < self.awaited {
            return Ok(None);
        }
        let Some(end) = Head::end(&self.buffer, self.searched) else {
            if self.buffer.len() > MAX_MESSAGE {
                return Err(too_large());
            }
            // The empty line may begin with the last three bytes.
            self.searched = self.buffer.len().saturating_sub(3);
            return Ok(None);
        };
        // Where the body is still to come, the header fields are read once more when it is there: bodies are rare here.
        self.searched = end.saturating_sub(4);
        let head = Head::parse(&self.buffer[..end])?;
        let length = head.content_length()?.unwrap_or(0);
        if end + length > MAX_MESSAGE {
            return Err(too_large());
        }
        self.awaited = end + length;
        Ok((self.buffer.len() >= end + length).then_some((head, end, length)))
    }
}

/// How many bytes of line ends there are at the start.
fn line_ends(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()
}

fn too_large() -> ParseError {
    ParseError::TooMuch { what: "bytes of a message", limit: MAX_MESSAGE }
}

/// The start line and the header fields.
struct Head {
    start: String,
    headers: Headers,
}

impl Head {
    /// The position after the empty line, searched from `from` on.
    fn end(bytes: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        while let Some(next) = bytes.get(at..)?.iter().position(|b| *b == b'\n') {
            at += next + 1;
            match bytes.get(at..)? {
                [b'\n', ..] => return Some(at + 1),
                [b'\r', b'\n', ..] => return Some(at + 2),
                _ => {}
            }
        }
        None
    }

    fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut lines = bytes.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let start = text(lines.next().unwrap_or_default()).into_owned();
        let mut headers = Headers::new();
        let mut field: Option<(Cow<'_, str>, Cow<'_, str>)> = None;
        for line in lines.take_while(|line| !line.is_empty()) {
            if let [b' ' | b'\t', rest @ ..] = line {
                let Some((_, value)) = &mut field else {
                    return Err(ParseError::malformed(
                        "first header field",
                        "",
                        "a name at the line's start",
                    ));
                };
                let value = value.to_mut();
                value.push(' ');
                value.push_str(text(rest).trim());
                continue;
            }
            store(&mut headers, field.take())?;
            field = Some(split_field(line)?);
        }
        store(&mut headers, field)?;
        Ok(Self { start, headers })
    }

    /// What all Content-Length fields agree on.
    fn content_length(&self) -> Result<Option<usize>, ParseError> {
        let mut agreed = None;
        for value in self.headers.get_all("Content-Length") {
            let malformed = || ParseError::malformed("Content-Length", value, "one number of bytes");
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let length = digits.then(|| value.parse::<u64>().unwrap_or(u64::MAX)).ok_or_else(malformed)?;
            let length = usize::try_from(length).ok().filter(|l| *l <= MAX_MESSAGE).ok_or_else(too_large)?;
            if agreed.is_some_and(|a| a != length) {
                return Err(malformed());
            }
            agreed = Some(length);
        }
        Ok(agreed)
    }

    fn into_message(self, body: &[u8]) -> Result<Message, ParseError> {
        let Self { start, headers } = self;
        let body = body.to_vec();
        let malformed = |expected| ParseError::malformed("start line", first_word(&start), expected);
        if start.get(..8).is_some_and(|version| version.eq_ignore_ascii_case("SIP/2.0 ")) {
            let rest = &start[8..];
            let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
            let three_digits = code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit());
            let code = three_digits.then(|| code.parse().ok()).flatten();
            let code = code
                .filter(|c| (100..700).contains(c))
                .ok_or_else(|| malformed("a status code from 100 to 699"))?;
            return Ok(Message::Response(Response { code, reason: reason.trim().to_owned(), headers, body }));
        }
        let mut parts = start.split(' ');
        let (Some(method), Some(uri), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("METHOD URI SIP/2.0, or SIP/2.0 CODE PHRASE"));
        };
        if !is_token(method) || !version.eq_ignore_ascii_case("SIP/2.0") {
            return Err(malformed("METHOD URI SIP/2.0, or SIP/2.0 CODE PHRASE"));
        }
        Ok(Message::Request(Request { method: method.to_owned(), uri: SipUri::parse(uri)?, headers, body }))
    }
}

/// The first word, as far as it is one: what follows could hold a password.
fn first_word(text: &str) -> &str {
    let end = text.bytes().take_while(|b| is_token_byte(*b) || *b == b'/').take(32).count();
    &text[..end]
}

/// One line as text that may stand in a header field: bytes that are not UTF-8 and NUL become U+FFFD, CR a space.
fn text(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if text.bytes().any(|b| matches!(b, 0 | b'\r')) {
        return Cow::Owned(text.replace('\0', "\u{fffd}").replace('\r', " "));
    }
    text
}

fn split_field(line: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), ParseError> {
    let colon = line.iter().position(|b| *b == b':');
    let expected = "a token, then a colon";
    let Some(colon) = colon else { return Err(ParseError::malformed("header field name", "", expected)) };
    let name = match text(&line[..colon]) {
        Cow::Borrowed(name) => Cow::Borrowed(name.trim_end()),
        Cow::Owned(name) => Cow::Owned(name.trim_end().to_owned()),
    };
    if !is_token(&name) {
        return Err(ParseError::malformed("header field name", first_word(&name), expected));
    }
    let value = match text(&line[colon + 1..]) {
        Cow::Borrowed(value) => Cow::Borrowed(value.trim()),
        Cow::Owned(value) => Cow::Owned(value.trim().to_owned()),
    };
    Ok((name, value))
}

fn store(headers: &mut Headers, field: Option<(Cow<'_, str>, Cow<'_, str>)>) -> Result<(), ParseError> {
    let Some((name, value)) = field else { return Ok(()) };
    headers.push(&name, value.trim()).map_err(|error| match error {
        BuildError::TooMany => ParseError::TooMuch { what: "header fields", limit: MAX_HEADERS },
        _ => ParseError::malformed("header field name", first_word(&name), "a token, then a colon"),
    })
}

#[cfg(test)]
mod tests;
