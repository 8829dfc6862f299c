//! Requests and responses (RFC 3261 §7), and how they are written. [`super::parser`] reads them.

use std::fmt;

use super::{
    grammar::{is_one_line, is_token},
    uri::SipUri,
};
pub use super::{
    headers::{BuildError, Headers, MAX_HEADERS},
    parser::StreamParser,
    uri::ParseError,
};

/// Most bytes that one message may have, header fields and body together, read or written.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// A request. `Debug` shows neither credentials nor the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Method, in upper case as a rule; methods are compared with respect to case (RFC 3261 §7.1).
    pub method: String,
    /// The Request-URI.
    pub uri: SipUri,
    /// All header fields. Content-Length is written from the body, whatever is said here.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

/// A response. `Debug` shows neither credentials nor the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// 100 to 699.
    pub code: u16,
    /// The reason phrase, possibly empty.
    pub reason: String,
    /// All header fields. Content-Length is written from the body, whatever is said here.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

/// Either of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Request {
    /// A request without header fields and body.
    pub fn new(method: &str, uri: SipUri) -> Self {
        Self { method: method.to_owned(), uri, headers: Headers::new(), body: Vec::new() }
    }

    /// The message as it travels.
    ///
    /// # Errors
    /// When the method or the URI cannot stand in the start line, or the whole is more than [`MAX_MESSAGE`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, BuildError> {
        self.write(None)
    }

    /// The message as it travels, with one more Via on top of it.
    pub(super) fn to_bytes_below(&self, via: &str) -> Result<Vec<u8>, BuildError> {
        if !is_one_line(via) {
            return Err(BuildError::Value("Via".to_owned()));
        }
        self.write(Some(via))
    }

    fn write(&self, via: Option<&str>) -> Result<Vec<u8>, BuildError> {
        if !is_token(&self.method) {
            return Err(BuildError::StartLine("method"));
        }
        if !self.uri.is_writable() {
            return Err(BuildError::StartLine("Request-URI"));
        }
        write(&format!("{} {} SIP/2.0", self.method, self.uri), via, &self.headers, &self.body)
    }
}

impl Response {
    /// The response to a request, with Via, From, To, Call-ID and CSeq copied from it (RFC 3261 §8.2.6.2).
    /// The To tag that a final response needs, and `received` and `rport`, are the caller's to add.
    pub fn to_request(request: &Request, code: u16, reason: &str) -> Self {
        let mut headers = Headers::new();
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in request.headers.get_all(name) {
                // Both conditions of `push` hold already: the fields come from a list like this one.
                let _ = headers.push(name, value);
            }
        }
        Self { code, reason: reason.to_owned(), headers, body: Vec::new() }
    }

    /// 1xx: more is to come.
    pub fn is_provisional(&self) -> bool {
        self.code < 200
    }

    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The message as it travels.
    ///
    /// # Errors
    /// When the code or the phrase cannot stand in the start line, or the whole is more than [`MAX_MESSAGE`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, BuildError> {
        if !(100..700).contains(&self.code) {
            return Err(BuildError::StartLine("status code"));
        }
        if !is_one_line(&self.reason) {
            return Err(BuildError::StartLine("reason phrase"));
        }
        write(&format!("SIP/2.0 {} {}", self.code, self.reason), None, &self.headers, &self.body)
    }
}

impl Message {
    /// Reads the message of one datagram. What follows the body by Content-Length is passed over; without a
    /// Content-Length that fits, the body is all the rest (RFC 3261 §18.3). Lines that are no header field
    /// are passed over.
    ///
    /// # Errors
    /// When it is not a SIP/2.0 message, its header fields are cut off, or it exceeds a bound.
    pub fn parse_datagram(bytes: &[u8]) -> Result<Self, ParseError> {
        super::parser::parse_datagram(bytes)
    }

    /// The message as it travels.
    ///
    /// # Errors
    /// As [`Request::to_bytes`] and [`Response::to_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, BuildError> {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }

    /// The header fields of either.
    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }
}

fn write(start: &str, via: Option<&str>, headers: &Headers, body: &[u8]) -> Result<Vec<u8>, BuildError> {
    let mut bytes = Vec::with_capacity(1024 + body.len());
    bytes.extend_from_slice(start.as_bytes());
    let fields = headers.iter_bytes().filter(|(name, _)| *name != "Content-Length");
    for (name, value) in via.map(|via| ("Via", via.as_bytes())).into_iter().chain(fields) {
        for part in [b"\r\n", name.as_bytes(), b": ", value] {
            bytes.extend_from_slice(part);
        }
    }
    bytes.extend_from_slice(format!("\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    if bytes.len() > MAX_MESSAGE {
        return Err(BuildError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = format!("{} {}", self.method, self.uri);
        f.debug_tuple("Request").field(&start).field(&self.headers).field(&self.body.len()).finish()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = format!("{} {}", self.code, self.reason);
        f.debug_tuple("Response").field(&start).field(&self.headers).field(&self.body.len()).finish()
    }
}

#[cfg(test)]
mod tests;
