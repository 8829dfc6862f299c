//! Messages that real registrars send: R5 of the field cases.

use super::*;
use crate::headers::MAX_HEADERS;

#[test]
fn r5_odd_start_lines_are_read() {
    for (line, code, reason) in [
        ("SIP/2.0 100 ", 100, ""),
        ("SIP/2.0 100", 100, ""),
        ("sip/2.0 100 ", 100, ""),
        ("\r\n\r\nSIP/2.0 100", 100, ""),
        ("SIP/2.0  200  OK ", 200, "OK"),
        ("SIP/2.0\t200\tAll fine", 200, "All fine"),
        (" Sip/2.0 200 OK", 200, "OK"),
        ("SIP/2.0 200OK", 200, "OK"),
    ] {
        let read = response(format!("{line}\r\nX: y\r\n\r\n"));
        assert_eq!(
            (read.code, read.reason.as_str(), read.headers.get("X")),
            (code, reason, Some("y")),
            "{line:?}"
        );
    }
    for line in ["REGISTER  sip:h  SIP/2.0", "REGISTER sip:h sip/2.0 ", "\tREGISTER\tsip:h\tSIP/2.0"] {
        assert_eq!(request(&format!("{line}\r\nl: 0\r\n\r\n")).uri, SipUri::new("h"), "{line:?}");
    }
}

/// Each is passed over, in a response and in a request, from a datagram and from a stream.
#[test]
fn r5_a_malformed_header_line_is_ignored() {
    let lines: [&[u8]; 13] = [
        b"X Bad Name: 1",
        b"no colon",
        b"no colon\r\n\tfolded: under it",
        b": no name",
        b" : no name",
        "Gr\u{fc}\u{df}e: x".as_bytes(),
        b"Gr\xfc\xdfe: x",
        b"a\"b\": c",
        b"<html>",
        b"\x00: NUL",
        b"a\rb: c",
        b" folded: at first",
        b"\xff\xfe",
    ];
    for line in lines {
        for start in ["SIP/2.0 200 OK", "REGISTER sip:h SIP/2.0"] {
            for first in [true, false] {
                let (before, after) = if first { ("", "XA: 1\r\n") } else { ("XA: 1\r\n", "") };
                // What is folded under a good field belongs to that.
                if !first && line.starts_with(b" ") {
                    continue;
                }
                let parts = [start.as_bytes(), b"\r\n", before.as_bytes(), line, b"\r\n", after.as_bytes()];
                let bytes = [&parts.concat()[..], b"XB: 2\r\nContent-Length: 0\r\n\r\n"].concat();
                let shown = String::from_utf8_lossy(&bytes).into_owned();
                let message = parse_datagram(&bytes).unwrap_or_else(|error| panic!("{shown}: {error}"));
                let names: Vec<_> =
                    message.headers().iter().map(|(name, value)| format!("{name}={value}")).collect();
                assert_eq!(names, ["XA=1", "XB=2", "Content-Length=0"], "{shown}");
                assert_eq!(stream(&bytes.repeat(2), 7), vec![Ok(message.clone()), Ok(message)], "{shown}");
            }
        }
    }
    let secret = response("SIP/2.0 200 OK\r\nX-Gateway-Auth s3cr3t\r\nAuthorization; s3cr3t: x\r\n\r\n");
    assert!(secret.headers.is_empty());
    let password = refused(b"REGISTER sip:alice:s3cr3t@[h SIP/2.0\r\n\r\n").to_string();
    assert!(!password.contains("s3cr3t"), "{password}");
}

#[test]
fn r5_what_is_not_utf8_is_kept_byte_by_byte() {
    let bytes =
        b"SIP/2.0 401 No\r\nWWW-Authenticate: Digest realm=\"T\xe9l\xe9com\",\r\n nonce=\"n\"\r\n\r\n";
    let read = response(bytes);
    let value = b"Digest realm=\"T\xe9l\xe9com\", nonce=\"n\"";
    assert_eq!(read.headers.get_all_bytes("WWW-Authenticate").collect::<Vec<_>>(), [value]);
    assert_eq!(response(read.to_bytes().unwrap()).headers, {
        let mut headers = read.headers.clone();
        headers.push("Content-Length", "0").unwrap();
        headers
    });
}

