//! The `check` subcommand: says whether a configuration is good, and what it comes to.

use std::{fmt::Write, path::Path, time::Duration};

use serde_json::Value;

use super::{
    Cache, Config, Endpoint, RedisDeployment, RedisSettings, SyncBounds, duration, load::load_document,
    rules::KEYS,
};
use crate::spec::key::{self, Kind};
use routr_net::tls::TlsFiles;
use routr_registration::registration::redirect_policy::RedirectPolicy;
use routr_types::text;

/// Result of [`check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Exit status: 0 where the configuration is good, else 1.
    pub code: u8,
    /// Text to print, with a newline at its end; no secrets.
    pub text: String,
}

/// Looks for the configuration as [`super::load()`] does and reports on it.
pub fn check(path: Option<&Path>) -> Checked {
    match load_document(path) {
        Ok((path, document, config)) => {
            // A document that has been read can be written; if not, only rows of other keys are missing.
            let document = serde_json::to_value(document).unwrap_or_default();
            let rows = summary(&config).into_iter().chain(others(&document, &SUMMARISED));
            let mut text = format!("{} is good\n\n{}", path.display(), table(rows));
            for warning in config.warnings() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "\nwarning: {warning}");
            }
            Checked { code: 0, text }
        }
        Err(error) => Checked { code: 1, text: format!("{error}\n") },
    }
}

/// The keys that the rows of [`summary`] speak of. Every other one has a row of its own where it is given.
const SUMMARISED: [&str; 29] = [
    "kind",
    "apiVersion",
    "metadata.name",
    "spec.requesterAddr",
    "spec.apiAddr",
    "spec.requesterTokenFile",
    "spec.registerInterval",
    "spec.methods",
    "spec.instanceId",
    "spec.registration.expires",
    "spec.registration.maxInFlight",
    "spec.registration.ratePerRegistrar",
    "spec.registration.timeout",
    "spec.registration.userAgent",
    "spec.registration.require",
    "spec.registration.redirects.domains",
    "spec.registration.redirects.credentials",
    "spec.registration.redirects.maxTime",
    "spec.registration.digest.minAlgorithm",
    "spec.registration.digest.requireQop",
    "spec.tls.caFile",
    "spec.tls.certFile",
    "spec.tls.keyFile",
    "spec.apiTimeout",
    "spec.sync.timeout",
    "spec.sync.maxPages",
    "spec.sync.maxTrunks",
    "spec.sync.maxBytes",
    "spec.sync.maxTrunkBytes",
];

/// Two columns: key and what it resolves to.
fn table(rows: impl Iterator<Item = (String, String)>) -> String {
    let mut text = String::new();
    for (key, value) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {key:<17} {value}");
    }
    text
}

/// A row for each key of the document but those `without`. Keys in lists and in mappings that may hold a
/// password are left out.
fn others<'a>(document: &'a Value, without: &'a [&str]) -> impl Iterator<Item = (String, String)> + 'a {
    let plain = |key: &key::Key| {
        let is_value =
            !matches!(key.kind, Kind::Mapping | Kind::OpenMapping | Kind::Mappings | Kind::SecretKey);
        let is_hidden = KEYS.iter().any(|outer| outer.hides_values && outer.path == key.parent());
        is_value && !is_hidden && !key.only_in_kubernetes && !key.path.contains("[]")
    };
    KEYS.iter().filter(move |key| plain(key) && !without.contains(&key.path)).filter_map(move |key| {
        let value = document.pointer(&format!("/{}", key.path.replace('.', "/")))?;
        Some((key.path.trim_start_matches("spec.").to_owned(), text::one_line(&key::shown(value))))
    })
}

/// The rows that put several keys into words.
fn summary(config: &Config) -> Vec<(String, String)> {
    let registration = &config.registration;
    let edge_ports = config.edge_ports.iter().map(|edge_port| {
        let public = edge_port.public.to_string();
        let public = (!public.is_empty()).then(|| format!("public {public}"));
        let notes: Vec<&str> = edge_port.region.as_deref().into_iter().chain(public.as_deref()).collect();
        match &*notes {
            [] => edge_port.address.to_string(),
            notes => format!("{} ({})", edge_port.address, notes.join(", ")),
        }
    });
    let rate = registration
        .rate_per_registrar
        .map_or_else(|| "at any rate".to_owned(), |rate| format!("{rate} per second for each registrar"));
    let rows = [
        ("name", config.name.clone()),
        ("instanceId", config.instance_id.clone().unwrap_or_else(|| "made by the service".to_owned())),
        ("apiAddr", endpoint(&config.api)),
        ("requesterAddr", endpoint(&config.requester)),
        ("registerInterval", duration::show(config.register_interval)),
        ("cache", cache(&config.cache)),
        ("methods", joined(config.methods.iter().cloned())),
        ("edgePorts", joined(edge_ports)),
        (
            "registration",
            format!(
                "expires {}, up to {} in flight, {rate}",
                duration::show(std::time::Duration::from_secs(registration.expires.into())),
                registration.max_in_flight,
            ),
        ),
        ("sync", sync(&config.sync)),
        ("require", joined(registration.require.iter().cloned())),
        ("userAgent", registration.user_agent.clone()),
        ("redirects", redirects(&registration.redirects)),
        ("digest", format!("minimum {}", registration.digest.words())),
    ];
    rows.map(|(key, value)| (key.to_owned(), value)).into()
}

