//! A configuration file: text -> [`Config`], or validation errors.

use std::time::Duration;

use routr_registry::{
    config::{self, Cache, Config, Format, ValidationErrors, address},
    spec::{RegistryDocument, duration},
};
use routr_types::secret::Secret;

use super::support::{SECRET, assert_presentable, count, text};

pub fn run(data: &[u8]) {
    let text = text(data);
    let yaml = config::parse(&text, Format::Yaml);
    let json = config::parse(&text, Format::Json);
    for parsed in [&yaml, &json] {
        match parsed {
            Ok(config) => assert_good(config),
            Err(mistakes) => {
                let said = assert_told(mistakes);
                assert!(!hides_its_secrets(data) || !said.contains(SECRET), "{said}");
            }
        }
    }
    if let (Ok(yaml), Ok(json)) = (&yaml, &json) {
        assert_eq!(yaml, json, "the same text means the same as YAML and as JSON");
    }
    if let Ok(json) = json {
        // A file and a resource of Kubernetes are read by different code.
        let document: RegistryDocument =
            serde_json::from_str(&text).expect("serde reads what the file parser reads");
        let name = document.metadata.and_then(|metadata| metadata.name);
        let config = Config::from_spec(name.as_deref().unwrap_or("registry"), &document.spec);
        assert_eq!(config, Ok(json), "the same text means the same as a file and as a spec");
    }
}

/// Returns whether the known password stands only where it is a password, or may be one by a slip.
fn hides_its_secrets(data: &[u8]) -> bool {
    let all = count(data, SECRET.as_bytes());
    all > 0 && count(data, format!("password={SECRET}").as_bytes()) == all
}

/// Asserts that every error says where, what, and what would be right.
pub fn assert_told(mistakes: &ValidationErrors) -> String {
    assert!(mistakes.len() > 0);
    for mistake in mistakes.iter() {
        assert!(!mistake.path.is_empty() && !mistake.problem.is_empty() && !mistake.hint.is_empty());
        assert!(mistake.line != Some(0));
        assert_presentable(mistake);
    }
    mistakes.to_string()
}

/// Nothing out of bounds is in a configuration, and none of its passwords is shown.
pub fn assert_good(config: &Config) {
    let span = |least, most| Duration::from_secs(least)..=Duration::from_secs(most);
    assert!(span(1, 86_400).contains(&config.register_interval));
    assert!(span(1, 600).contains(&config.api.timeout));
    assert!(span(1, 120).contains(&config.requester.timeout));
    assert!(!config.name.is_empty() && config.name.chars().count() <= 253);
    let registration = &config.registration;
    assert!((10..=86_400).contains(&registration.expires));
    assert!((1..=100_000).contains(&registration.max_in_flight));
    assert!(span(1, 7_200).contains(&config.sync.timeout));
    assert!(
        (1..=1_000_000).contains(&config.sync.max_pages)
            && (1..=10_000_000).contains(&config.sync.max_trunks)
    );
    assert!((1 << 16..=16 << 30).contains(&config.sync.max_bytes));
    assert!((1 << 10..=16 << 20).contains(&config.sync.max_trunk_bytes));
    assert!(registration.rate_per_registrar.is_none_or(|rate| (0.001..=1_000_000.0).contains(&rate)));
    assert!(registration.require.len() <= 32 && config.methods.len() <= 64);
    for token in registration.require.iter().chain(&config.methods) {
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()), "{token:?}");
    }
    assert!(!registration.user_agent.is_empty() && !registration.user_agent.contains(char::is_control));
    assert!(!config.edge_ports.is_empty());
    for given in config.edge_ports.iter().map(|edge_port| &edge_port.address) {
        assert_eq!(address::host_port(&given.to_string(), 1).as_ref(), Ok(given));
    }
    for given in [&config.api.address, &config.requester.address] {
        assert_eq!(address::service(&given.to_string(), 1), Ok((given.clone(), false)));
    }
    assert_eq!(duration::parse(&duration::show(config.register_interval)), Ok(config.register_interval));
    if let Cache::Redis(redis) = &config.cache
        && redis.password.is_some()
    {
        let mut other = config.clone();
        if let Cache::Redis(redis) = &mut other.cache {
            redis.password = Some(Secret::new("another"));
        }
        assert_eq!(format!("{config:?}"), format!("{other:?}"));
    }
}
