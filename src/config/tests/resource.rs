//! Resources of Kubernetes: what Secrets hold, and what only they may have.

use serde_json::{Value, json};

use super::*;
use crate::spec::RegistrySpec;

/// No piece of it occurs in anything that the code itself says.
const PASSWORD: &str = "Zq7xKw9vJtB";

fn spec(cache: Value) -> RegistrySpec {
    let edge_ports = json!([{ "address": "e" }]);
    let cache = json!({ "requesterAddr": "r", "apiAddr": "a", "edgePorts": edge_ports, "cache": cache });
    serde_json::from_value(cache).unwrap()
}

fn at(key: &str) -> Value {
    json!({ "name": "redis", "key": key })
}

fn secrets(parameters: Option<&str>, password: Option<&str>) -> Secrets {
    Secrets {
        parameters: parameters.map(Secret::new),
        password: password.map(Secret::new),
        ..Secrets::default()
    }
}

fn redis(cache: Value, secrets: &Secrets) -> RedisSettings {
    match Config::from_resource("name", &spec(cache), secrets).map(|config| config.cache) {
        Ok(Cache::Redis(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

/// Returns the errors as text; nothing of the password is in it.
fn wrong(cache: Value, secrets: &Secrets) -> String {
    let errors = Config::from_resource("name", &spec(cache.clone()), secrets).expect_err(&cache.to_string());
    let shown = format!("{errors}{errors:?}");
    assert!((0..=PASSWORD.len() - 4).all(|at| !shown.contains(&PASSWORD[at..at + 4])), "{shown}");
    errors.to_string()
}

#[test]
fn parameters_and_password_come_from_secrets() {
    let parameters = json!({ "provider": "redis", "parametersSecretRef": at("parameters") });
    let settings = redis(parameters, &secrets(Some("host=r,port=1,username=u,password=p\n"), None));
    assert_eq!(settings.address, HostPort::new("r", 1));
    assert_eq!((settings.username.as_deref(), settings.password), (Some("u"), Some(Secret::new("p"))));

    let both = json!({
        "provider": "redis",
        "parametersSecretRef": at("parameters"),
        "passwordSecretRef": at("password"),
    });
    let settings = redis(both, &secrets(Some("host=r"), Some("a,b=c \r\n")));
    assert_eq!(settings.password, Some(Secret::new("a,b=c ")), "as it is, but for the end of the line");

    let inline = json!({ "provider": "redis", "parameters": "host=r", "passwordSecretRef": at("password") });
    let settings = redis(inline, &secrets(None, Some("p")));
    assert_eq!(
        (settings.address.to_string().as_str(), settings.password),
        ("r:6379", Some(Secret::new("p")))
    );
}

#[test]
fn what_is_wrong_in_a_secret_is_told_by_its_key() {
    let of_parameters = || json!({ "provider": "redis", "parametersSecretRef": at("parameters") });
    let of_password = || json!({ "provider": "redis", "passwordSecretRef": at("password") });
    let in_parameters = "spec.cache.parametersSecretRef: key parameters of the Secret redis: ";
    let in_password = "spec.cache.passwordSecretRef: key password of the Secret redis: ";
    for (held, expected) in [
        (PASSWORD.to_owned(), "part 1 is not a key=value pair; write key=value"),
        (format!("host=r,{PASSWORD}=1"), "part 2 has an unknown key; known here: host, port"),
        (format!("host=r,password=a,{PASSWORD}"), "put a password that contains a comma into a Secret"),
        (format!("port={PASSWORD}"), "port is wrong; write a number"),
        (format!("host={PASSWORD}:1"), "host is wrong: has more than"),
        (
            format!("host=r,passwordFile=/{PASSWORD}"),
            "passwordFile names a file of the operator's own pod; put the",
        ),
        (format!("host=r\npassword={PASSWORD}"), "it has more than one line"),
        ("\n".to_owned(), "it is empty"),
    ] {
        let said = wrong(of_parameters(), &secrets(Some(&held), None));
        assert!(said.starts_with(in_parameters) && said.contains(expected), "{held:?}: {said}");
        assert!(!said.contains("known here: host, port, username, password, passwordFile"), "{said}");
    }
    for (held, expected) in [("", "it is empty"), ("a\nZq7xKw9vJtB", "it has more than one line")] {
        let said = wrong(of_password(), &secrets(None, Some(held)));
        assert!(said.starts_with(in_password) && said.contains(expected), "{held:?}: {said}");
    }
    assert!(wrong(of_parameters(), &Secrets::default()).contains("it is not there; create the Secret"));
    let strange = json!({ "provider": "redis", "passwordSecretRef": at("a\u{0}b\n") });
    assert!(
        wrong(strange, &Secrets::default()).contains("key a\\u{0}b\\n of the Secret redis: it is not there")
    );
    assert!(wrong(of_password(), &Secrets::default()).contains("it is not there; create the Secret"));
}

#[test]
fn a_resource_says_everything_once() {
    let password = format!("host=r,password={PASSWORD}");
    for (cache, secrets, expected) in [
        (
            json!({ "provider": "redis", "parameters": "host=r", "parametersSecretRef": at("p") }),
            secrets(Some("host=r"), None),
            "spec.cache.parametersSecretRef: parameters are given, too; keep one of them",
        ),
        (
            json!({ "provider": "redis", "parameters": password, "passwordSecretRef": at("p") }),
            secrets(None, Some(PASSWORD)),
            "spec.cache.passwordSecretRef: the parameters hold a password, too; keep one of them",
        ),
        (
            json!({ "provider": "redis", "parametersSecretRef": at("a"), "passwordSecretRef": at("p") }),
            secrets(Some(&password), Some(PASSWORD)),
            "spec.cache.passwordSecretRef: the parameters hold a password, too; keep one of them",
        ),
        (
            json!({ "parametersSecretRef": at("a") }),
            secrets(Some(&password), None),
            "spec.cache.parametersSecretRef: has no effect with the provider memory; write provider: redis",
        ),
        (
            json!({ "provider": "memory", "passwordSecretRef": at("a") }),
            secrets(None, Some(PASSWORD)),
            "spec.cache.passwordSecretRef: has no effect with the provider memory; write provider: redis",
        ),
        (
            json!({ "provider": "redis", "parameters": "host=r,passwordFile=/run/p" }),
            Secrets::default(),
            "spec.cache.parameters: passwordFile names a file of the operator's own pod; put the password into a Secret \
             and name it by passwordSecretRef",
        ),
    ] {
        let said = wrong(cache, &secrets);
        assert!(said.starts_with(expected) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_file_has_no_use_for_what_is_of_a_cluster() {
    let text = format!(
        "{LEAST}  suspend: false\n  cache:\n    provider: redis\n    parametersSecretRef: {{name: a, key: b}}\n    \
         passwordSecretRef: {{name: a, key: b}}\n"
    );
    let errors = yaml(&text).unwrap_err();
    let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "spec.suspend (line 8): only in Kubernetes; remove it: it has no effect in a file",
        "spec.cache.parametersSecretRef (line 11): only in Kubernetes; remove it: it has no effect in a file",
        "spec.cache.passwordSecretRef (line 12): only in Kubernetes; remove it: it has no effect in a file",
    ];
    assert_eq!(said, expected);

    let mut spec = spec(json!({ "provider": "redis", "passwordSecretRef": at("a") }));
    spec.suspend = Some(true);
    let errors = Config::from_spec("name", &spec).unwrap_err().to_string();
    assert!(errors.lines().all(|line| line.contains("only in Kubernetes")), "{errors}");
    assert_eq!(errors.lines().count(), 2);
    Config::from_resource("name", &spec, &secrets(None, Some("p"))).unwrap();
}

#[test]
fn a_token_comes_from_a_secret_and_never_from_a_file_of_the_pod() {
    let with = |key: &str, value: Value, token: Option<&str>| {
        let mut document = json!({ "requesterAddr": "r", "apiAddr": "a", "edgePorts": [{ "address": "e" }] });
        document[key] = value;
        let secrets = Secrets { requester_token: token.map(Secret::new), ..Secrets::default() };
        Config::from_resource("name", &serde_json::from_value(document).unwrap(), &secrets)
    };
    let given = |token: Option<&str>| with("requesterTokenSecretRef", at("token"), token);
    let config = given(Some("abc.DEF-123\n")).unwrap();
    assert_eq!(config.requester.token, Some(Secret::new("abc.DEF-123")));
    assert_eq!(config.api.token, None, "the API server is not shown it");
    assert!(!format!("{config:?}").contains("abc.DEF"));
    for (token, problem) in [
        (None, "it is not there"),
        (Some(""), "it is empty"),
        (Some("Zq7xKw9vJtB\nZq7xKw9vJtB"), "it has more than one line"),
        (Some("Zq7xKw9vJtB Zq7xKw9vJtB"), "it is no token"),
        (Some("Zq7xKw9vJtB\u{e9}"), "it is no token"),
    ] {
        let text = given(token).unwrap_err().to_string();
        let start = "spec.requesterTokenSecretRef: key token of the Secret redis: ";
        assert!(text.contains(start) && text.contains(problem), "{text}");
        assert!(!text.contains("Zq7xKw"), "{text}");
    }
    let text = with("requesterTokenFile", json!("/etc/routr/ca/token"), None).unwrap_err().to_string();
    assert!(text.contains("a file of the operator's own pod; put the token into a Secret"), "{text}");
}
