//! Sample resources for a demo: trunks that register, each in its own manner, and trunks that cannot, each
//! for its own reason, with the registrars that make it so.
//!
//! Everything runs on loopback. Where the system has the whole of 127.0.0.0/8 each registrar gets an address
//! of its own, as different providers have different hosts.

mod files;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

pub use files::Samples;

use super::registrar::{Behaviour, ExpiryBounds, Registrar, RegistrarError, RegistrarOptions};
use routr_sip::digest::Algorithm;
use routr_types::host::Transport;

/// Retry-After of the busy registrar, in seconds.
const BUSY_FOR: u32 = 300;
/// Min-Expires of the registrar that wants long registrations, in seconds: more than the 600 that a registry
/// asks for by default.
const LONG_EXPIRY: u32 = 900;

/// One sample trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its ref, which says what it shows.
    pub reference: &'static str,
    /// Its name.
    pub name: &'static str,
    /// True when it can register.
    pub healthy: bool,
    /// Effect to be seen, in a sentence.
    pub shows: &'static str,
}

/// All sample trunks, the healthy ones first.
pub const SAMPLES: [Sample; 11] = [
    healthy("acme-udp", "Acme over UDP", "Registers over UDP with an MD5 digest."),
    healthy("acme-tcp", "Acme over TCP", "Registers over TCP with an MD5 digest."),
    healthy("globex-sha256", "Globex with SHA-256", "Registers with a SHA-256 digest."),
    healthy(
        "globex-longer-expiry",
        "Globex wants longer",
        "The registrar answers 423 at first: it wants registrations of at least 900 s.",
    ),
    healthy(
        "globex-failover",
        "Globex, then Acme",
        "The first URI answers 500; the second one, of a higher priority number, takes over.",
    ),
    healthy("acme-moved", "Acme has moved", "The registrar answers 302: the account lives elsewhere now."),
    sick(
        "wrong-password",
        "Wrong password",
        "The password is wrong: change it in credentials.yaml to \"demo-right-password\" and watch.",
    ),
    sick("unknown-account", "Unknown account", "The registrar knows no such account and answers 404."),
    sick("silent-registrar", "Silent registrar", "The registrar takes every packet and never responds."),
    sick("busy-registrar", "Busy registrar", "The registrar answers 503 and asks to wait 300 s."),
    sick("no-host", "Malformed trunk", "The URI has no host: add one in trunks.yaml and watch."),
];

const fn healthy(reference: &'static str, name: &'static str, shows: &'static str) -> Sample {
    Sample { reference, name, healthy: true, shows }
}

const fn sick(reference: &'static str, name: &'static str, shows: &'static str) -> Sample {
    Sample { reference, name, healthy: false, shows }
}

/// The password of a sample account.
fn password(reference: &str) -> String {
    match reference {
        "wrong-password" => "demo-right-password".to_owned(),
        other => format!("demo-{other}-password"),
    }
}

/// The registrars behind the samples. They run until their shutdown token is cancelled.
#[derive(Clone, Debug)]
pub struct SampleRegistrars {
    /// UDP and TCP, MD5.
    pub acme: Registrar,
    /// UDP, SHA-256.
    pub globex: Registrar,
    /// UDP, never responds.
    pub silent: Registrar,
    /// UDP, 503 to everything.
    pub busy: Registrar,
}

/// Starts the registrars on free loopback ports.
///
/// # Errors
/// When no port can be had.
pub async fn start_registrars(shutdown: CancellationToken) -> Result<SampleRegistrars, RegistrarError> {
    let base = RegistrarOptions {
        // Short, so that refreshes are to be seen while one watches.
        expiry: ExpiryBounds { min: 5, default: 60, max: 60 },
        nonce_lifetime: Duration::from_secs(60),
        log_capacity: 1000,
        ..RegistrarOptions::default()
    };
    let accounts = |options: RegistrarOptions, references: &[&str]| {
        references.iter().fold(options, |options, user| options.account(user, &password(user)))
    };
    let acme = RegistrarOptions { realm: "acme.example".to_owned(), ..base.clone() };
    let acme = accounts(acme, &["acme-udp", "acme-tcp", "acme-moved", "globex-failover", "wrong-password"]);
    let globex = RegistrarOptions {
        realm: "globex.example".to_owned(),
        algorithms: vec![Algorithm::Sha256],
        ..base.clone()
    };
    let globex =
        accounts(globex, &["globex-sha256", "globex-longer-expiry", "globex-failover", "acme-moved"]);
    let udp = [Transport::Udp];
    let registrars = SampleRegistrars {
        acme: start(acme, 1, &[Transport::Udp, Transport::Tcp], &shutdown).await?,
        globex: start(globex, 2, &udp, &shutdown).await?,
        silent: start(base.clone(), 3, &udp, &shutdown).await?,
        busy: start(base, 4, &udp, &shutdown).await?,
    };
    registrars.misbehave();
    Ok(registrars)
}

/// Starts one on 127.0.0.`host`, or on 127.0.0.1 where the system has no other loopback address.
async fn start(
    options: RegistrarOptions,
    host: u8,
    transports: &[Transport],
    shutdown: &CancellationToken,
) -> Result<Registrar, RegistrarError> {
    let on = |address: Ipv4Addr| RegistrarOptions {
        listen: transports.iter().map(|t| (*t, SocketAddr::new(IpAddr::V4(address), 0))).collect(),
        ..options.clone()
    };
    match Registrar::start(on(Ipv4Addr::new(127, 0, 0, host)), shutdown.clone()).await {
        Err(RegistrarError::Bind { source, .. }) if source.kind() == std::io::ErrorKind::AddrNotAvailable => {
            Registrar::start(on(Ipv4Addr::LOCALHOST), shutdown.clone()).await
        }
        done => done,
    }
}

impl SampleRegistrars {
    /// The resources that go with these registrars.
    pub fn samples(&self) -> Samples {
        Samples {
            acme_udp: address(&self.acme, Transport::Udp),
            acme_tcp: address(&self.acme, Transport::Tcp),
            globex: address(&self.globex, Transport::Udp),
            silent: address(&self.silent, Transport::Udp),
            busy: address(&self.busy, Transport::Udp),
        }
    }

    fn misbehave(&self) {
        self.silent.behave_all(Behaviour::Silence);
        self.busy.behave_all(Behaviour::Unavailable { retry_after: Some(BUSY_FOR) });
        self.globex.behave("globex-longer-expiry", Behaviour::TooBrief { min_expires: LONG_EXPIRY });
        let broken =
            Behaviour::Code { code: 500, phrase: "Database Is Down".to_owned(), headers: Vec::new() };
        self.globex.behave("globex-failover", broken);
        let contact = format!("sip:{};transport=udp", address(&self.globex, Transport::Udp));
        self.acme.behave("acme-moved", Behaviour::Redirect { code: 302, contact, expires: Some(3600) });
    }
}

/// Returns where a registrar listens; the samples only ask for transports that theirs have.
fn address(registrar: &Registrar, transport: Transport) -> SocketAddr {
    registrar.address(transport).unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
}
