//! Notices for the log: changes of what many trunks share, one line for each.

use super::view::Redirection;

/// Change of what many trunks share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A registrar failed for several of its trunks in a row.
    RegistrarDown {
        /// Its host.
        registrar: String,
        /// Message of the last one's failure.
        message: String,
    },
    /// A registrar that was down responds again.
    RegistrarBack {
        /// Its host.
        registrar: String,
        /// Time that it was down, in milliseconds.
        after_ms: u64,
    },
    /// An EdgePort failed towards several registrars in a row.
    EdgePortDown {
        /// Its address.
        edge_port: String,
        /// Message of the last trunk's failure.
        message: String,
    },
    /// An EdgePort that was down responds again.
    EdgePortBack {
        /// Its address.
        edge_port: String,
        /// Time that it was down, in milliseconds.
        after_ms: u64,
    },
    /// The Requester fails.
    RequesterDown {
        /// Message of the failure.
        message: String,
    },
    /// The Requester responds again.
    RequesterBack {
        /// Time that it failed, in milliseconds.
        after_ms: u64,
    },
    /// A trunk was registered elsewhere than at its registrar, because of a redirection.
    Redirected {
        /// The trunk.
        reference: String,
        /// From where to where, until when.
        redirection: Redirection,
    },
    /// A trunk that was redirected is registered at its own registrar again.
    NotRedirected {
        /// The trunk.
        reference: String,
    },
    /// A registrar that answered 400 takes the REGISTER without these option tags: they are left out from now
    /// on.
    OptionTagsDropped {
        /// The trunk.
        reference: String,
        /// Its registrar's host.
        registrar: String,
        /// The tags.
        tags: Vec<String>,
    },
}

/// Notices that are kept for the log; what comes beyond is lost.
pub(super) const MAX_NOTICES: usize = 1_000;