#[test]
fn r5_content_length_counts_only_where_it_can() {
    let with = |fields: &str| format!("SIP/2.0 200 OK\r\n{fields}\r\n\r\nbody");
    // In a datagram the frame is known.
    for (fields, body) in [
        ("l: 4", "body"),
        ("l: 0004", "body"),
        ("l: 2", "bo"),
        ("l: 0 ", ""),
        ("l: +0", ""),
        ("l: 0, 0", ""),
        ("l: 0 bytes", ""),
        ("l: 4 4", "body"),
        ("l: 4\r\nContent-Length: 4", "body"),
        ("X: y", "body"),
        ("Content-Length:", "body"),
        ("Content-Length: 5", "body"),
        ("Content-Length: -1", "body"),
        ("Content-Length: none", "body"),
        ("Content-Length: 65537", "body"),
        ("Content-Length: 18446744073709551620", "body"),
        ("l: 4\r\nl: 3", "body"),
        ("l: 4, 3", "body"),
    ] {
        assert_eq!(response(with(fields)).body, body.as_bytes(), "{fields}");
    }
    // In a stream a number is needed that all fields agree on.
    for (fields, body) in [
        ("l: 4", "body"),
        ("l: 4 ", "body"),
        ("l: +4", "body"),
        ("l: 4, 4", "body"),
        ("l: 4;x", "body"),
        ("l: 4\r\nContent-Length: 4", "body"),
        ("l: 04 (octets)", "body"),
    ] {
        let bytes = [with(fields), with(fields)].concat();
        for message in stream(bytes.as_bytes(), 11) {
            let Ok(Message::Response(response)) = message else { panic!("{fields}: {message:?}") };
            assert_eq!(response.body, body.as_bytes(), "{fields}");
        }
    }
    for bad in [
        "Content-Length: -1",
        "Content-Length: none",
        "Content-Length: 65537",
        "Content-Length: 18446744073709551615",
        "Content-Length: 18446744073709551620",
        "Content-Length: 99999999999999999999999999",
        "l: 4\r\nl: 3",
        "l: 4, 3",
    ] {
        let mut parser = StreamParser::new();
        parser.push(with(bad).as_bytes());
        // The response counts, and is the last one.
        let Ok(Some(Message::Response(response))) = parser.next() else { panic!("{bad}") };
        assert_eq!((response.code, response.body.len()), (200, 0), "{bad}");
        assert!(parser.next().is_err() && parser.is_broken(), "{bad}");
    }
}

#[test]
fn another_protocol_breaks_a_stream_at_once() {
    for banner in ["220 mail.example ESMTP\r\nhello\r\n\r\n", "HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"]
    {
        let mut parser = StreamParser::new();
        parser.push(banner.as_bytes());
        assert!(parser.next().is_err() && parser.is_broken(), "{banner}");
    }
}

/// Bytes before the start of a message cost no other message.
#[test]
fn r5_a_stream_finds_the_next_message() {
    let good = "SIP/2.0 200 OK\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n";
    for junk in [
        "a body without a length",
        "two lines\r\nof a body",
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n",
        "<html>\n</html>\n",
        "NONSENSE\r\nl: 2\r\n\r\nxx",
        "SIP/3.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "SIP/2.0 2x0 OK\r\nVia: SIP/2.0/UDP h\r\n\r\n",
        "Via: SIP/2.0/UDP h\r\n",
    ] {
        for piece in [1, 5, 10_000] {
            let read = stream(format!("{good}{junk}{good}").as_bytes(), piece);
            let messages: Vec<_> = read.iter().flatten().map(Message::headers).collect();
            assert_eq!(messages.len(), 2, "{junk:?}: {read:?}");
            assert!(messages.iter().all(|headers| headers.cseq() == Some((1, "REGISTER"))), "{junk:?}");
        }
    }
}

