//! A known password is searched in all that comes out.

use super::*;

/// No four signs of it in a row occur in anything that the code itself says.
const PASSWORD: &str = "Zq7xKw9vJtB";

/// Returns whether a piece of the password shows.
fn leaks(shown: &str) -> bool {
    (0..=PASSWORD.len() - 4).any(|at| shown.contains(&PASSWORD[at..at + 4]))
}

/// Everything that a result can print.
fn printed(result: &Result<Config, ValidationErrors>) -> String {
    match result {
        Ok(config) => format!("{config:?}\n{config:#?}"),
        Err(errors) => {
            let mut text = format!("{errors}\n{errors:?}\n{errors:#?}");
            for mistake in errors.iter() {
                text.push_str(&mistake.to_string());
            }
            text
        }
    }
}

#[test]
fn a_good_configuration_does_not_show_it() {
    let text = format!("{LEAST}  cache: {{provider: redis, parameters: 'username=u,password={PASSWORD}'}}\n");
    let result = yaml(&text);
    let Ok(Config { cache: Cache::Redis(settings), .. }) = &result else { panic!("{result:?}") };
    assert_eq!(
        settings.password.as_ref().map(Secret::expose),
        Some(PASSWORD),
        "the search looks for the right thing"
    );
    assert!(!leaks(&printed(&result)));
    let document: RegistryDocument = serde_saphyr::from_str(&text).unwrap();
    assert!(!leaks(&format!("{document:?}")));
}

/// Slips in the very place of the password: none loads, none shows it.
#[test]
fn no_slip_shows_it() {
    let slips = [
        // Syntax errors on its line.
        "  cache:\n    parameters: 'password=PW\n",
        "  cache:\n    parameters: \"password=PW\\q\"\n",
        "  cache:\n    parameters: password: PW\n",
        "  cache:\n    parameters: *PW\n",
        "  cache:\n    parameters: &PW\n  x: : y\n",
        "  cache:\n    parameters: !PW [\n",
        "  cache:\n    parameters: !<PW\n",
        "  cache:\n    parameters: @PW\n",
        "  cache:\n    parameters: `PW\n",
        "  cache:\n    parameters: {password=PW\n",
        "  cache:\n    parameters: [password=PW}\n",
        "  cache:\n\tparameters: password=PW\n",
        "  cache:\n    provider: redis\n   parameters: password=PW\n",
        "  cache:\n    ? [PW]\n    : x\n",
        "  cache:\n    parameters: !!binary PW\n",
        "  cache:\n    parameters: !!int PW\n",
        "  %PW x\n",
        "  cache: %PW\n",
        // Other shapes than a text.
        "  cache: password=PW\n",
        "  cache: PW\n",
        "  cache: [PW]\n",
        "  cache:\n    parameters: {password: PW}\n",
        "  cache:\n    parameters: [password=PW]\n",
        "  cache:\n    password: PW\n",
        "  cache:\n    pass: PW\n",
        "  cache:\n    PW: pass\n",
        "  cache:\n    provider: redis,password=PW\n",
        "  cache: {provider: redis, parameters: host=r, password=PW}\n",
        "  cache: {provider: redis, parameters: host=r,password=a,PW}\n",
        "  cache: {provider: redis, parameters: host=r,password=a,PW,PW}\n",
        "  cache: {provider: redis, parameters: 'password=a', 'password=PW': x}\n",
        "  cache: {provider: redis, parameters: 'password=PW', parameters: 'password=PW'}\n",
        // Keys in the wrong place.
        "  cahce:\n    parameters: password=PW\n",
        "  parameters: password=PW\n",
        "  'password=PW': x\n",
        "  password: PW\n",
        "parameters: password=PW\n",
        "  instanceId: password=PW\n  registerInterval: password=PW\n",
        "  registerInterval: host=x,pass=PW\n",
        "  methods: ['password=PW']\n",
        "  methods: 'password=PW'\n",
        "  edgePorts: 'password=PW'\n",
        "    - address: sip:me:PW@host\n",
        "    - address: PW@\n",
        "    - address: 'host?password PW'\n",
        "  registration: password=PW\n",
        "  registration: {require: ['password PW'], userAgent: \"password=PW\\n\"}\n",
        // Slips inside the text.
        "  cache: {provider: redis, parameters: 'pasword=PW'}\n",
        "  cache: {provider: redis, parameters: 'PASSWORD=PW'}\n",
        "  cache: {provider: redis, parameters: 'pass word=PW'}\n",
        "  cache: {provider: redis, parameters: 'password PW'}\n",
        "  cache: {provider: redis, parameters: 'password:PW'}\n",
        "  cache: {provider: redis, parameters: 'PW'}\n",
        "  cache: {provider: redis, parameters: 'password=a,PW'}\n",
        "  cache: {provider: redis, parameters: 'password=a,PW=b'}\n",
        "  cache: {provider: redis, parameters: 'password=a,b=PW'}\n",
        "  cache: {provider: redis, parameters: 'password=a,port=PW'}\n",
        "  cache: {provider: redis, parameters: 'password=a,secure=PW'}\n",
        "  cache: {provider: redis, parameters: 'password=PW,password=PW'}\n",
        "  cache: {provider: redis, parameters: 'password=PW,passwordFile=x'}\n",
        "  cache: {provider: redis, parameters: 'password=PW,port=0'}\n",
        "  cache: {provider: redis, parameters: 'password=PW;host=x,port=0'}\n",
        "  cache: {provider: memory, parameters: 'password=PW'}\n",
        "  cache: {provider: redis, parameters: 'password=PW', wrong: 1}\n",
        "  cache: {provider: rediss, parameters: 'password=PW'}\n",
        "  cache: {provider: redis, parameters: 'host=u:PW@r'}\n",
    ];
    for slip in slips {
        let text = format!("{LEAST}{}", slip.replace("PW", PASSWORD));
        let result = yaml(&text);
        assert!(result.is_err(), "loads: {slip}");
        let shown = printed(&result);
        assert!(!leaks(&shown), "{slip}\n{shown}");
    }
    let address = format!("http://me:{PASSWORD}@host:1");
    for key in ["apiAddr: localhost", "requesterAddr: localhost"] {
        let wrong = key.replace("localhost", &address);
        let shown = printed(&yaml(&LEAST.replace(key, &wrong)));
        assert!(shown.contains("has a user before the host") && !leaks(&shown), "{shown}");
    }
    for text in [PASSWORD.to_owned(), format!("password={PASSWORD}"), format!("spec: |\n  x: {PASSWORD}\n")] {
        let shown = printed(&yaml(&text));
        assert!(!leaks(&shown), "{shown}");
    }
}

