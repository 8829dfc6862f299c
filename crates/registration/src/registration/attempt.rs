//! Input and output of a registration: settings, attempts, effects.

use std::num::NonZeroU32;

use super::{
    classify::RouteHealth,
    outcome::{Failure, Reason},
    redirect_policy::RedirectPolicy,
    time::Moment,
    uri::{EdgePortRank, UriIndex, UriRank, UriSet},
};
use crate::model::RedirectTarget;
use routr_types::host::{HostPort, Transport};

/// Settings that all registrations of an engine have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Milliseconds between two syncs; the lead of a refresh.
    pub interval_ms: u64,
    /// Expiry to ask for, in seconds.
    pub expires_s: u32,
    /// Longest that one REGISTER may take, in milliseconds.
    pub deadline_ms: u64,
    /// Option tags sent in Require.
    pub tags: Vec<String>,
    /// Policy of redirections.
    pub redirects: RedirectPolicy,
}

/// Facts beside its registration that a decision about one trunk depends on.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// Number of the trunk's URIs; ranks go from 0 to one less.
    pub uris: u8,
    /// Number of EdgePorts.
    pub edges: u8,
    /// Common settings.
    pub settings: &'a Settings,
}

/// In which order waiting registrations are served, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A binding exists and must not expire, or a reply told what to send at once.
    Refresh,
    /// There is none, and an earlier attempt failed.
    Retry,
    /// Never tried.
    First,
}

/// Purpose of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To create or refresh the binding.
    Register,
    /// To find out whether the preferred target has recovered, while another one holds a valid binding.
    Probe,
    /// To remove the binding.
    Deregister,
}

/// One REGISTER to send, in terms of ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its purpose.
    pub purpose: Purpose,
    /// The URI.
    pub uri: UriChoice,
    /// Rank of the EdgePort.
    pub edge: EdgePortRank,
    /// The EdgePort that the binding was made through, which a removal goes through whatever the rank: a
    /// Contact names it.
    pub bound_edge: Option<EdgePortId>,
    /// Target that it was redirected to.
    pub redirect: Option<RedirectTarget>,
    /// It was redirected to another domain, where the credentials are not offered.
    pub without_credentials: bool,
    /// Requested expiry in seconds.
    pub expires: u32,
    /// CSeq number.
    pub cseq: u32,
    /// Option tags to leave out, one bit for each.
    pub without_tags: u32,
}

/// An EdgePort that is, or was, in the configuration; the engine numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EdgePortId(pub u16);

/// Target and path of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct SentTo<'a> {
    /// Host and port.
    pub address: &'a HostPort,
    /// Host of the trunk's URI, which is another one than that of `address` after a redirection.
    pub registrar: &'a str,
    /// Transport.
    pub transport: Transport,
    /// Index of its URI in the trunk as it is now.
    pub index: UriIndex,
    /// Indices of all URIs of the same address of record, this one included: by whatever way, they bind the
    /// same.
    pub same: UriSet,
    /// By the EdgePort that is the preferred one at the moment, as whatever rank it was tried: others may be
    /// passed over, or may have been then.
    pub preferred_edge: bool,
    /// The EdgePort that it went through.
    pub edge: EdgePortId,
    /// Facts about the same path, from other trunks.
    pub route: RouteHealth<'a>,
    /// Time at which it was sent. What is granted counts from here: a response that was slow to come must not
    /// make a binding look longer than it is.
    pub at: Moment,
}

/// URI of an [`Attempt`], by one of two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriChoice {
    /// By its rank in [`super::target::uri_order`].
    Rank(UriRank),
    /// By its index in the trunk, where the binding is.
    Index(UriIndex),
}

/// A binding that the registrar holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Time at which it expires.
    pub expires_at: Moment,
    /// Expiry that was granted, in seconds.
    pub granted_s: NonZeroU32,
    /// Index of its URI in the trunk.
    pub index: UriIndex,
    /// The EdgePort that it was made through.
    pub edge: EdgePortId,
    /// The registrar may hold it for longer: the expiry is that of a Contact of which nothing says that it is
    /// ours.
    pub longer: bool,
}

impl Binding {
    /// Returns whether the registrar may hold it still, as far as a removal is concerned.
    pub fn may_still_exist(&self, now: Moment) -> bool {
        self.longer || self.expires_at > now
    }
}

/// A wait after refused credentials or an unknown account, which outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Index of the URI whose registrar refused.
    pub index: UriIndex,
    /// One of the two.
    pub reason: Reason,
    /// Not before this moment is it asked again.
    pub until: Moment,
    /// Refusals in a row, at least 1.
    pub times: u8,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
}

/// Effects of a response outside the registration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The registrar wants at least this expiry, in seconds: it said so, and has then granted that much.
    pub min_expires: Option<u32>,
    /// The target that the registration is redirected to has changed.
    pub redirection_changed: bool,
    /// The registrar wants no request of any trunk before this moment.
    pub hold_registrar_until: Option<Moment>,
    /// The registration has ended: forget it.
    pub finished: bool,
    /// Something changed that must outlive the process.
    pub persist: bool,
    /// Option tags that turned out to be what a 400 was about, one bit for each: they are left out from now
    /// on.
    pub dropped_tags: u32,
    /// Failure in plain words, where it may be an outage of what others need as well: whatever the
    /// request was for.
    pub outage: Option<Box<str>>,
    /// Failure of the attempt, whatever it was for; `None` where it succeeded.
    pub failure: Option<Failure>,
}
