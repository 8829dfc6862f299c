//! Torture in the manner of RFC 4475 (the samples are our own), streams cut anywhere, and a mutation fuzz.

use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::SmallRng};

mod odd;

use super::*;
use crate::{
    digest::{Authorization, Challenge},
    uri::NameAddr,
};

fn request(text: &str) -> Request {
    match parse_datagram(text.as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("{text}: {other:?}"),
    }
}

fn response(text: impl AsRef<[u8]>) -> Response {
    match parse_datagram(text.as_ref()) {
        Ok(Message::Response(response)) => response,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(text.as_ref())),
    }
}

fn refused(bytes: &[u8]) -> ParseError {
    parse_datagram(bytes).expect_err(&String::from_utf8_lossy(bytes))
}

/// Message as odd as the grammar allows: folded, compact, any case, white space everywhere.
const ODD: &str = "REGISTER sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n\
    TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n\
    from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n\
    MaX-fOrWaRdS: 0068\r\nCall-ID: wsinv.ndaksdj@192.0.2.1\r\nContent-Length   : 3\r\n\
    cseq: 0009\r\n  REGISTER\r\n\
    V  : SIP  /   2.0  /UDP\r\n    192.0.2.2;rport;branch=390skdjuw\r\ns :\r\n\
    NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n\
    UnknownHeaderWithUnusualValue: ;;,,;;,;\r\nRoute:\r\n <sip:services.example.com;lr>\r\n\
    v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n branch  =   z9hG4bK9ikj8  ,\r\n\
    \x20SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n\
    m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  secondparam ; q = 0.33\r\n\r\nv=0";

#[test]
fn an_odd_message_is_read() {
    let odd = request(ODD);
    let headers = &odd.headers;
    assert_eq!(odd.uri.param("unknownparam"), Some(None));
    assert_eq!(headers.to_tag().as_deref(), Some("1918181833n"));
    let from = NameAddr::parse(headers.get("From").unwrap()).unwrap();
    assert_eq!((from.display_name.as_deref(), from.tag()), (Some("J Rosenberg \\\""), Some("98asjd8")));
    assert_eq!(headers.cseq(), Some((9, "REGISTER")));
    assert_eq!(headers.get("Subject"), Some(""));
    assert_eq!(headers.get("newfangledheader"), Some("newfangled value continued newfangled value"));
    let hosts: Vec<_> = headers.list("Via").map(|via| crate::via::Via::parse(via).unwrap()).collect();
    let hosts: Vec<_> = hosts.iter().map(|via| (via.host.as_str(), via.branch().unwrap())).collect();
    let expected = [
        ("192.0.2.2", "390skdjuw"),
        ("spindle.example.com", "z9hG4bK9ikj8"),
        ("192.168.255.111", "z9hG4bK30239"),
    ];
    assert_eq!(hosts, expected);
    let contact = NameAddr::parse(headers.get("contact").unwrap()).unwrap();
    assert_eq!((contact.param("newparam"), contact.param("q")), (Some(Some("newvalue")), Some(Some("0.33"))));
    assert_eq!(odd.body, b"v=0");
}

#[test]
fn what_is_not_text_is_made_safe() {
    let bytes = b"SIP/2.0 200 = 2**3 * 5**2 \xd0\xbd\xd0\xbe \xff\r\nX: a\x00b\rc \xe9\nTo: \"NUL:\\\x00\" <sip:a@h>\n\n";
    let Ok(Message::Response(response)) = parse_datagram(bytes) else { panic!("a response") };
    assert_eq!(response.reason, "= 2**3 * 5**2 \u{43d}\u{43e} \u{fffd}");
    assert_eq!(response.headers.get("X"), Some("a\u{fffd}b c \u{fffd}"));
    assert!(Message::parse_datagram(&response.to_bytes().unwrap()).is_ok());
}

#[test]
fn malformed_start_lines_are_refused() {
    let lines = [
        "",
        "SIP/2.0",
        "SIP/2.0 ",
        "SIP/2.0 99 No",
        "SIP/2.0 700 No",
        "SIP/2.0 4294967301 better not break the receiver",
        "SIP/2.0 +20 No",
        "SIP/2.0 2x0 No",
        "SIP/7.0 200 OK",
        "REGISTER",
        "REGISTER sip:h",
        "REGISTER sip:h SIP/7.0",
        "REG@ISTER sip:h SIP/2.0",
        "REGISTER <sip:h> SIP/2.0",
        "REGISTER sip:h; lr SIP/2.0",
        "REGISTER tel:1 SIP/2.0",
        "REGISTER sip: SIP/2.0",
    ];
    for line in lines {
        refused(format!("{line}\r\nl: 0\r\n\r\n").as_bytes());
    }
}

