//! SIP messages as bytes, read with as few assumptions as an oracle can make.

/// Most bytes of one message.
const MAX_MESSAGE: usize = 64 * 1024;

/// Compact forms that matter here (RFC 3261 §7.3.3).
const COMPACT: [(&[u8], &[u8]); 6] = [
    (b"v", b"via"),
    (b"f", b"from"),
    (b"t", b"to"),
    (b"i", b"call-id"),
    (b"m", b"contact"),
    (b"l", b"content-length"),
];

/// One message: start line, header fields in their order, body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wire {
    pub start: Vec<u8>,
    /// Names as written, values trimmed, folded lines joined.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// The bytes are no SIP message, or more than one can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("no SIP message")]
    NotSip,
    #[error("a message of more than {MAX_MESSAGE} bytes")]
    TooLarge,
}

impl Wire {
    /// Reads the message of a datagram.
    pub fn datagram(bytes: &[u8]) -> Result<Self, WireError> {
        let start = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let bytes = &bytes[start..];
        let end = head_end(bytes).unwrap_or(bytes.len());
        Self::head(&bytes[..end], &bytes[end..])
    }

    /// Takes the first whole message out of what a stream has brought.
    pub fn take(buffer: &mut Vec<u8>) -> Result<Option<Self>, WireError> {
        let blank = buffer.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        buffer.drain(..blank);
        let Some(end) = head_end(buffer) else {
            return if buffer.len() > MAX_MESSAGE { Err(WireError::TooLarge) } else { Ok(None) };
        };
        let mut wire = Self::head(&buffer[..end], b"")?;
        let length = wire.text("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if length > MAX_MESSAGE {
            return Err(WireError::TooLarge);
        }
        if buffer.len() < end + length {
            return Ok(None);
        }
        wire.body = buffer[end..end + length].to_vec();
        buffer.drain(..end + length);
        Ok(Some(wire))
    }

    fn head(head: &[u8], body: &[u8]) -> Result<Self, WireError> {
        let mut lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let start = lines.next().unwrap_or_default().to_vec();
        if !contains(&start, b"SIP/2.0") {
            return Err(WireError::NotSip);
        }
        let mut wire = Self { start, fields: Vec::new(), body: body.to_vec() };
        for line in lines.filter(|line| !line.is_empty()) {
            if let ([b' ' | b'\t', ..], Some((_, value))) = (line, wire.fields.last_mut()) {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            } else if let Some(colon) = line.iter().position(|b| *b == b':') {
                let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
                wire.fields.push((name.to_vec(), value.to_vec()));
            }
        }
        Ok(wire)
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.start.clone();
        for (name, value) in &self.fields {
            for part in [&b"\r\n"[..], name, b": ", value] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Method and Request-URI; `None` for a response.
    pub fn request(&self) -> Option<(String, String)> {
        let start = String::from_utf8_lossy(&self.start);
        let mut words = start.split_ascii_whitespace();
        let (method, uri) = (words.next()?, words.next()?);
        (!method.to_ascii_uppercase().starts_with("SIP/")).then(|| (method.to_owned(), uri.to_owned()))
    }

    /// Code and phrase; `None` for a request.
    pub fn response(&self) -> Option<(u16, String)> {
        let start = String::from_utf8_lossy(&self.start);
        let (version, rest) = start.split_once(' ')?;
        let (code, phrase) = rest.split_once(' ').unwrap_or((rest, ""));
        let code = code.parse().ok()?;
        version.eq_ignore_ascii_case("SIP/2.0").then(|| (code, phrase.to_owned()))
    }

    /// The values of all fields of that name.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let name = name.as_bytes().to_owned();
        self.fields.iter().filter(move |(n, _)| is_field(n, &name)).map(|(_, value)| value.as_slice())
    }

    /// The first value of that name, as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.all(name).next().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// All values of that name with commas between them.
    pub fn joined(&self, name: &str) -> Vec<u8> {
        self.all(name).collect::<Vec<_>>().join(&b", "[..])
    }

    /// Number and method of CSeq.
    pub fn cseq(&self) -> Option<(u32, String)> {
        let text = self.text("CSeq")?;
        let mut words = text.split_ascii_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
    }

    /// The branch of the first Via.
    pub fn branch(&self) -> Option<String> {
        param(&self.text("Via")?, "branch")
    }

    /// The Contact values, one by one.
    pub fn contacts(&self) -> Vec<String> {
        let all = String::from_utf8_lossy(&self.joined("Contact")).into_owned();
        list(&all).map(str::to_owned).collect()
    }
}

/// Returns whether a field name is that one, in its long or compact form.
pub(super) fn is_field(name: &[u8], wanted: &[u8]) -> bool {
    let compact = COMPACT.iter().find(|(_, long)| wanted.eq_ignore_ascii_case(long));
    name.eq_ignore_ascii_case(wanted) || compact.is_some_and(|(short, _)| name.eq_ignore_ascii_case(short))
}

/// The position after the empty line.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let crlf = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
    let lf = bytes.windows(2).position(|w| w == b"\n\n").map(|at| at + 2);
    crlf.into_iter().chain(lf).min()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// The items of a comma-separated value; commas in quotes and in `<...>` separate nothing.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut angle) = (false, false);
    text.split(move |c| {
        match c {
            '"' => quoted = !quoted,
            '<' if !quoted => angle = true,
            '>' if !quoted => angle = false,
            _ => {}
        }
        c == ',' && !quoted && !angle
    })
    .map(str::trim)
    .filter(|item| !item.is_empty())
}

