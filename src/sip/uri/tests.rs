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
        ["sip:alice:s3cr3t@exa mple.com", "alice s3cr3t@host", "sip:a%zz:s3cr3t@host", "sip:a:s3cr3t@[::x]"]
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
        "sip:@host",
        "sip:host:0",
        "sip:host:65536",
        "sip:host:",
        "sip:host:-1",
        "sip:a@b@c",
        "sip:[::1",
        "sip:[::1]x",
        "sip:[1.2.3.4]",
        "sip:ho st",
        "sip:a%4@host",
        "sip:a%ff@host",
        "sip:a b@host",
        "sip:host;=x",
        "sip:host;a=%",
        "sip:h\r\n",
        "sip:a\"b@h",
    ];
    for text in bad.into_iter().filter(|text| text.trim() == *text) {
        assert!(SipUri::parse(text).is_err(), "{text:?}");
    }
    assert_eq!(SipUri::parse("tel:+4930"), Err(ParseError::Scheme("tel".into())));
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
    for bad in
        ["<sip:a@h", "\"x <sip:a@h>", "\"x\" sip:a@h", "<sip:a@h> x", "<sip:a@h>;a=\"", "a\"b <sip:a@h>"]
    {
        assert!(NameAddr::parse_list(bad).is_err(), "{bad}");
    }
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
