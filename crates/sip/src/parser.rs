//! Reads messages: from a datagram, or from a stream by their Content-Length (RFC 3261 §7 and §18.3).
//!
//! Total and bounded: any bytes lead to a message or to an error. Tolerant, since refusing costs a
//! registration: a line that is no header field is passed over, and so is what makes up one message of a
//! stream when the next can be found. Only what cannot be framed ends a stream.

use std::borrow::Cow;

use super::{
    grammar::{ParseError, is_token, is_token_byte},
    headers::{HeaderValue, Headers},
    message::{MAX_MESSAGE, Message, Request, Response},
    uri::SipUri,
};

/// See [`Message::parse_datagram`].
pub(super) fn parse_datagram(bytes: &[u8]) -> Result<Message, ParseError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(too_large());
    }
    let bytes = &bytes[line_ends(bytes)..];
    let end = match Head::end(bytes, 0) {
        Some(end) => end,
        // All lines are there; some leave out the empty one after them.
        None if bytes.ends_with(b"\n") => bytes.len(),
        None => return Err(ParseError::Truncated("an empty line after the header fields")),
    };
    let head = Head::parse(&bytes[..end]);
    let rest = &bytes[end..];
    // The datagram is the frame: a Content-Length that is wrong changes nothing.
    let body = match head.content_length() {
        Ok(Some(length)) => rest.get(..length).unwrap_or(rest),
        Ok(None) | Err(_) => rest,
    };
    head.into_message(body)
}

/// Takes a stream apart into messages.
///
/// Line ends between messages (keep-alives, RFC 5626 §4.4.1) are skipped. A message without Content-Length is
/// taken to have no body. Never holds more than one message of [`MAX_MESSAGE`] and what was pushed last.
#[derive(Debug, Default)]
pub struct StreamParser {
    buffer: Vec<u8>,
    /// Offset before which there is no end of the header fields, so that nothing is searched twice.
    searched: usize,
    /// Bytes that the next message has, once its header fields are known; 0 before. They are not read again
    /// until then.
    awaited: usize,
    /// Something that was SIP has come.
    spoken: bool,
    broken: Option<ParseError>,
}

impl StreamParser {
    /// Begins at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what has been received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next message, or `None` until more has been pushed. One whose body has no end that is known comes
    /// without it, and breaks the stream.
    ///
    /// # Errors
    /// When a message is malformed. Where its end is known, or the start of the next one, it is skipped and
    /// the stream goes on; otherwise the stream is [broken](StreamParser::is_broken), and this error is what
    /// every later call returns.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Message>, ParseError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let blank = line_ends(&self.buffer);
        if blank > 0 {
            self.drop_front(blank);
        }
        let (head, end, length) = match self.frame() {
            Ok(Frame::Whole(head, end, length)) => (head, end, length),
            Ok(Frame::Partial) => return Ok(None),
            // The last one that can be read: what its header fields say counts all the same.
            Ok(Frame::Endless(head, error)) => {
                let message = head.into_message(&[]);
                let broken = self.break_off(error);
                return if message.is_ok() { message.map(Some) } else { broken };
            }
            Ok(Frame::Junk(length)) => {
                self.drop_front(length);
                return Err(ParseError::malformed("start line", "", START_LINE));
            }
            Err(error) => return self.break_off(error),
        };
        self.spoken |= ["Via", "CSeq", "Call-ID"].into_iter().any(|name| head.headers.get(name).is_some());
        match head.into_message(&self.buffer[end..end + length]) {
            // Another protocol, which has no messages of ours.
            Err(error) if !self.spoken => self.break_off(error),
            message => {
                self.spoken = true;
                self.drop_front(end + length);
                message.map(Some)
            }
        }
    }

    fn break_off<T>(&mut self, error: ParseError) -> Result<T, ParseError> {
        self.broken = Some(error.clone());
        self.buffer = Vec::new();
        Err(error)
    }

    fn drop_front(&mut self, length: usize) {
        self.buffer.drain(..length);
        (self.searched, self.awaited) = (0, 0);
    }

    /// Returns whether the stream can no longer be taken apart and must be closed.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    fn frame(&mut self) -> Result<Frame, ParseError> {
        if self.buffer.len() < self.awaited {
            return Ok(Frame::Partial);
        }
        let Some(end) = Head::end(&self.buffer, self.searched) else {
            if self.buffer.len() > MAX_MESSAGE {
                return Err(too_large());
            }
            // The empty line may begin with the last three bytes.
            self.searched = self.buffer.len().saturating_sub(3);
            return Ok(Frame::Partial);
        };
        // Where the body is still to come, the header fields are read once more when it is there: bodies are
        // rare here.
        self.searched = end.saturating_sub(4);
        if let Some(junk) = junk_before_start_line(&self.buffer[..end]) {
            return Ok(Frame::Junk(junk));
        }
        let head = Head::parse(&self.buffer[..end]);
        let length = match head.content_length() {
            Ok(length) => length.unwrap_or(0),
            Err(error) => return Ok(Frame::Endless(head, error)),
        };
        if end + length > MAX_MESSAGE {
            return Ok(Frame::Endless(head, too_large()));
        }
        self.awaited = end + length;
        let whole = self.buffer.len() >= end + length;
        Ok(if whole { Frame::Whole(head, end, length) } else { Frame::Partial })
    }
}