#[test]
fn bounds_hold() {
    let long = format!("SIP/2.0 200 OK\r\nX: {}\r\n\r\n", "y".repeat(MAX_MESSAGE));
    refused(long.as_bytes());
    let params = format!("<sip:h>{}", ";a".repeat(65));
    assert_eq!(NameAddr::parse(&params).map(|address| address.params.len()), Ok(64));
    // A stream that never ends its header fields is cut off.
    let mut stream = StreamParser::new();
    for _ in 0..MAX_MESSAGE / 1024 {
        stream.push(&[b'x'; 1024]);
        assert_eq!(stream.next(), Ok(None));
    }
    stream.push(b"x");
    assert!(stream.next().is_err() && stream.is_broken());
    assert!(stream.buffer.is_empty());
}

#[test]
fn odd_numbers_read_as_none_or_as_the_greatest() {
    let text = "SIP/2.0 503 No\r\nCSeq: 36893488147419103232 REGISTER\r\nExpires: 10000000000000000000\r\n\
        Min-Expires: -5\r\nRetry-After: 120 (in a meeting) ;duration=3600\r\nVia: SIP/2.0/UDP\r\n\r\n";
    let Ok(Message::Response(response)) = parse_datagram(text.as_bytes()) else { panic!("a response") };
    let headers = &response.headers;
    assert_eq!((headers.cseq(), headers.via(), headers.min_expires()), (None, None, None));
    for (value, seconds) in
        [("3600.5", Some(3600)), ("60s", Some(60)), (" 5 ", Some(5)), ("", None), ("x5", None)]
    {
        assert_eq!(crate::grammar::seconds(value), seconds, "{value}");
    }
    assert_eq!((headers.expires(), headers.retry_after()), (Some(u32::MAX), Some(120)));
    let mut headers = Headers::new();
    for (value, seconds) in
        [("18000;duration=3600", Some(18_000)), ("5(x)", Some(5)), ("soon", None), ("", None)]
    {
        headers.set("Retry-After", value).unwrap();
        assert_eq!(headers.retry_after(), seconds, "{value}");
    }
}

/// All messages of a stream that is pushed in pieces.
fn stream(bytes: &[u8], piece: usize) -> Vec<Result<Message, ParseError>> {
    let mut parser = StreamParser::new();
    let mut messages = Vec::new();
    for bytes in bytes.chunks(piece.max(1)) {
        parser.push(bytes);
        loop {
            match parser.next() {
                Ok(None) => break,
                Ok(Some(message)) => messages.push(Ok(message)),
                Err(error) => {
                    messages.push(Err(error));
                    if parser.is_broken() {
                        return messages;
                    }
                }
            }
        }
    }
    messages
}

#[test]
fn a_stream_reads_the_same_however_it_is_cut() {
    let bytes = format!(
        "\r\n\r\n{ODD}\r\nSIP/2.0 200 OK\r\nl: 5\r\n\r\n12345NONSENSE\r\nl: 2\r\n\r\nxxSIP/2.0 401 No\n\n\r\nSIP/2.0 100 T\r\n\r\n"
    );
    let whole = stream(bytes.as_bytes(), bytes.len());
    let codes: Vec<_> = whole
        .iter()
        .map(|message| match message {
            Ok(Message::Response(response)) => response.code,
            Ok(Message::Request(_)) => 0,
            Err(_) => 1,
        })
        .collect();
    assert_eq!(codes, [0, 200, 1, 401, 100]);
    for piece in 1..100 {
        assert_eq!(stream(bytes.as_bytes(), piece), whole, "in pieces of {piece}");
    }
}

#[test]
fn a_stream_whose_frame_is_lost_stays_broken() {
    let mut parser = StreamParser::new();
    parser.push(b"NONSENSE\r\nl: -1\r\n\r\n");
    let error = parser.next().unwrap_err();
    parser.push(b"SIP/2.0 200 OK\r\n\r\n");
    assert_eq!(parser.next(), Err(error));
    assert!(parser.is_broken());
}

