use super::*;

fn uri(text: &str) -> SipUri {
    SipUri::parse(text).unwrap()
}

#[test]
fn a_contact_is_recognised_after_the_registrar_rewrote_it() {
    let sent = uri("sip:alice@Edge.example.com:5060;transport=udp");
    for same_place in [
        "sip:alice@edge.example.com:5060;transport=udp",
        "sip:alice@edge.example.com;transport=UDP",
        "sip:alice@edge.example.com.:5060",
        "sip:%61lice@edge.example.com;ob",
    ] {
        assert!(same(&uri(same_place), &sent), "{same_place}");
    }
    for other in [
        "sip:bob@edge.example.com:5060;transport=udp",
        "sip:Alice@edge.example.com:5060;transport=udp",
        "sip:edge.example.com:5060;transport=udp",
        "sip:alice@edge.example.com:5061;transport=udp",
        "sip:alice@edge2.example.com:5060;transport=udp",
        "sip:alice@edge.example.com:5060;transport=tcp",
        "sip:alice@edge.example.com:5060;transport",
        "sips:alice@edge.example.com:5060;transport=udp",
    ] {
        assert!(!same(&uri(other), &sent), "{other}");
    }
    let tls = uri("sip:alice@edge.example.com:5061;transport=tls");
    assert!(same(&uri("sip:alice@edge.example.com;transport=tls"), &tls));
    assert!(same(&uri("sip:alice@edge.example.com"), &tls), "the port is the transport's");
    assert!(!same(&uri("sip:alice@edge.example.com:5060"), &tls));
}

#[test]
fn hosts_are_compared_as_values() {
    for (a, b, equal) in [
        ("2001:db8::1", "2001:DB8:0:0::1", true),
        ("::ffff:192.0.2.1", "192.0.2.1", true),
        ("::ffff:c000:201", "192.0.2.1", true),
        ("2001:db8::1", "2001:db8::2", false),
        ("192.0.2.1", "192.0.2.1.", false),
        ("a.example", "A.Example.", true),
        ("a.example", "a.example.net", false),
    ] {
        assert_eq!(same_host(a, b), equal, "{a} {b}");
        assert_eq!(same_host(b, a), equal, "{b} {a}");
    }
}

#[test]
fn r7_a_q_that_makes_none_counts_as_one() {
    for (q, value) in [
        ("0.5", Some(0.5)),
        ("1", Some(1.0)),
        ("\"0.25\"", Some(0.25)),
        (".5", Some(0.5)),
        ("0", Some(0.0)),
        ("1.5", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ] {
        let contact = NameAddr::parse(&format!("<sip:h>;q={q}")).unwrap();
        assert_eq!(q_value(&contact), value, "{q}");
        assert_eq!(preference(&contact), value.unwrap_or(1.0), "{q}");
    }
}