fn sync(bounds: &SyncBounds) -> String {
    format!(
        "up to {} trunks, {} pages and {} bytes within {}; a trunk up to {} bytes",
        bounds.max_trunks,
        bounds.max_pages,
        bounds.max_bytes,
        duration::show(bounds.timeout),
        bounds.max_trunk_bytes
    )
}

fn redirects(policy: &RedirectPolicy) -> String {
    let time = duration::show(Duration::from_secs(policy.max_s.into()));
    if policy.domains.is_empty() {
        return format!("within the registrar's own domain, for {time} at most");
    }
    let domains = joined(policy.domains.iter().map(ToString::to_string));
    let credentials = if policy.credentials { "with" } else { "without" };
    format!(
        "within the registrar's own domain, and {credentials} credentials to {domains}; for {time} at most"
    )
}

fn joined(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn endpoint(endpoint: &Endpoint) -> String {
    format!(
        "{}, {}, {}at most {} for a call",
        endpoint.address,
        tls(endpoint.tls, &endpoint.files),
        if endpoint.token.is_some() { "with a token, " } else { "" },
        duration::show(endpoint.timeout)
    )
}

fn tls(wanted: bool, files: &TlsFiles) -> String {
    if !wanted {
        return "no TLS".to_owned();
    }
    let authorities = match &files.authorities {
        Some(file) => format!("TLS with the authorities of {}", file.display()),
        None => "TLS with the system's authorities".to_owned(),
    };
    match &files.certificate {
        Some(shown) => format!("{authorities} and the client certificate of {}", shown.certificate.display()),
        None => authorities,
    }
}

fn cache(cache: &Cache) -> String {
    let RedisSettings {
        address,
        socket,
        deployment,
        username,
        password,
        database,
        prefix,
        secure,
        ca_file,
        client_certificate,
        policy: _,
    } = match cache {
        Cache::Memory => return "memory".to_owned(),
        Cache::Redis(settings) => &**settings,
    };
    let user = match (username, password) {
        (Some(user), _) => format!("as {user}"),
        (None, Some(_)) => "with a password".to_owned(),
        (None, None) => "without a password".to_owned(),
    };
    let files = TlsFiles { authorities: ca_file.clone(), certificate: None };
    let list = |addresses: &[routr_types::host::HostPort]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let place = match (deployment, socket) {
        (RedisDeployment::Sentinel { sentinels, master, .. }, _) => {
            format!("redis, the master {master} of the sentinels {}", list(sentinels))
        }
        (RedisDeployment::Cluster { nodes }, _) => format!("a redis cluster with {}", list(nodes)),
        (RedisDeployment::Single, Some(socket)) => format!("redis at {}", socket.display()),
        (RedisDeployment::Single, None) => format!("redis at {address}"),
    };
    let mut text = format!("{place}, {user}, {}", tls(*secure, &files));
    if let Some((certificate, _)) = client_certificate {
        text += &format!(", with the certificate of {}", certificate.display());
    }
    if *database != 0 {
        text += &format!(", database {database}");
    }
    if !prefix.is_empty() {
        text += &format!(", prefix {prefix}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_that_no_row_sums_up_has_a_row_of_its_own() {
        let document = json!({ "metadata": { "name": "a\nb" }, "spec": {
            "cache": { "parameters": "password=hunter2" },
            "methods": ["INVITE", "MESSAGE"],
            "edgePorts": [{ "address": "e", "region": "r" }],
            "registration": { "expires": "15m", "maxInFlight": 7, "redirects": { "credentials": true } },
        } });
        let rows: Vec<(String, String)> = others(&document, &[]).collect();
        for (key, value) in [
            ("methods", "[INVITE, MESSAGE]"),
            ("registration.expires", "15m"),
            ("registration.maxInFlight", "7"),
            ("registration.redirects.credentials", "true"),
        ] {
            assert!(rows.contains(&(key.to_owned(), value.to_owned())), "{key}: {rows:?}");
        }
        let text = table(rows.into_iter());
        assert!(
            !text.contains("hunter2") && !text.contains("edgePorts") && !text.contains("suspend"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 5, "a row for each key that is given: {text}");
        assert!(SUMMARISED.iter().all(|key| KEYS.iter().any(|it| it.path == *key)));
    }
}
