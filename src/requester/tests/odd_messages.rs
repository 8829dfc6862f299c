//! Responses as real registrars write them: R5 and R6 of the field cases.

use super::{
    super::Mode,
    peer::{Peer, Raw},
    setup::*,
};
use crate::proto::{common::Transport, sipmessage::ResponseType};

/// A 200 with our Contact and these bytes as one of its lines.
fn ok_with(raw: &Raw, line: &[u8]) -> Vec<u8> {
    let ok = raw.ok();
    let (start, rest) = ok.split_once("\r\n").unwrap();
    [start.as_bytes(), b"\r\n", line, b"\r\n", rest.as_bytes()].concat()
}

const BAD_LINES: [&[u8]; 8] = [
    b"X Bad Name: 1",
    b"a line without a colon",
    b": an empty name",
    "Gr\u{fc}\u{df}e: UTF-8".as_bytes(),
    b"Gr\xfc\xdfe: Latin-1",
    b" folded: at first",
    b"<p>what a portal says</p>",
    b"Date: \xff\xfe",
];

#[tokio::test]
async fn r5_a_malformed_header_line_is_ignored() {
    for line in BAD_LINES {
        let udp = Peer::udp(move |raw, _| vec![ok_with(raw, line)]).await;
        let tcp = Peer::tcp(move |raw, _| vec![ok_with(raw, line)]).await;
        let service = start(Mode::Direct).await;
        for (peer, transport) in [(&udp, Transport::Udp), (&tcp, Transport::Tcp), (&tcp, Transport::Tcp)] {
            let mut request = register(&peer.address.to_string());
            request.transport = transport.into();
            let reply = service.send(request).await;
            assert_eq!(response_type(&reply), ResponseType::Ok, "{:?}", String::from_utf8_lossy(line));
            assert_eq!(extensions(&reply, "X-Routr-Bindings"), ["300;own"]);
        }
        assert_eq!((udp.received(), tcp.received(), tcp.connections()), (1, 2, 1));
    }
}

/// A response that makes none is passed over; the others on its connection are not.
#[tokio::test]
async fn r5_one_bad_message_harms_no_other_on_its_connection() {
    let junk = [
        "SIP/2.0 2x0 Odd\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\nContent-Length: 0\r\n\r\n",
        "SIP/3.0 200 OK\r\nCSeq: 1 REGISTER\r\n\r\n",
        "SIP/2.0 200 OK\r\nContent-Type: text/plain\r\n\r\na body without a length",
        "SIP/2.0 200 OK\r\n\r\n<html>\r\n\r\n</html>\r\n",
        "\r\n\r\n\r\n",
    ];
    for junk in junk {
        let peer = Peer::tcp(move |raw, _| vec![junk.to_owned() + &raw.ok()]).await;
        let service = start(Mode::Direct).await;
        for _ in 0..2 {
            let mut request = register(&peer.address.to_string());
            request.transport = Transport::Tcp.into();
            assert_eq!(response_type(&service.send(request).await), ResponseType::Ok, "{junk:?}");
        }
        assert_eq!((peer.received(), peer.connections()), (2, 1), "{junk:?}");
    }
}