/// The URI of an address: what stands in `<...>`, else what comes before the first `;`.
pub(super) fn uri(address: &str) -> &str {
    match address.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest),
        None => address.split(';').next().unwrap_or(address),
    }
    .trim()
}

/// A parameter after the address, such as `expires` or `tag`.
pub(super) fn param(address: &str, name: &str) -> Option<String> {
    let params = address.rsplit_once('>').map_or(address, |(_, params)| params);
    params.split(';').skip(1).find_map(|piece| {
        let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// User and host of a URI, without port and parameters.
pub(super) fn user_and_host(uri: &str) -> (String, String) {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let host = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => format!("[{host}]"),
        None => rest.split([':', ';', '?']).next().unwrap_or(rest).to_owned(),
    };
    (user.to_owned(), host)
}

/// The port of a URI, where it names one.
pub(super) fn port(uri: &str) -> Option<u16> {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.rsplit_once(']').map_or(rest, |(_, rest)| rest);
    let rest = rest.split([';', '?']).next().unwrap_or(rest);
    rest.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let contact = r#""A, B" <sip:a;x=1@[::1]:5070;transport=udp>;expires=60;q=0.5"#;
        assert_eq!(list(&format!("{contact}, <sip:b@c>")).count(), 2);
        assert_eq!(uri(contact), "sip:a;x=1@[::1]:5070;transport=udp");
        assert_eq!(user_and_host(uri(contact)), ("a;x=1".to_owned(), "[::1]".to_owned()));
        assert_eq!((port(uri(contact)), port("sip:h"), port("sip:a@h:5;x=y:6")), (Some(5070), None, Some(5)));
        assert_eq!(param(contact, "Expires"), Some("60".to_owned()));
        assert_eq!(param(contact, "transport"), None);
    }

    #[test]
    fn a_stream_is_taken_apart() {
        let mut buffer =
            b"\r\n\r\nREGISTER sip:a SIP/2.0\r\nl: 2\r\nX:\r\n y\r\n\r\nabOPTIONS sip:b SIP/2.0\n\n".to_vec();
        let first = Wire::take(&mut buffer).unwrap().unwrap();
        assert_eq!(first.request().unwrap().0, "REGISTER");
        assert_eq!((first.body.as_slice(), first.text("X")), (&b"ab"[..], Some(" y".to_owned())));
        assert_eq!(Wire::take(&mut buffer).unwrap().unwrap().request().unwrap().0, "OPTIONS");
        assert_eq!(Wire::take(&mut buffer), Ok(None));
        assert_eq!(Wire::take(&mut b"GET / HTTP/1.1\r\n\r\n".to_vec()), Err(WireError::NotSip));
        assert_eq!(Wire::take(&mut vec![b'x'; MAX_MESSAGE + 1]), Err(WireError::TooLarge));
    }
}