/// Front of a stream.
enum Frame {
    /// Less than a message.
    Partial,
    /// A message: its header fields, where they end, and the length of the body.
    Whole(Head, usize, usize),
    /// A message whose body has no end that is known: its header fields, and why not.
    Endless(Head, ParseError),
    /// Bytes before the start of a message, as a body without a Content-Length leaves them.
    Junk(usize),
}

/// Returns how many bytes stand before the first start line, where that is not at the front.
fn junk_before_start_line(head: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in head.split_inclusive(|b| *b == b'\n') {
        let start = text(line.trim_ascii_end());
        if Start::parse(&start).is_ok() {
            return (at > 0).then_some(at);
        }
        // A body without a line end has the next status line right behind it.
        let status = line.windows(STATUS.len()).position(|bytes| bytes.eq_ignore_ascii_case(STATUS));
        if let Some(within) = status.filter(|within| *within > 0)
            && Start::parse(&text(line[within..].trim_ascii_end())).is_ok()
        {
            return Some(at + within);
        }
        at += line.len();
    }
    None
}

/// Returns how many bytes of line ends there are at the start.
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

    fn parse(bytes: &[u8]) -> Self {
        let mut lines = bytes.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let start = text(lines.next().unwrap_or_default()).into_owned();
        let mut headers = Headers::new();
        let mut field: Option<(&str, Cow<'_, [u8]>)> = None;
        for line in lines.take_while(|line| !line.is_empty()) {
            if let [b' ' | b'\t', rest @ ..] = line {
                // What is folded under a line that is passed over goes with it.
                if let Some((_, value)) = &mut field {
                    let value = value.to_mut();
                    value.push(b' ');
                    value.extend_from_slice(trimmed(rest));
                }
                continue;
            }
            store(&mut headers, field.take());
            field = split_field(line);
        }
        store(&mut headers, field);
        Self { start, headers }
    }

    /// Returns what all Content-Length fields agree on. A number counts whatever follows it; an empty field
    /// says nothing.
    fn content_length(&self) -> Result<Option<usize>, ParseError> {
        let mut agreed = None;
        for value in self.headers.list("Content-Length") {
            let malformed = || ParseError::malformed("Content-Length", value, "one number of bytes");
            let number = value.strip_prefix('+').unwrap_or(value);
            let digits = &number[..number.bytes().take_while(u8::is_ascii_digit).count()];
            if digits.is_empty() {
                return Err(malformed());
            }
            let length = digits.parse().ok().filter(|length| *length <= MAX_MESSAGE).ok_or_else(too_large)?;
            if agreed.is_some_and(|agreed| agreed != length) {
                return Err(malformed());
            }
            agreed = Some(length);
        }
        Ok(agreed)
    }

    fn into_message(self, body: &[u8]) -> Result<Message, ParseError> {
        let Self { start, headers } = self;
        let body = body.to_vec();
        Ok(match Start::parse(&start)? {
            Start::Status(code, reason) => {
                Message::Response(Response { code, reason: reason.to_owned(), headers, body })
            }
            Start::Request(method, uri) => {
                Message::Request(Request { method: method.to_owned(), uri, headers, body })
            }
        })
    }
}