prop_compose! {
    fn messages()(
        code in proptest::option::of(100u16..700),
        reason in "[^\r\n\0\\s]{0,10}",
        method in "[A-Z]{1,10}",
        host in "[a-z]{1,10}",
        fields in proptest::collection::vec(("X-[A-Za-z0-9]{1,8}", "[^\r\n\0]{0,20}"), 0..12),
        body in proptest::collection::vec(any::<u8>(), 0..100),
    ) -> Message {
        let mut headers = Headers::new();
        for (name, value) in fields {
            headers.push(&name, value.trim()).unwrap();
        }
        headers.push("Content-Length", body.len().to_string()).unwrap();
        match code {
            Some(code) => Message::Response(Response { code, reason, headers, body }),
            None => Message::Request(Request { method, uri: SipUri::new(&host), headers, body }),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(message in messages(), piece in 1usize..200) {
        let bytes = message.to_bytes().unwrap();
        prop_assert_eq!(parse_datagram(&bytes), Ok(message.clone()));
        prop_assert_eq!(stream(&[bytes.clone(), bytes].concat(), piece), vec![Ok(message.clone()), Ok(message)]);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1usize..50) {
        let _ = parse_datagram(&bytes);
        let _ = stream(&bytes, piece);
    }
}

const SEEDS: [&str; 4] = [
    ODD,
    "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK1;rport=5060;received=::1\r\n\
     From: <sip:a@h>;tag=1\r\nTo: \"A\" <sips:a%20b@[::1]:5061;transport=tls;lr>;tag=2\r\nCall-ID: c@h\r\nCSeq: 1 REGISTER\r\n\
     WWW-Authenticate: Digest realm=\"a,\\\"b\", nonce=\"n\", qop=\"auth,auth-int\", algorithm=SHA-256, stale=true\r\n\
     Proxy-Authenticate: Digest realm=\"r\", nonce=\"n\", opaque=\"\"\r\nContent-Length: 0\r\n\r\n",
    "SIP/2.0 200 OK\r\nv: SIP/2.0/TCP h;branch=z9hG4bK1\r\nf: <sip:a@h>;tag=1\r\nt: <sip:a@h>\r\ni: c\r\nCSeq: 1 REGISTER\r\n\
     Contact: <sip:a@10.0.0.1:5060>;expires=300;q=0.5, \"B, C\" <sip:b@h>;expires=\"60\"\r\nExpires: 600\r\n\
     Min-Expires: 60\r\nRetry-After: 5 (x);duration=9\r\nl: 4\r\n\r\nbody",
    "REGISTER sip:h;transport=tcp SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nAuthorization: Digest username=\"u\", realm=\"r\", nonce=\"n\", \
     uri=\"sip:h\", response=\"00112233445566778899aabbccddeeff\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c\"\r\n\
     Contact: *\r\nContent-Length: 0\r\n\r\n",
];

/// Pieces that break parsers.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\"",
    b"\\",
    b"<",
    b">",
    b";",
    b",",
    b":",
    b"@",
    b"%",
    b"=",
    b" ",
    b"\t ",
    b"\xff",
    b"\xc3",
    b"[",
    b"]",
    b"-1",
    b"18446744073709551616",
    b"\r\nl: 3\r\n",
    b"sip:",
];

fn mutate(seed: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..=6) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..12)).min(bytes.len());
        match random.random_range(0..5) {
            0 => drop(bytes.splice(at..at, PIECES[random.random_range(0..PIECES.len())].iter().copied())),
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..end, PIECES[random.random_range(0..PIECES.len())].iter().copied())),
            3 => bytes.truncate(at),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.random()),
        }
    }
    bytes
}

/// Reads everything that can be read of a message: what is written again must be read again, the same.
fn exercise(message: &Message) {
    let headers = message.headers();
    let _ = (headers.cseq(), headers.via(), headers.expires(), headers.min_expires(), headers.retry_after());
    let _ = (headers.from_tag(), headers.to_tag(), headers.call_id(), headers.via_branch());
    for value in headers.get_all("Contact") {
        for address in NameAddr::parse_list(value).into_iter().flatten() {
            assert_eq!(NameAddr::parse(&address.to_string()).as_ref(), Ok(&address), "{value:?}");
        }
    }
    for name in ["WWW-Authenticate", "Proxy-Authenticate"] {
        for challenge in headers.get_all(name).filter_map(|value| Challenge::parse(value, false).ok()) {
            assert_eq!(Challenge::parse(&challenge.to_header().1, false), Ok(challenge));
        }
    }
    for value in headers.get_all("Authorization") {
        let _ = Authorization::parse(value);
    }
    // Only Content-Length can make it differ, or too long: no field holds what would break out of its line.
    if let Ok(bytes) = message.to_bytes() {
        let again = parse_datagram(&bytes).unwrap_or_else(|error| panic!("{error}: {message:?}"));
        let fields = |message: &Message| {
            let fields = message.headers().iter().filter(|(name, _)| *name != "Content-Length");
            fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(fields(&again), fields(message));
    }
}

#[test]
fn mutated_messages_never_panic() {
    let mut random = SmallRng::seed_from_u64(3261);
    let mut read = 0;
    let rounds = 200_000;
    for round in 0..rounds {
        let bytes = mutate(SEEDS[round % SEEDS.len()].as_bytes(), &mut random);
        if let Ok(message) = parse_datagram(&bytes) {
            read += 1;
            // Reading all of it costs several times what parsing does.
            if round % 32 < 4 {
                exercise(&message);
            }
        }
        if round % 100 == 0 {
            for message in stream(&[bytes.as_slice(), SEEDS[1].as_bytes()].concat(), 97).into_iter().flatten()
            {
                exercise(&message);
            }
        }
    }
    // The mutations are neither too mild nor too wild to say something.
    assert!((rounds / 10..rounds * 9 / 10).contains(&read), "{read}");
}
