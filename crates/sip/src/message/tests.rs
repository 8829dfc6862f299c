use super::*;
use crate::uri::NameAddr;

fn parse(text: &str) -> Result<Message, ParseError> {
    Message::parse_datagram(text.as_bytes())
}

fn response(text: &str) -> Response {
    match parse(text) {
        Ok(Message::Response(response)) => response,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_response_is_taken_apart() {
    let response = response(
        "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a.example:5060;rport=7;branch=z9hG4bK1 ,SIP/2.0/TCP b\r\n\
         F: <sip:a@h>;tag=1\r\nt: <sip:a@h>\r\n ;tag=2\r\nI: x@y\r\nCSEQ:  4711\t REGISTER\r\n\
         m: <sip:a@10.0.0.1>;expires=300\r\nContact: <sip:b@h>\r\nExpires : 600\r\nl:3\r\n\r\nabc--",
    );
    let headers = &response.headers;
    assert_eq!((response.code, response.reason.as_str(), response.body.as_slice()), (200, "OK", &b"abc"[..]));
    assert_eq!(headers.cseq(), Some((4711, "REGISTER")));
    assert_eq!(headers.via_branch().as_deref(), Some("z9hG4bK1"));
    assert_eq!(headers.via().unwrap().param("rport"), Some(Some("7")));
    assert_eq!((headers.from_tag().as_deref(), headers.to_tag().as_deref()), (Some("1"), Some("2")));
    assert_eq!((headers.call_id(), headers.expires()), (Some("x@y"), Some(600)));
    assert_eq!(headers.get_all("contact").count(), 2);
    let contact = NameAddr::parse(headers.get("m").unwrap()).unwrap();
    assert_eq!(contact.param("expires"), Some(Some("300")));
    let names: Vec<_> = headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names[..5], ["Via", "From", "To", "Call-ID", "CSeq"]);
}

#[test]
fn nothing_breaks_out_of_its_line() {
    let mut headers = Headers::new();
    for bad in ["a\r\nX: y", "a\n", "\r", "a\0"] {
        assert_eq!(headers.push("X-Test", bad), Err(BuildError::Value("X-Test".into())));
        assert!(headers.push(bad, "x").is_err());
        assert!(headers.set("X-Test", bad).is_err());
    }
    assert!(
        headers.push("", "x").is_err()
            && headers.push("a b", "x").is_err()
            && headers.push("a:", "x").is_err()
    );
    assert!(headers.is_empty());
    let mut request = Request::new("REGISTER", SipUri::new("host\r\nX: y"));
    assert_eq!(request.to_bytes(), Err(BuildError::StartLine("Request-URI")));
    request.uri = SipUri { user: Some("a\r\nb".into()), ..SipUri::new("host") };
    assert!(request.to_bytes().unwrap().starts_with(b"REGISTER sip:a%0D%0Ab@host SIP/2.0\r\n"));
    request.method = "REG ISTER".into();
    assert_eq!(request.to_bytes(), Err(BuildError::StartLine("method")));
    let mut response = Response::to_request(&request, 200, "O\rK");
    assert_eq!(response.to_bytes(), Err(BuildError::StartLine("reason phrase")));
    (response.code, response.reason) = (99, String::new());
    assert_eq!(response.to_bytes(), Err(BuildError::StartLine("status code")));
}

#[test]
fn credentials_are_not_shown() {
    let mut request = Request::new("REGISTER", SipUri::new("host"));
    for name in ["authorization", "Proxy-Authorization", "X-GATEWAY-AUTH"] {
        request.headers.push(name, "s3cr3t").unwrap();
    }
    request.headers.push("User-Agent", "shown").unwrap();
    request.body = b"s3cr3t".to_vec();
    let debug = format!("{request:?} {request:#?}");
    assert!(!debug.contains("s3cr3t") && debug.contains("shown"), "{debug}");
}

#[test]
fn a_sip_phrase_of_all_of_unicode_is_one_start_line() {
    let characters: Vec<char> = ('\0'..=char::MAX).collect();
    for text in characters.chunks(4_096).map(String::from_iter) {
        let phrase = routr_types::text::one_line(&text);
        let wire = format!(
            "SIP/2.0 403 {phrase}\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=x\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n"
        );
        let mut parser = crate::parser::StreamParser::new();
        parser.push(wire.as_bytes());
        let message = parser.next().expect("a message").expect("a whole one");
        let Message::Response(Response { reason, .. }) = message else { panic!("no response") };
        assert_eq!(reason, phrase.trim());
    }
}
