//! Options of a registrar.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::bindings::ExpiryBounds;
use routr_sip::digest::Algorithm;
use routr_types::{host::Transport, secret::Secret};

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The digest username, where it is not the user part of the address of record.
    pub login: Option<String>,
    /// The password.
    pub password: Secret,
}

/// Options of a registrar. [`RegistrarOptions::default`] is a sound one, open to everybody, on a free
/// loopback port over UDP.
#[derive(Clone, Debug)]
pub struct RegistrarOptions {
    /// Transports and addresses to listen on; UDP and TCP only. Port 0 takes a free one.
    pub listen: Vec<(Transport, SocketAddr)>,
    /// Accounts by the user part of the address of record, whatever its host; `None` lets everybody in.
    pub accounts: Option<HashMap<String, Account>>,
    /// The digest realm.
    pub realm: String,
    /// One challenge for each, in this order.
    pub algorithms: Vec<Algorithm>,
    /// True for challenges that offer `qop="auth"`.
    pub qop_auth: bool,
    /// Challenge with 407 instead of 401.
    pub as_proxy: bool,
    /// Responds 403 to a wrong password instead of a new challenge.
    pub forbid_wrong_passwords: bool,
    /// Time that a nonce can be used.
    pub nonce_lifetime: Duration,
    /// Bounds on expiry.
    pub expiry: ExpiryBounds,
    /// Responds 420 to unknown option tags in Require, and 400 to a Request-URI with a user part.
    pub strict: bool,
    /// The option tags that a strict registrar knows.
    pub option_tags: Vec<String>,
    /// Most REGISTERs that the log keeps; 0 keeps none.
    pub log_capacity: usize,
    /// Most bindings that are held.
    pub max_bindings: usize,
}

impl Default for RegistrarOptions {
    fn default() -> Self {
        Self {
            listen: vec![(Transport::Udp, loopback(0))],
            accounts: None,
            realm: "localhost".to_owned(),
            algorithms: vec![Algorithm::Md5],
            qop_auth: true,
            as_proxy: false,
            forbid_wrong_passwords: false,
            nonce_lifetime: Duration::from_secs(300),
            expiry: ExpiryBounds { min: 1, default: 3600, max: 86_400 },
            strict: false,
            option_tags: vec!["path".to_owned()],
            log_capacity: 10_000,
            max_bindings: 2_000_000,
        }
    }
}

impl RegistrarOptions {
    /// UDP and TCP on one free loopback port.
    pub fn udp_and_tcp() -> Self {
        let listen = vec![(Transport::Udp, loopback(0)), (Transport::Tcp, loopback(0))];
        Self { listen, ..Self::default() }
    }

    /// Adds an account; the first one closes the registrar to everybody else.
    #[must_use]
    pub fn account(self, user: &str, password: &str) -> Self {
        self.account_with_login(user, None, password)
    }

    /// Adds an account as [`RegistrarOptions::account`] does, with a digest username of its own.
    #[must_use]
    pub fn account_with_login(mut self, user: &str, login: Option<&str>, password: &str) -> Self {
        let account = Account { login: login.map(str::to_owned), password: Secret::new(password) };
        self.accounts.get_or_insert_default().insert(user.to_owned(), account);
        self
    }
}

/// An address on the IPv4 loopback.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