/// Fields that are not needed, and those that are in odd spellings, lose no response.
#[tokio::test]
async fn r5_odd_and_missing_fields_lose_no_response() {
    type Change = fn(String) -> String;
    let changes: [(&str, Change); 25] = [
        ("no phrase", |ok| ok.replacen("SIP/2.0 200 OK", "SIP/2.0 200", 1)),
        ("tabs", |ok| ok.replacen("SIP/2.0 200 OK", "SIP/2.0\t200\tOK", 1)),
        ("double spaces", |ok| ok.replacen("SIP/2.0 200 OK", "SIP/2.0  200  OK", 1)),
        ("lower case", |ok| ok.replacen("SIP/2.0 200 OK", "sip/2.0 200 ok", 1)),
        ("bare LF", |ok| ok.replace("\r\n", "\n")),
        ("no From", |ok| without(&ok, "From")),
        ("no To", |ok| without(&ok, "To")),
        ("no Call-ID", |ok| without(&ok, "Call-ID")),
        ("no CSeq", |ok| without(&ok, "CSeq")),
        ("a CSeq that makes none", |ok| without(&ok, "CSeq").replacen("Via", "CSeq: REGISTER\r\nVia", 1)),
        ("a CSeq in lower case", |ok| ok.replace("7 REGISTER", "7 register")),
        ("no Content-Length", |ok| without(&ok, "Content-Length")),
        ("no empty line", |ok| ok.trim_end().to_owned() + "\r\n"),
        ("bad From", |ok| without(&ok, "From").replacen("Via", "From: <<sip:\"@>\r\nVia", 1)),
        ("bad To", |ok| without(&ok, "To").replacen("Via", "To: nobody at all\r\nVia", 1)),
        ("bad Date", |ok| ok.replacen("Via", "Date: yesterday\r\nVia", 1)),
        ("empty Contact", |ok| ok.replacen("Via", "Contact:\r\nm: ,\r\nVia", 1)),
        ("compact names", |ok| {
            let names = [("Via", "v"), ("From", "f"), ("To", "t"), ("Call-ID", "i"), ("Contact", "m")];
            let ok = names
                .iter()
                .fold(ok, |ok, (long, short)| ok.replace(&format!("\n{long}: "), &format!("\n{short}: ")));
            ok.replace("Content-Length", "L")
        }),
        ("too long", |ok| ok.replace("Content-Length: 0", "Content-Length: 500")),
        ("negative", |ok| ok.replace("Content-Length: 0", "Content-Length: -1")),
        ("two that differ", |ok| ok.replace("Content-Length: 0", "Content-Length: 0\r\nl: 7")),
        ("odd CSeq", |ok| ok.replace("CSeq: 7 REGISTER", "cseq :  0007\t REGISTER ")),
        ("300 fields", |ok| ok.replacen("Via", &("X-Many: y\r\n".repeat(300) + "Via"), 1)),
        ("a body", |ok| {
            let ok = ok.replace("Content-Length: 0", "Content-Type: text/plain\r\nContent-Length: 4");
            ok + "body"
        }),
        ("all of its Via spelled another way", |ok| {
            ok.replace(";branch=", " ; BRANCH = ")
                .replace(";rport", " ; rport;rport=\"5060\";received=2001:db8::1")
        }),
    ];
    for (what, change) in changes {
        let peer = Peer::udp(move |raw, _| vec![change(raw.ok())]).await;
        let reply = start(Mode::Direct).await.send(register(&peer.address.to_string())).await;
        assert_eq!(response_type(&reply), ResponseType::Ok, "{what}: {reply:?}");
        assert_eq!(extensions(&reply, "X-Routr-Bindings"), ["300;own"], "{what}");
        assert_eq!(peer.received(), 1, "{what}");
    }
}

fn without(response: &str, name: &str) -> String {
    let lines = response.split("\r\n").filter(|line| !line.starts_with(&format!("{name}: ")));
    lines.collect::<Vec<_>>().join("\r\n")
}

/// As a list with the Via of others below, quoted, folded, in another case.
#[tokio::test]
async fn r5_our_branch_is_found_in_any_via() {
    type Change = fn(&str) -> String;
    let changes: [Change; 6] = [
        |via| format!("{via}, SIP/2.0/UDP other.test;branch=z9hG4bKother"),
        |via| via.replace("SIP/2.0/UDP", "sip / 2.0 / udp"),
        |via| via.replace(";branch=", ";Branch=\"").replace(";rport", "\";rport"),
        |via| via.replace(';', "\r\n ;\t"),
        |via| via.replace(";rport", ";rport=5060;rport;received=::1;x y;=;"),
        |via| format!("{via}\r\nVia: SIP/2.0/UDP other.test;branch=z9hG4bKother"),
    ];
    for change in changes {
        let peer = Peer::udp(move |raw, _| {
            let via = raw.header("Via");
            vec![raw.ok().replacen(via, &change(via), 1)]
        })
        .await;
        let reply = start(Mode::Direct).await.send(register(&peer.address.to_string())).await;
        assert_eq!(response_type(&reply), ResponseType::Ok, "{:?}", peer.requests()[0]);
        assert_eq!(peer.received(), 1);
    }
}