#[test]
fn no_slip_in_json_shows_it() {
    let slips = [
        r#"{"spec": {"cache": {"parameters": "password=PW"#,
        r#"{"spec": {"cache": {"parameters": "password=PW" "x"}}}"#,
        r#"{"spec": {"cache": {"parameters": "password=PW\q"}}}"#,
        r#"{"spec": {"cache": {"parameters": PW}}}"#,
        r#"{"spec": {"cache": {"parameters": 'PW'}}}"#,
        r#"{"spec": {"cache": {"parameters": ["PW"]}}}"#,
        r#"{"spec": {"cache": "PW"}}"#,
        r#"{"spec": "password PW"}"#,
        r#""PW""#,
    ];
    for slip in slips {
        let result = parse(&slip.replace("PW", PASSWORD), Format::Json);
        assert!(result.is_err(), "loads: {slip}");
        let shown = printed(&result);
        assert!(!leaks(&shown), "{slip}\n{shown}");
    }
}

/// Cut a good document anywhere, or put any sign anywhere: the password stays hidden.
#[test]
fn no_broken_document_shows_it() {
    let text = format!(
        "{}  cache:\n    provider: redis\n    parameters: \"host=r,password={PASSWORD},secure\"\n  methods: [X]\n",
        LEAST
    );
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    for at in places {
        let cut = printed(&yaml(&text[..at]));
        assert!(!leaks(&cut), "cut at {at}\n{cut}");
        for sign in [
            "\"", "'", ":", ": ", "\n", " ", "\t", "*", "&", "!", "{", "}", "[", "]", ",", "#", "|", "%", "@",
        ] {
            let broken = format!("{}{sign}{}", &text[..at], &text[at..]);
            let shown = printed(&yaml(&broken));
            assert!(!leaks(&shown), "{sign:?} at {at}\n{shown}");
        }
    }
}