#[test]
fn r5_a_datagram_may_lack_the_empty_line_but_no_part_of_a_line() {
    assert_eq!(response("SIP/2.0 200 OK\r\nX: y\r\n").headers.get("X"), Some("y"));
    refused(b"SIP/2.0 200 OK\r\nContact: <sip:a@h>;expires=36");
    refused(b"SIP/2.0 200 OK");
}

#[test]
fn r5_what_counts_is_kept_of_more_fields_than_a_message_may_have() {
    let end =
        "Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\nCSeq: 1 REGISTER\r\nContact: <sip:a@h>;expires=60\r\nl: 0\r\n";
    let filled = |field: &str| response(format!("SIP/2.0 200 OK\r\n{}{end}\r\n", field.repeat(1000)));
    for field in [
        "Other: y\r\n",
        "Contact: <sip:b@h>\r\n",
        "Record-Route: <sip:b@h>\r\n",
        "Server: a\r\n",
        "x: 1\r\n",
        "Via:\r\n",
    ] {
        let headers = filled(field).headers;
        assert_eq!(headers.len(), MAX_HEADERS, "{field}");
        assert_eq!(headers.via_branch().as_deref(), Some("z9hG4bK1"), "{field}");
        assert_eq!(
            (headers.cseq(), headers.get("Content-Length")),
            (Some((1, "REGISTER")), Some("0")),
            "{field}"
        );
        assert!(headers.iter().all(|(_, value)| value.trim() == value), "{field}");
        assert_eq!(headers.list("Contact").last(), Some("<sip:a@h>;expires=60"), "{field}");
    }
    assert_eq!(filled("m: <sip:b@h>\r\n").headers.list("Contact").count(), 1001);
}

/// A Via of ours that a registrar or a proxy before it has rewritten still names our transaction.
#[test]
fn r5_the_branch_is_found_in_any_spelling() {
    for via in [
        "Via: SIP/2.0/UDP h;branch=z9hG4bK1",
        "v: SIP/2.0/UDP h:5060;branch=z9hG4bK1;rport=5060;received=192.0.2.1",
        "VIA : sip / 2.0 / udp h ; rport ; BRANCH = z9hG4bK1",
        "Via: SIP/2.0/UDP h;Branch=\"z9hG4bK1\";received=2001:db8::1",
        "Via: SIP/2.0/UDP 2001:db8::1;rport;branch=z9hG4bK1;rport=5060",
        "Via: SIP/2.0/UDP h;rport;rport;branch=z9hG4bK1, SIP/2.0/UDP h2;branch=z9hG4bK2",
        "Via: SIP/2.0/UDP h;received=\"192.0.2.1;branch=z9hG4bK1",
        "Via: SIP/2.0/UDP h;;=;x y=z;\u{e9}=1;branch=z9hG4bK1;",
        "Via: ,SIP/2.0/UDP\r\n h\r\n\t;branch=z9hG4bK1",
        "Via: SIP/2.0/UDP not a host;branch=z9hG4bK1",
        "Via:\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP h2;branch=z9hG4bK2",
    ] {
        let headers = response(format!("SIP/2.0 200 OK\r\n{via}\r\n\r\n")).headers;
        assert_eq!(headers.via_branch().as_deref(), Some("z9hG4bK1"), "{via}");
    }
    for (cseq, read) in [
        ("7 REGISTER", Some((7, "REGISTER"))),
        ("  0007 \t REGISTER ", Some((7, "REGISTER"))),
        ("7REGISTER", Some((7, "REGISTER"))),
        ("REGISTER", None),
        ("7", None),
        ("36893488147419103232 REGISTER", None),
    ] {
        let headers = response(format!("SIP/2.0 200 OK\r\nCSeq: {cseq}\r\n\r\n")).headers;
        assert_eq!(headers.cseq(), read, "{cseq}");
    }
}
