//! The `check` subcommand: says whether a configuration is good, and what it comes to.

use std::{fmt::Write, path::Path, time::Duration};

use super::{Cache, Config, Endpoint, RedisDeployment, RedisSettings, SyncBounds, duration, load};
use routr_net::tls::TlsFiles;
use routr_registration::registration::redirect_policy::RedirectPolicy;

/// Result of [`check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Exit status: 0 where the configuration is good, else 1.
    pub code: u8,
    /// Text to print, with a newline at its end; no secrets.
    pub text: String,
}

/// Looks for the configuration as [`load()`] does and reports on it.
pub fn check(path: Option<&Path>) -> Checked {
    match load(path) {
        Ok((path, config)) => {
            let mut text = format!("{} is good\n\n{}", path.display(), table(&config));
            for warning in config.warnings() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "\nwarning: {warning}");
            }
            Checked { code: 0, text }
        }
        Err(error) => Checked { code: 1, text: format!("{error}\n") },
    }
}

/// Two columns: key and what it resolves to.
fn table(config: &Config) -> String {
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
    let mut text = String::new();
    for (key, value) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {key:<17} {value}");
    }
    text
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
