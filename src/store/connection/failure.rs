//! Errors of Redis and of its client library: what the caller is told, and what they mean for the connection.

use std::time::Duration;

use redis::{ErrorKind, RedisError};

use super::RedisConnection;
use crate::store::{error_text, servers};
use routr_registration::model::StoreError;
use routr_types::host::HostPort;

/// A failed call: what the caller is told, and what it means for the connection.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: StoreError,
    /// The connection cannot be used any more.
    pub discard: bool,
    /// It broke before the answer came, as a connection does that was idle while Redis was restarted.
    pub broken: bool,
    /// In a cluster: the node that has the keys.
    pub moved_to: Option<HostPort>,
    /// In a cluster: some keys are on their way to another node.
    pub ask: bool,
}

impl Failure {
    pub fn new(error: StoreError, discard: bool, broken: bool) -> Self {
        Self { error, discard, broken, moved_to: None, ask: false }
    }
}

impl RedisConnection {
    /// An error without the name of the whole.
    pub(super) fn cause(&self, error: &StoreError) -> String {
        let (StoreError::Unavailable(text)
        | StoreError::Refused(text)
        | StoreError::Denied(text)
        | StoreError::Taken(text)
        | StoreError::Shared(text)) = error;
        text.strip_prefix(&*self.address).map_or(&**text, |rest| rest.trim_start_matches(": ")).to_owned()
    }

    pub(super) fn silent(&self, what: &str, limit: Duration) -> Failure {
        let text = format!("{}: {what} within {} s", self.address, limit.as_secs_f32());
        Failure::new(StoreError::Unavailable(text.into()), true, false)
    }

    pub(super) fn explain(&self, error: &RedisError) -> Failure {
        // The first one is the cause: EXECABORT, which only says that something was wrong before, comes after
        // it.
        let server = error.clone().into_server_errors();
        let Some((_, first)) = server.as_deref().and_then(<[_]>::first) else {
            let text = format!("{}: {}", self.address, error_text::of_library(error)).into();
            let broken = error.is_io_error();
            // Whatever else the library says of itself (an answer that is not Redis') is no reason to stay
            // connected.
            return if broken || error.kind() == ErrorKind::Parse {
                Failure::new(StoreError::Unavailable(text), true, broken)
            } else {
                Failure::new(StoreError::Refused(text), true, broken)
            };
        };
        let details = first.details().unwrap_or_default();
        let text: Box<str> = format!("{}: {}", self.address, error_text::of_server(first, &self.keys)).into();
        match error_text::code(first) {
            "WRONGPASS" | "NOAUTH" | "NOPERM" => Failure::new(StoreError::Denied(text), true, false),
            // In a cluster: another node has the keys, for good.
            "MOVED" => {
                let moved_to = servers::moved(details).filter(|_| self.servers.is_cluster());
                let error = if moved_to.is_some() {
                    StoreError::Unavailable(text)
                } else {
                    StoreError::Refused(format!("{text}; this is a cluster: write cluster=true").into())
                };
                Failure { moved_to, ..Failure::new(error, true, false) }
            }
            // Some keys are on their way to another node.
            "ASK" => {
                let ask = self.servers.is_cluster();
                Failure { ask, ..Failure::new(StoreError::Unavailable(text), !ask, false) }
            }
            // Another server may have taken over: the name is looked up again.
            "LOADING" | "CLUSTERDOWN" | "READONLY" | "MASTERDOWN" | "TRYAGAIN" | "NOREPLICAS" | "BUSY" => {
                Failure::new(StoreError::Unavailable(text), true, false)
            }
            "ERR" if details.starts_with("max number of clients reached") => {
                Failure::new(StoreError::Unavailable(text), true, false)
            }
            _ => Failure::new(StoreError::Refused(text), false, false),
        }
    }

    /// A failed AUTH. Some servers repeat the arguments of a command that they refuse, so none of their words
    /// are used beyond those that are known. What does not speak of a log-in is no refusal of credentials: a
    /// proxy in front of Redis may have lost it, and is asked again soon.
    pub(super) fn explain_login(&self, error: &RedisError) -> Failure {
        let server = error.clone().into_server_errors();
        let Some((_, first)) = server.as_deref().and_then(<[_]>::first) else { return self.explain(error) };
        let details = first.details().unwrap_or_default();
        let cause = match first.code() {
            "WRONGPASS" => "wrong username or password (WRONGPASS)",
            "ERR" if details.contains("without any password configured") => {
                "a password is set here, but Redis has none for the default user"
            }
            "LOADING" | "ERR"
                if first.code() == "LOADING" || details.starts_with("max number of clients") =>
            {
                return self.explain(error);
            }
            "ERR" if !speaks_of_login(details) => {
                let error = StoreError::Unavailable(format!("{}: AUTH failed (ERR)", self.address).into());
                return Failure::new(error, true, false);
            }
            _ => &format!("AUTH was refused ({})", error_text::of_server(first, &self.keys)),
        };
        let error = StoreError::Denied(format!("{}: {cause}", self.address).into());
        Failure::new(error, true, false)
    }
}

/// `invalid password`, `unknown command 'AUTH'`, `invalid username-password pair`, ...
fn speaks_of_login(details: &str) -> bool {
    let details = details.to_ascii_lowercase();
    ["auth", "pass", "user", "credential", "permission", "denied"].iter().any(|word| details.contains(word))
}
