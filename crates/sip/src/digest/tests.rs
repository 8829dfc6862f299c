use super::*;
use crate::message::{Headers, Response};

const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
const RFC7616: &str = r#"Digest realm="http-auth@example.org", qop="QOP", algorithm=ALGORITHM,
    nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;

fn challenge(value: impl AsRef<[u8]>) -> Challenge {
    Challenge::parse(value.as_ref(), false)
        .unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(value.as_ref())))
}

/// The value of the header field, and the response in it.
fn parts(answer: &Answer) -> (String, String) {
    let value = answer.header().1.as_str().to_owned();
    let response = value.split("response=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    (value, response)
}

fn mufasa(challenge: &Challenge, body: &[u8]) -> Answer {
    let password = Secret::new("Circle of Life");
    let login = Login { username: "Mufasa", password: &password };
    challenge.authorize(login, Signed { method: "GET", uri: "/dir/index.html", body }, CNONCE, 1)
}

/// The first two are of RFC 7616 §3.9.1; the others are computed with Python's hashlib.
#[test]
fn d1_d2_vectors_of_every_algorithm_and_qop() {
    let body = "caf\u{e9}".as_bytes();
    let vectors = [
        ("MD5", "auth", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "auth", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ("MD5", "auth-int", "60198a9f03d17245ff8a7e1c40578592"),
        ("MD5", "", "7b2cc3b30e75b4777ea31027084363fd"),
        ("MD5-sess", "auth", "e783283f46242139c486a698fec7211d"),
        ("MD5-sess", "auth-int", "5d7bbed712914d4500b9e86aac8d1aea"),
        ("MD5-sess", "", "37a7f42db2090a3fcac4e26e747d4fc8"),
        ("SHA-256", "auth-int", "10af2f36f7b6643084de15cc7d687b64400252802701e277df12d591699fb357"),
        ("SHA-256", "", "a1306b0595a6c7fe96c448631fb5cfbd5107bd1fe1da729d978dd7446b812363"),
        ("SHA-256-sess", "auth", "2fd51b3a77ad75bad6afad6003e818d767133c46d9e2749e7f5232ae1ea3efd7"),
        ("SHA-256-sess", "auth-int", "a3f517ff3b18ef9c70715868844f2692d8efec59ec75b315783e964796a86586"),
        ("SHA-256-sess", "", "30bc0742357e535c85094121d22cf826b794be0667e19537beb7b28f2251c274"),
        ("SHA-512-256", "auth", "430d05014cecc49cab6fbe03176d41a1da86cbfe24a16580e22aaad928d960d0"),
        ("SHA-512-256", "auth-int", "76b8b05f81121b7a7a3a38a19aff656fe3e24e935084970a1928b710d4d2443b"),
        ("SHA-512-256", "", "93e9122020ea0624d2ca801426d5bfbeb93d10ff4cc24cb410af3920fa4730e7"),
        ("SHA-512-256-sess", "auth", "3f2a34f923c38b0fb26dce2fdfc2ce326c23cecf86fbb1444f3e51fbbc2cb92e"),
        ("SHA-512-256-sess", "auth-int", "4f1c56cd5327b38d309c9a1d256f7250fffae6fb7216423eb8ccb2bd0d5ac823"),
        ("SHA-512-256-sess", "", "7c70dbd9f483cbccedbd3e92ac246a9f2b712bed77914b52c3ae2254fdb2edba"),
    ];
    for (algorithm, qop, expected) in vectors {
        let body: &[u8] = if qop == "auth-int" { body } else { b"" };
        let text = RFC7616.replace("ALGORITHM", algorithm).replace("QOP", qop);
        let answer = mufasa(&challenge(&text), body);
        let (value, response) = parts(&answer);
        assert_eq!(response, expected, "{algorithm} {qop}");
        assert_eq!(answer.header().0, "Authorization");
        assert!(value.contains(r#"opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#), "{value}");
        assert!(value.contains(&format!("algorithm={algorithm}")), "{value}");
        assert_eq!(value.contains(&format!("qop={qop}, nc=00000001")), !qop.is_empty(), "{value}");
        assert_eq!(value.contains("cnonce="), !qop.is_empty() || algorithm.ends_with("sess"), "{value}");
        let credentials = Authorization::parse(&value).unwrap();
        let verified = |password: &str, method, body| {
            let signed = Signed { method, uri: "/dir/index.html", body };
            verify_signed(&credentials, "Mufasa", &Secret::new(password), signed)
        };
        assert!(verified("Circle of Life", "GET", body));
        assert!(!verified("Circle of Life", "POST", body));
        assert!(!verified("circle of life", "GET", body));
        assert_eq!(verified("Circle of Life", "GET", b"other"), qop != "auth-int");
    }
}

#[test]
fn vector_of_rfc_2617() {
    let value = r#"Digest realm="testrealm@host.com", qop="auth,auth-int",
        nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
    let challenge = Challenge::parse(value, true).unwrap();
    let login = Login { username: "Mufasa", password: &Secret::new("Circle Of Life") };
    let signed = Signed { method: "GET", uri: "/dir/index.html", body: b"ignored by auth" };
    let answer = challenge.authorize(login, signed, "0a4f113b", 1);
    let (value, response) = parts(&answer);
    assert_eq!(
        (answer.header().0, response.as_str()),
        ("Proxy-Authorization", "6629fae49393a05397450978507c4ef1")
    );
    assert!(value.contains("qop=auth, nc=00000001, cnonce=\"0a4f113b\""), "{value}");
}

/// RFC 7616 §3.9.2, corrected by erratum 4897.
#[test]
fn vector_of_rfc_7616_with_userhash() {
    let value = r#"Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256,
        nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS",
        charset=UTF-8, userhash=true"#;
    let login = Login { username: "J\u{e4}s\u{f8}n Doe", password: &Secret::new("Secret, or not?") };
    let signed = Signed { method: "GET", uri: "/doe.json", body: b"" };
    let cnonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v";
    let (value, response) = parts(&challenge(value).authorize(login, signed, cnonce, 1));
    assert_eq!(response, "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5");
    let hashed = "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b";
    assert!(value.contains(&format!("username=\"{hashed}\", userhash=true")), "{value}");
    let credentials = Authorization::parse(&value).unwrap();
    assert!(credentials.userhash && verify_signed(&credentials, login.username, login.password, signed));
}

#[test]
fn without_qop_as_in_rfc_2069() {
    let challenge = challenge(r#"Digest realm="biloxi.com",nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093""#);
    let login = Login { username: "bob", password: &Secret::new("zanzibar") };
    let signed = Signed { method: "REGISTER", uri: "sip:biloxi.com", body: b"" };
    let (value, response) = parts(&challenge.authorize(login, signed, "unused", 1));
    assert_eq!(response, "4441045a8075db3ead543693997e2a0e");
    assert!(!value.contains("qop") && !value.contains("cnonce"), "{value}");
    assert!(verify(&Authorization::parse(&value).unwrap(), login.password, "REGISTER"));
}

/// Computed with Python's hashlib: of what the realm says, and of the bytes between the quotes.
#[test]
fn d1_a_realm_is_sent_back_as_it_came_and_hashed_in_either_reading() {
    let value = b"Digest realm=\"T\xe9l\xe9com \\\"x\\\"\", nonce=\"n\", qop=auth";
    let login = Login { username: "alice", password: &Secret::new("pw") };
    let signed = Signed { method: "REGISTER", uri: "sip:h", body: b"" };
    let said = challenge(value);
    assert_eq!(said.realm.plain(), "T\u{fffd}l\u{fffd}com \"x\"");
    let written = said.as_written().unwrap();
    for (challenge, response) in
        [(said, "155331f16c436197d14afeeee866ac48"), (written, "af26de2081d6ce221745f060db0decb2")]
    {
        let (_, sent) = challenge.authorize(login, signed, "c", 1).header();
        let sent = sent.as_bytes();
        let has = |part: &[u8]| sent.windows(part.len()).any(|bytes| bytes == part);
        assert!(has(b"realm=\"T\xe9l\xe9com \\\"x\\\"\""));
        assert!(has(format!("response=\"{response}\"").as_bytes()), "{challenge:?}");
    }
    assert_eq!(challenge(b"Digest realm=\"T\xe9l\xe9com\", nonce=\"n\"").as_written(), None);
    // An escape that needs none stays, and one that cannot stand in quotes is escaped.
    for (came, written) in [(r#""a\b""#, r#""a\b""#), (r"a\", r#""a\\""#), (r#""open"#, r#""open""#)] {
        let mut bytes = Vec::new();
        challenge(format!("Digest nonce=n, realm={came}")).realm.write(&mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), written);
    }
}

#[test]
fn usernames_and_passwords_are_escaped_in_the_field_and_hashed_plain() {
    let login = Login { username: r#"a"b\c@d é"#, password: &Secret::new(r#"p"\w:é"#) };
    let signed = Signed { method: "REGISTER", uri: "sip:h", body: b"" };
    let challenge = challenge(r#"Digest realm="r", nonce="n", qop="auth""#);
    let (value, response) = parts(&challenge.authorize(login, signed, "c", 1));
    assert!(value.contains(r#"username="a\"b\\c@d é""#), "{value}");
    let md5 = |text: String| Algorithm::Md5.hash(&[text.as_bytes()]).to_string();
    let key = md5(r#"a"b\c@d é:r:p"\w:é"#.to_owned());
    let expected = md5(format!("{key}:n:00000001:c:auth:{}", md5("REGISTER:sip:h".to_owned())));
    assert_eq!(response, expected);
    assert!(verify(&Authorization::parse(&value).unwrap(), login.password, "REGISTER"));
}

fn response(code: u16, challenges: &[&str]) -> Response {
    let mut headers = Headers::new();
    let name = if code == 407 { "Proxy-Authenticate" } else { "WWW-Authenticate" };
    for challenge in challenges {
        headers.push(name, *challenge).unwrap();
    }
    Response { code, reason: String::new(), headers, body: Vec::new() }
}

#[test]
fn the_strongest_that_can_be_answered_is_picked() {
    let md5 = r#"Digest realm="a", nonce="1", algorithm=MD5, stale=TRUE"#;
    let sha = r#"digest realm="a", nonce="2", algorithm=sha-256, qop="auth""#;
    let session = r#"Digest realm="a", nonce="3", algorithm=SHA-256-sess, qop="auth-int""#;
    let longest = r#"Digest realm="a", nonce="4", algorithm="sha-512-256", qop=auth"#;
    let unknown = r#"Digest realm="a", nonce="5", algorithm=SHA3-256"#;
    let picked = |code, list: &[&str]| Challenge::from_response(&response(code, list));
    let nonce = |list: &[&str]| picked(401, list).unwrap().unwrap().nonce.plain();
    assert_eq!(nonce(&[md5, sha, session]), "2");
    assert_eq!(nonce(&[unknown, session, md5, sha]), "3");
    assert_eq!(nonce(&["NTLM", md5, "Basic realm=\"a\"", longest, sha]), "4");
    let in_one_line =
        [md5, "NTLM", "Bearer realm=\"x\", scope=\"y z\"", "Negotiate YII==", longest, sha].join(", ");
    assert_eq!(nonce(&[&in_one_line]), "4");
    let only = picked(407, &["Basic realm=\"x\"", md5]).unwrap().unwrap();
    assert!(only.proxy && only.stale && only.qop.is_none());
    for (asked, error, words) in [
        (unknown, DigestError::Algorithm("SHA3-256".into()), "Digest with algorithm SHA3-256"),
        (
            r#"Digest realm="a", nonce="1", qop="token,x""#,
            DigestError::Qop("token,x".into()),
            "Digest with qop token,x",
        ),
        ("Digest realm=\"a\"", DigestError::Parameter("nonce"), "Digest without a nonce"),
        ("Digest nonce=\"a\"", DigestError::Parameter("realm"), "Digest without a realm"),
        ("Basic realm=\"a\"", DigestError::Scheme("Basic".into()), "Basic"),
        ("realm=\"a\", nonce=\"b\"", DigestError::Scheme(String::new()), "a challenge without a scheme"),
    ] {
        assert_eq!(error.asked(), words);
        assert_eq!(picked(401, &[asked]), Err(error));
    }
    assert_eq!(picked(401, &[]), Ok(None));
    assert_eq!(picked(403, &[md5]), Ok(None));
}

#[test]
fn an_offer_has_one_challenge_for_each_realm_and_side() {
    let mut response = response(
        407,
        &[
            r#"Digest realm="a", nonce="1""#,
            r#"Digest realm="b", nonce="2", algorithm=SHA-256"#,
            "Basic realm=\"c\"",
        ],
    );
    response.headers.push("WWW-Authenticate", r#"Digest realm="a", nonce="3""#).unwrap();
    let offer = Offer::of(&response).unwrap();
    let nonces: Vec<String> = offer.challenges.iter().map(|challenge| challenge.nonce.plain()).collect();
    assert_eq!((nonces.join(" "), offer.asked()), ("2 1 3".to_owned(), "Basic".to_owned()));
    assert_eq!(offer.challenges.iter().filter(|challenge| challenge.proxy).count(), 2);
    response.code = 401;
    response.headers.remove("WWW-Authenticate");
    assert!(Offer::of(&response).is_some_and(|offer| offer.misplaced && offer.challenges.is_empty()));
}

/// Each says the same as `Digest realm="r", nonce="n", qop="auth"`.
#[test]
fn sloppy_challenges_are_understood() {
    let usual = challenge(r#"Digest realm="r", nonce="n", qop="auth""#);
    for sloppy in [
        r#"DIGEST realm="r",nonce="n",qop="auth""#,
        "digest\trealm = \"r\" ,\tnonce= \"n\" , qop =auth",
        r#"Digest realm="r", nonce="n", qop="auth,auth-int""#,
        r#"Digest realm="r", nonce="n", qop="auth-int, AUTH""#,
        r#"Digest realm="r", nonce="n", qop=" auth , x""#,
        r#"Digest realm="r", nonce="n", qop=auth-int,auth"#,
        r#"Digest realm="r", nonce="n", qop="auth", algorithm="md5""#,
        r#"Digest realm="r", nonce="n", qop="auth", algorithm="""#,
        r#"Digest realm=r, nonce=n, qop=auth"#,
        r#"Digest realm=r nonce=n qop=auth"#,
        r#"Digest realm="r" nonce="n" qop="auth""#,
        r#"Digest ,, realm="r", , nonce="n", qop="auth",,"#,
        r#"Digest, realm="r", nonce="n", qop="auth""#,
        r#"Digest realm="r", stale, nonce="n", qop="auth""#,
        r#"Digest realm="r", stale="false", nonce="n", qop="auth", userhash=false, charset=UTF-8"#,
        r#"Digest realm="r", nonce="n", qop="auth", domain="sip:a sip:b", X-new="a, b=c", realm="other""#,
        r#"Digest "stray", realm="r", nonce="n"x, qop="auth"#,
    ] {
        let read = Challenge { spelled: None, ..challenge(sloppy) };
        assert_eq!(read, usual, "{sloppy}");
    }
    assert_eq!(challenge(r#"Digest realm="r", nonce="", qop="""#).nonce.as_bytes(), b"");
    assert_eq!(challenge(r#"Digest realm="r", nonce="", qop="""#).qop, None);
    for stale in ["stale=true", "stale=\"TRUE\"", "stale = True"] {
        assert!(challenge(format!("Digest realm=r, {stale}, nonce=n")).stale, "{stale}");
    }
    assert_eq!(challenge("Digest realm=My Realm at home, nonce=n").realm.plain(), "My Realm at home");
    assert_eq!(challenge("Digest realm=r, nonce=bm9uY2U==").nonce.plain(), "bm9uY2U==");
    for (name, algorithm) in [
        ("md5-SESS", Algorithm::Md5Sess),
        ("SHA256", Algorithm::Sha256),
        ("\"SHA-512/256\"", Algorithm::Sha512_256),
        ("sha-512-256-sess", Algorithm::Sha512_256Sess),
    ] {
        let read = challenge(format!("Digest realm=r, nonce=n, algorithm={name}"));
        assert_eq!(read.algorithm, algorithm);
        // It is sent back as the server spells it.
        let (value, _) = parts(&mufasa(&read, b""));
        assert!(value.contains(&format!("algorithm={name}")), "{value}");
    }
}

#[test]
fn a_challenge_is_read_as_it_was_written() {
    let challenge = Challenge {
        realm: "a \"quoted\" realm, with commas".into(),
        nonce: "n=1;2,3".into(),
        opaque: Some("o\\p".into()),
        algorithm: Algorithm::Sha256Sess,
        spelled: Some("sha256-sess".into()),
        qop: Some(Qop::AuthInt),
        userhash: true,
        with_escapes: false,
        stale: true,
        proxy: true,
    };
    let (name, value) = challenge.to_header();
    assert_eq!(name, "Proxy-Authenticate");
    assert_eq!(challenge.realm, "a \"quoted\" realm, with commas");
    assert_eq!(Challenge::parse(&value, true), Ok(challenge));
}

/// `rspauth` computed with Python's hashlib.
#[test]
fn a_server_proves_that_it_knows_the_password() {
    let answer =
        |algorithm, qop| mufasa(&challenge(RFC7616.replace("ALGORITHM", algorithm).replace("QOP", qop)), b"");
    let md5 = answer("MD5", "auth");
    let right = "9b712497bc9f91499fbcca1dfc5f09a5";
    let proven = |answer: &Answer, info: String| answer.is_proven_by(info.as_bytes(), b"hello");
    assert_eq!(proven(&md5, format!("rspauth=\"{right}\"")), Some(true));
    let whole = format!(
        "nextnonce=\"x\", qop=auth, rspauth=\"{}\", cnonce=\"{CNONCE}\", nc=00000001",
        right.to_uppercase()
    );
    assert_eq!(proven(&md5, whole.clone()), Some(true));
    assert_eq!(proven(&md5, whole.replace("nc=00000001", "nc=\"1\"")), Some(true));
    for wrong in ["nc=00000002", "qop=auth-int", "cnonce=\"y\""] {
        assert_eq!(proven(&md5, format!("{wrong}, rspauth={right}")), Some(false), "{wrong}");
    }
    assert_eq!(proven(&md5, "rspauth=\"\"".to_owned()), Some(false));
    assert_eq!(proven(&md5, "nextnonce=\"x\"".to_owned()), None);
    let session = "d4ad609d150eafce2281da5c3179878fdb37e6a16021272f4bed1a082f5c2324";
    assert_eq!(proven(&answer("SHA-256-sess", "auth"), format!("rspauth={session}")), Some(true));
    let body = "6e17dd06bd52f02e910b2954c2041177";
    assert_eq!(proven(&answer("MD5", "auth-int"), format!("rspauth={body}")), Some(true));
    assert_eq!(
        answer("MD5", "auth-int").is_proven_by(format!("rspauth={body}").as_bytes(), b"x"),
        Some(false)
    );
}

#[test]
fn broken_credentials_are_refused() {
    let good = r#"Digest username="u", realm="r", nonce="n", uri="sip:h", response="ab", qop=auth, nc=00000001, cnonce="c""#;
    assert!(Authorization::parse(good).is_ok());
    let cases = [
        (good.replace("nc=00000001, ", ""), DigestError::Parameter("nc")),
        (good.replace("nc=00000001", "nc=-0000001"), DigestError::Parameter("nc")),
        (good.replace("username=\"u\", ", ""), DigestError::Parameter("username")),
        (good.replace("qop=auth", "qop=token"), DigestError::Qop("token".into())),
        (good.replace(", cnonce=\"c\"", ""), DigestError::Parameter("cnonce")),
        (good.replace("Digest", "Bearer"), DigestError::Scheme("Bearer".into())),
    ];
    for (text, error) in cases {
        assert_eq!(Authorization::parse(&text), Err(error), "{text}");
    }
}

#[test]
fn a_response_of_another_length_is_wrong_not_a_panic() {
    let text = r#"Digest username="u", realm="r", nonce="n", uri="sip:h", response="ab""#;
    let credentials = Authorization::parse(text).unwrap();
    assert!(!verify(&credentials, &Secret::new("p"), "REGISTER"));
    assert!(!format!("{credentials:?}").contains("ab\""));
}

#[test]
fn nothing_of_an_answer_is_shown() {
    let answer = mufasa(&challenge(RFC7616.replace("ALGORITHM", "MD5").replace("QOP", "auth")), b"");
    assert!(!format!("{answer:?} {:?}", answer.header()).contains("8ca523f5"));
}

#[test]
fn what_is_weaker_is_not_allowed() {
    let challenge =
        |text: &str| Challenge::parse(format!(r#"Digest realm="r", nonce="n"{text}"#), false).unwrap();
    let strict = DigestMinimum { sha256: true, qop: true };
    for weak in
        ["", ", algorithm=MD5, qop=\"auth\"", ", algorithm=MD5-sess, qop=\"auth\"", ", algorithm=SHA-256"]
    {
        assert!(!challenge(weak).offers(strict), "{weak}");
        assert!(challenge(weak).offers(DigestMinimum::default()), "{weak}");
    }
    for strong in [", algorithm=SHA-256, qop=\"auth\"", ", algorithm=SHA-512-256-sess, qop=\"auth-int\""] {
        assert!(challenge(strong).offers(strict), "{strong}");
    }
}
