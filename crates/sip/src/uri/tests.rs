use proptest::prelude::*;

use super::*;

fn uri(text: &str) -> SipUri {
    SipUri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_uri_is_taken_apart() {
    let parsed = uri("SIPS:al%3Aice;day=tue@Example.com:5071;transport=tcp;lr?subject=x%20y");
    assert!(parsed.secure);
    assert_eq!(parsed.user.as_deref(), Some("al:ice;day=tue"));
    assert_eq!((parsed.host.as_str(), parsed.port), ("Example.com", Some(5071)));
    assert_eq!(parsed.param("TRANSPORT"), Some(Some("tcp")));
    assert_eq!(parsed.param("lr"), Some(None));
    assert_eq!(parsed.param("maddr"), None);
    assert_eq!(parsed.to_string(), "sips:al%3Aice;day=tue@Example.com:5071;transport=tcp;lr");
}

#[test]
fn ipv6_stands_in_brackets() {
    let parsed = uri("sip:[2001:db8::9:1]:5060");
    assert_eq!((parsed.host.as_str(), parsed.port), ("2001:db8::9:1", Some(5060)));
    assert_eq!(parsed.to_string(), "sip:[2001:db8::9:1]:5060");
    assert_eq!(uri("sip:u@[::1]").to_string(), "sip:u@[::1]");
}

#[test]
fn a_password_is_dropped_and_not_shown() {
    assert_eq!(uri("sip:alice:s3cr3t@example.com").to_string(), "sip:alice@example.com");
    for text in
        ["sip:alice:s3cr3t@exa mple.com", "alice s3cr3t@host", "sip:\"a:s3cr3t@host", "sip:a:s3cr3t@[::x]"]
    {
        let error = SipUri::parse(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
    }
}

#[test]
fn malformed_uris_are_refused() {
    let bad = [
        "",
        "sip",
        "sip:",
        "sip:host:65536",
        "sip:host:-1",
        "sip:[::1",
        "sip:[::1]x",
        "sip:[1.2.3.4]",
        "sip:ho st",
        "sip::password@host",
        "sip:h\r\n",
        "sip:a\"b@h",
    ];
    for text in bad.into_iter().filter(|text| text.trim() == *text) {
        assert!(SipUri::parse(text).is_err(), "{text:?}");
    }
    assert_eq!(SipUri::parse("tel:+4930"), Err(ParseError::Scheme("tel".into())));
}

/// Odd URIs that can be understood are read.
#[test]
fn odd_uris_are_read() {
    for (text, user, host, port, params) in [
        ("sip:@host", None, "host", None, 0),
        ("sip:host:0", None, "host", None, 0),
        ("sip:host:;lr", None, "host", None, 1),
        ("sip:a@b@c:5070", Some("a@b"), "c", Some(5070), 0),
        ("sip:a@b;x=c@d", Some("a"), "b", None, 1),
        ("sip:a@b?Replaces=c@d", Some("a"), "b", None, 0),
        ("sip:a;b=c?d/e@h", Some("a;b=c?d/e"), "h", None, 0),
        ("sip:a b@h", Some("a b"), "h", None, 0),
        ("sip:100%@h", Some("100%"), "h", None, 0),
        ("sip:a%4@h", Some("a%4"), "h", None, 0),
        ("sip:a%ff@h", Some("a%ff"), "h", None, 0),
        ("sip:a%40b%C3%A9@h", Some("a@b\u{e9}"), "h", None, 0),
        ("sip:2001:db8::1", None, "2001:db8::1", None, 0),
        ("sip:host;=x;a=%;;b", None, "host", None, 2),
    ] {
        let parsed = uri(text);
        assert_eq!(
            (parsed.user.as_deref(), parsed.host.as_str(), parsed.port, parsed.params.len()),
            (user, host, port, params),
            "{text}"
        );
        assert_eq!(uri(&parsed.to_string()), parsed);
    }
    assert_eq!(uri(&format!("sip:h{}", ";a".repeat(100))).params.len(), MAX_PARAMS);
}

#[test]
fn n11_a_user_is_escaped_once() {
    for (user, escaped) in [
        ("alice", "alice"),
        ("a@b", "a%40b"),
        ("a b", "a%20b"),
        ("a;b?c/d", "a;b?c/d"),
        ("100%", "100%25"),
        ("a:b", "a%3Ab"),
        ("\u{e9}\r\n", "%C3%A9%0D%0A"),
        ("-_.!~*'()&=+$,", "-_.!~*'()&=+$,"),
        ("<\"#[]>", "%3C%22%23%5B%5D%3E"),
    ] {
        assert_eq!(escape_user(user), escaped);
        assert_eq!(unescape(escaped).as_deref(), Some(user));
    }
    assert_eq!(unescape("%zz%4%").as_deref(), Some("%zz%4%"));
    assert_eq!(unescape("%E9"), None);
}

#[test]
fn an_address_is_taken_apart() {
    let address =
        NameAddr::parse(r#""A \"G\" <Bell>, Inc" <sip:bell@example.com;lr>;tag=a48s ;expires="60""#).unwrap();
    assert_eq!(address.display_name.as_deref(), Some(r#"A "G" <Bell>, Inc"#));
    assert_eq!(address.uri.param("lr"), Some(None));
    assert_eq!((address.tag(), address.param("Expires")), (Some("a48s"), Some(Some("60"))));
    assert_eq!(NameAddr::parse(&address.to_string()).unwrap(), address);
}

#[test]
fn without_brackets_parameters_belong_to_the_field() {
    let address = NameAddr::parse("sip:+12125551212@server.phone2net.com;tag=887s").unwrap();
    assert_eq!((address.tag(), address.uri.params.len()), (Some("887s"), 0));
    let named = NameAddr::parse("Anonymous Caller <sip:c8@host>;tag=h").unwrap();
    assert_eq!(named.display_name.as_deref(), Some("Anonymous Caller"));
}

#[test]
fn a_list_respects_quotes_and_brackets() {
    let list = "<sip:a,b@h>;q=0.7, \"x, y\" <sip:c@h>,, <tel:+4930>,sip:d@h;expires=3";
    let list = NameAddr::parse_list(list).unwrap();
    let users: Vec<_> = list.iter().filter_map(|a| a.uri.user.as_deref()).collect();
    assert_eq!(users, ["a,b", "c", "d"]);
    assert_eq!(list[2].param("expires"), Some(Some("3")));
    assert!(NameAddr::parse_list("*").is_err());
    for bad in ["<sip:a@h", "\"x <sip:a@h", "<>", "\"x\""] {
        assert!(NameAddr::parse_list(bad).is_err(), "{bad}");
    }
    for odd in
        ["\"x\" sip:a@h", "\"x <sip:a@h>", "x\" <sip:a@h>;q", "x<sip:a@h> y;=\";q", "x <sip:a@h>;=;é=1;b c=2"]
    {
        let read = NameAddr::parse(odd).unwrap_or_else(|error| panic!("{odd}: {error}"));
        assert_eq!(
            (read.display_name.as_deref(), read.uri.to_string().as_str()),
            (Some("x"), "sip:a@h"),
            "{odd}"
        );
        assert_eq!(read.params.len(), usize::from(odd.ends_with('q')), "{odd}");
    }
    // One odd item hides none of those after it.
    let odd = "\"x <sip:a@h>;expires=5, <sip:b@h>;expires=6,<sip:c@h;x, <sip:d@h>";
    let hosts: Vec<_> = grammar::list(odd).filter_map(|item| NameAddr::parse(item).ok()).collect();
    let users: Vec<_> = hosts.iter().filter_map(|address| address.uri.user.as_deref()).collect();
    assert_eq!(users, ["a", "b", "d"]);
    assert!(NameAddr::parse("<sip:a@h>, <sip:b@h>").is_err());
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9][a-z0-9.-]{0,20}",
        any::<std::net::Ipv4Addr>().prop_map(|a| a.to_string()),
        any::<Ipv6Addr>().prop_map(|a| a.to_string()),
    ]
}

prop_compose! {
    fn uris()(
        secure: bool,
        user in proptest::option::of(".{1,12}"),
        host in host(),
        port in proptest::option::of(1u16..),
        params in proptest::collection::vec((".{1,8}", proptest::option::of(".{0,8}")), 0..4),
    ) -> SipUri {
        SipUri { secure, user, host, port, params }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(uri in uris()) {
        prop_assert_eq!(SipUri::parse(&uri.to_string()), Ok(uri));
    }

    #[test]
    fn addresses_are_read_again(
        uri in uris(),
        name in proptest::option::of("[^\r\n\0]{1,20}"),
        params in proptest::collection::vec(("[a-z]{1,8}", proptest::option::of("[^\r\n\0]{0,12}")), 0..4),
    ) {
        let address = NameAddr { display_name: name, uri, params };
        let list = format!("{address}, {address}");
        prop_assert_eq!(NameAddr::parse(&address.to_string()), Ok(address.clone()));
        prop_assert_eq!(NameAddr::parse_list(&list), Ok(vec![address.clone(), address]));
    }

    #[test]
    fn no_text_panics(text in ".{0,80}") {
        let _ = SipUri::parse(&text);
        let _ = SipUri::parse(&format!("sip:{text}"));
        let _ = NameAddr::parse_list(&text);
    }
}