#[tokio::test]
async fn r6_the_code_and_phrase_as_the_registrar_sent_them() {
    let long = "very ".repeat(100);
    let cases: [(&[u8], &str); 9] = [
        (b"439 First Hop Lacks Outbound Support", "439 First Hop Lacks Outbound Support"),
        (b"494 Security Agreement Required", "494 Security Agreement Required"),
        (b"200 OK", "200 OK"),
        (b"403 Interdit \xe0 l'\xe9tranger", "403 Interdit \u{fffd} l'\u{fffd}tranger"),
        ("480 Nicht verf\u{fc}gbar".as_bytes(), "480 Nicht verf\u{fc}gbar"),
        (b"503", "503"),
        (b"503 ", "503"),
        (b"580 a\x01b\x1b[31m\tc\x00", "580 a\\u{1}b\\u{1b}[31m c\u{fffd}"),
        (b"699 x\xe2\x80\xa8y", "699 x y"),
    ];
    for (status, expected) in cases {
        let peer = Peer::udp(move |raw, _| {
            let reply = raw.reply("STATUS", &[]).into_bytes();
            vec![[b"SIP/2.0 ", status, &reply["SIP/2.0 STATUS".len()..]].concat()]
        })
        .await;
        let mut request = register(&peer.address.to_string());
        drop_extension(&mut request, "X-Gateway-Auth");
        let reply = start(Mode::Direct).await.send(request).await;
        assert_eq!(extensions(&reply, "X-Routr-Status"), [expected]);
    }
    let peer = Peer::udp(move |raw, _| vec![raw.reply(&format!("500 {long}"), &[])]).await;
    let reply = start(Mode::Direct).await.send(register(&peer.address.to_string())).await;
    let status = extensions(&reply, "X-Routr-Status")[0];
    assert!(status.starts_with("500 very very") && status.len() < 300, "{status}");
}

/// A registrar speaks for itself only.
#[tokio::test]
async fn r6_a_registrar_cannot_say_what_the_requester_says() {
    let peer = Peer::udp(|raw, _| {
        let lines = [
            "X-Routr-Status: 200 OK",
            "x-routr-bindings: 5;own",
            "X-Routr-Target: evil.test",
            "X-ROUTR-AUTHENTICATION: sent",
            "X-Routr-Local: timeout",
        ];
        vec![raw.reply("500 Oops", &lines)]
    })
    .await;
    let reply = start(Mode::Direct).await.send(register(&peer.address.to_string())).await;
    let ours: Vec<_> =
        reply.extensions.iter().filter(|e| e.name.to_ascii_lowercase().starts_with("x-routr")).collect();
    assert_eq!(ours.len(), 1);
    assert_eq!((ours[0].name.as_str(), ours[0].value.as_str()), ("X-Routr-Status", "500 Oops"));
}

#[tokio::test]
async fn lists_are_handed_over_item_by_item() {
    let peer = Peer::udp(|raw, _| {
        let lines = [
            "Unsupported: gin, path",
            "Unsupported: outbound",
            "Warning: 399 h \"one, two\", 370 h \"three\"",
            "Allow: INVITE,ACK",
            "Supported:",
        ];
        vec![raw.reply("420 Bad Extension", &lines)]
    })
    .await;
    let reply = start(Mode::Direct).await.send(register(&peer.address.to_string())).await;
    assert_eq!(extensions(&reply, "Unsupported"), ["gin", "path", "outbound"]);
    assert_eq!(extensions(&reply, "Warning"), ["399 h \"one, two\"", "370 h \"three\""]);
    assert_eq!(extensions(&reply, "Allow"), ["INVITE", "ACK"]);
    assert_eq!(extensions(&reply, "Supported"), [""]);
}