const STATUS: &[u8] = b"SIP/2.0";
const START_LINE: &str = "METHOD URI SIP/2.0, or SIP/2.0 CODE PHRASE";

enum Start<'a> {
    Status(u16, &'a str),
    Request(&'a str, SipUri),
}

impl<'a> Start<'a> {
    /// Any white space separates its parts, as much as there is.
    fn parse(line: &'a str) -> Result<Self, ParseError> {
        let line = line.trim();
        let malformed = |expected| ParseError::malformed("start line", first_word(line), expected);
        let blank = [' ', '\t'];
        if let Some((version, rest)) = line.split_at_checked(STATUS.len())
            && version.as_bytes().eq_ignore_ascii_case(STATUS)
            && rest.starts_with(blank)
        {
            let rest = rest.trim_start();
            let (code, reason) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
            let code = (code.len() == 3).then(|| code.parse().ok()).flatten();
            let code = code.filter(|code| (100..700).contains(code));
            let code = code.ok_or_else(|| malformed("a status code from 100 to 699"))?;
            return Ok(Self::Status(code, reason.trim()));
        }
        let mut parts = line.split(blank).filter(|part| !part.is_empty());
        let (Some(method), Some(uri), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed(START_LINE));
        };
        if !is_token(method) || !version.as_bytes().eq_ignore_ascii_case(STATUS) {
            return Err(malformed(START_LINE));
        }
        Ok(Self::Request(method, SipUri::parse(uri)?))
    }
}

/// The first word, as far as it is one: what follows could hold a password.
fn first_word(text: &str) -> &str {
    let end = text.bytes().take_while(|b| is_token_byte(*b) || *b == b'/').take(32).count();
    &text[..end]
}

/// A start line as text: bytes that are not UTF-8 and NUL become U+FFFD, CR a space.
fn text(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if text.bytes().any(|b| matches!(b, 0 | b'\r')) {
        return Cow::Owned(text.replace('\0', "\u{fffd}").replace('\r', " "));
    }
    text
}

/// Returns a value without white space at either end.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\r'] = value {
        value = rest;
    }
    value
}

/// Name and value of a line; `None` where it is no header field.
fn split_field(line: &[u8]) -> Option<(&str, Cow<'_, [u8]>)> {
    let colon = line.iter().position(|b| *b == b':')?;
    let name = std::str::from_utf8(trimmed(&line[..colon])).ok().filter(|name| is_token(name))?;
    Some((name, Cow::Borrowed(trimmed(&line[colon + 1..]))))
}

/// Keeps a field. NUL and CR, which no field can hold, become U+FFFD and a space.
fn store(headers: &mut Headers, field: Option<(&str, Cow<'_, [u8]>)>) {
    let Some((name, value)) = field else { return };
    let value = trimmed(&value);
    let value = if value.iter().any(|b| matches!(b, 0 | b'\r')) {
        let safe = value.iter().flat_map(|byte| match byte {
            0 => "\u{fffd}".as_bytes(),
            b'\r' => b" ",
            byte => std::slice::from_ref(byte),
        });
        HeaderValue::from(safe.copied().collect::<Vec<u8>>())
    } else {
        HeaderValue::from(value.to_vec())
    };
    headers.push_read(name, value);
}

#[cfg(test)]
mod tests;
