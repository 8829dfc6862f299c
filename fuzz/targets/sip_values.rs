//! One text, read as everything that may stand in a header field.

use routr_sip::{
    digest::{Authorization, Challenge, Login, Signed, verify_signed},
    grammar,
    uri::{NameAddr, SipUri},
    via::Via,
};
use routr_types::secret::Secret;

use super::support::{assert_presentable, is_one_line, text};

pub fn run(data: &[u8]) {
    let text = text(data);
    // No header field holds any other.
    if !is_one_line(&text) {
        return;
    }
    if let Some(uri) = read(SipUri::parse(&text)) {
        assert!(uri.port != Some(0) && !uri.host.is_empty());
        assert_eq!(SipUri::parse(&uri.to_string()).as_ref(), Ok(&uri));
        assert_eq!(NameAddr::parse(&format!("<{uri}>")), Ok(NameAddr::new(uri.clone())));
        assert!(is_one_line(&uri.to_string()));
    }
    if let Some(address) = read(NameAddr::parse(&text)) {
        let written = address.to_string();
        assert!(is_one_line(&written));
        assert_eq!(NameAddr::parse(&written).as_ref(), Ok(&address), "{written}");
        assert_eq!(
            NameAddr::parse_list(&format!("{written}, {written}")),
            Ok(vec![address.clone(), address])
        );
    }
    if let Some(list) = read(NameAddr::parse_list(&text)) {
        let written: Vec<String> = list.iter().map(NameAddr::to_string).collect();
        assert_eq!(NameAddr::parse_list(&written.join(",")), Ok(list));
    }
    if let Some(via) = read(Via::parse(&text)) {
        let written = via.to_string();
        assert!(is_one_line(&written));
        assert_eq!(Via::parse(&written), Ok(via), "{written}");
    }
    for item in grammar::list(&text) {
        assert!(!item.is_empty() && item.trim() == item);
    }
    for proxy in [false, true] {
        match Challenge::parse(data, proxy) {
            Ok(challenge) => assert_answered(&challenge, &text),
            Err(error) => {
                assert_presentable(&error);
                assert!(!error.asked().is_empty() && is_one_line(&error.asked()));
            }
        }
    }
    if let Err(error) = Authorization::parse(&text) {
        assert_presentable(&error);
    }
}

/// The value, or `None` for an error, which is fit to be shown.
fn read<T>(parsed: Result<T, grammar::ParseError>) -> Option<T> {
    parsed.map_err(|error| assert_presentable(&error)).ok()
}

/// Asserts that credentials for a challenge are read as they were meant, and are right for the right password
/// alone.
fn assert_answered(challenge: &Challenge, uri: &str) {
    let (name, value) = challenge.to_header();
    assert_eq!(name == "Proxy-Authenticate", challenge.proxy);
    assert_eq!(Challenge::parse(&value, challenge.proxy).as_ref(), Ok(challenge), "{}", value.as_str());
    // Some user with quotes, some URI: what the challenge says itself.
    let (user, password) = ("a\"\\b", Secret::new(super::SECRET));
    let login = Login { username: user, password: &password };
    let signed = Signed { method: "REGISTER", uri, body: uri.as_bytes() };
    let answer = challenge.authorize(login, signed, "0123abcd", 1);
    let (name, value) = answer.header();
    assert_eq!(name == "Proxy-Authorization", challenge.proxy);
    assert!(is_one_line(value.as_str()));
    assert!(!value.as_str().contains(super::SECRET) || uri.contains(super::SECRET));
    let read = Authorization::parse(&value).expect("an answer is read");
    assert_eq!((&read.realm, &read.nonce), (&challenge.realm, &challenge.nonce));
    assert_eq!((read.username == user, read.userhash), (!challenge.userhash, challenge.userhash));
    assert_eq!((read.uri.as_str(), &read.opaque, read.qop), (uri, &challenge.opaque, challenge.qop));
    let verified = |password: &str, method| {
        verify_signed(&read, user, &Secret::new(password), Signed { method, ..signed })
    };
    assert!(verified(super::SECRET, "REGISTER"));
    assert!(!verified("swordfish-78", "REGISTER") && !verified(super::SECRET, "INVITE"));
}
