//! Outcomes of a response: [`Outcome`], and the [`Reason`] that a person sees.

use strum::{IntoStaticStr, VariantArray};

use crate::model::RedirectTarget;

/// Reason of a failure; the names are those that status, metrics and tables show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
pub enum Reason {
    /// 401, 403 or 407.
    CredentialsRejected,
    /// 404, 410 or 604.
    UnknownAccount,
    /// 408, or nothing within the deadline.
    Timeout,
    /// A provisional response came back as if it were final.
    OutcomeUnknown,
    /// 423 more often than makes sense.
    IntervalTooBrief,
    /// 420, and nothing left to leave out.
    BadExtension,
    /// Redirected in a circle, or too often, or to nowhere.
    RedirectFailed,
    /// Redirected to another domain, which the configuration does not allow, or without the credentials that
    /// are asked for there.
    RedirectNotAllowed,
    /// The Requester could not deliver the request: no connection.
    Unreachable,
    /// The host name has no address, or cannot be looked up.
    UnknownHost,
    /// The TLS handshake failed.
    TlsFailed,
    /// The EdgePort does not respond, cannot be reached, or its name has no address.
    EdgePortFailed,
    /// The registrar fails for several trunks in a row; this one waits until it responds again.
    RegistrarDown,
    /// The challenge cannot be answered, or there was none: no credentials were sent.
    ChallengeNotSupported,
    /// The challenge offers less than the configured minimum: no credentials were sent.
    DigestTooWeak,
    /// 403 to a REGISTER that carried no credentials.
    Forbidden,
    /// The registrar rejects each nonce as too old, and not the password.
    StaleNonce,
    /// The registrar asked to wait.
    RetryAfter,
    /// 5xx.
    RegistrarFailed,
    /// Another 4xx or 6xx.
    Refused,
    /// The reply is malformed.
    MalformedResponse,
    /// The Requester cannot be reached.
    RequesterUnavailable,
    /// The Requester answered with an error.
    RequesterRefused,
    /// The binding expired before its refresh could be sent.
    BindingExpired,
    /// The trunk as configured cannot be registered.
    InvalidTrunk,
}

impl Reason {
    /// CamelCase, as Kubernetes conditions have it.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A failure as a person wants to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Reason.
    pub reason: Reason,
    /// SIP status code, where there was one.
    pub code: Option<u16>,
    /// Plain words, with the registrar's own phrase.
    pub message: Box<str>,
}

/// Lifetime of a redirection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectLifetime {
    /// For this request only (302 without an expiry, 305).
    Once,
    /// For so many seconds (301, and 302 with an expiry, RFC 3261 §21.3.3).
    Seconds(u32),
}

/// One target of a redirection that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectOffer {
    /// Target.
    pub to: RedirectTarget,
    /// For how long.
    pub hold: RedirectLifetime,
    /// It leads to another domain, where the credentials are not offered.
    pub without_credentials: bool,
}

/// Outcome of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The registrar holds a binding for so many seconds.
    Registered {
        /// Seconds.
        expires_s: u32,
    },
    /// The expiry asked for is too short; `ask` seconds is what to ask next.
    IntervalTooBrief {
        /// Seconds.
        ask: u32,
        /// The registrar said so itself; else it is a guess.
        from_registrar: bool,
    },
    /// Option tags to leave out, one bit for each; 0 where nothing is left to leave out.
    BadExtension {
        /// One bit for each, in configuration order.
        tags: u32,
        /// A 400, which names no option tag: they may not be the reason.
        guessed: bool,
    },
    /// Try there instead: the targets in order (RFC 3261 §8.1.3.4), those that the configuration allows.
    Redirected {
        /// At least one.
        targets: Vec<RedirectOffer>,
    },
    /// The credentials are refused: other targets will refuse them too.
    CredentialsRejected {
        /// No response says so: an EdgePort that never stops offering a refused password looks like this.
        inferred: bool,
    },
    /// There is no such account.
    UnknownAccount {
        /// Retry-After of a 404, in seconds.
        retry_after_s: Option<u32>,
    },
    /// The target failed.
    Failed {
        /// It may be the EdgePort rather than the registrar.
        edge_port_suspect: bool,
        /// Retry-After, in seconds.
        retry_after_s: Option<u32>,
        /// Retry-After concerns every trunk of the registrar.
        whole_registrar: bool,
        /// The registrar does not do its work (5xx), or cannot be reached: where several trunks in a row see
        /// that, it is down.
        outage: bool,
    },
    /// No one answered.
    Timeout,
    /// Nothing says whether the registrar holds a binding.
    Unknown,
    /// The Requester cannot be reached: nothing was sent.
    RequesterUnavailable,
    /// The call to the Requester failed: the request may have been sent on.
    CallFailed {
        /// Its connection broke.
        broken: bool,
    },
    /// The Requester would not send it.
    RequesterRefused,
}

/// Every [`Outcome::label`], and `late`: the response came when the trunk had moved on.
pub const OUTCOME_LABELS: [&str; 13] = [
    "registered",
    "intervalTooBrief",
    "badExtension",
    "redirected",
    "credentialsRejected",
    "unknownAccount",
    "failed",
    "timeout",
    "outcomeUnknown",
    "requesterUnavailable",
    "callFailed",
    "requesterRefused",
    LATE,
];

/// The label of a response that no trunk waits for any more.
pub const LATE: &str = "late";

impl Outcome {
    /// Returns whether it tells how to ask instead, rather than that asking failed.
    pub fn is_retry_hint(&self) -> bool {
        matches!(self, Self::IntervalTooBrief { .. } | Self::BadExtension { .. } | Self::Redirected { .. })
    }

    /// Returns whether the target itself failed, rather than refused: silence, a broken way, or 5xx.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Timeout | Self::Failed { outage: true, .. })
    }

    /// Returns whether the registrar may have made a binding all the same: nothing came back that says so or
    /// otherwise.
    pub fn may_have_bound(&self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::Unknown
                | Self::RequesterUnavailable
                | Self::CallFailed { .. }
                | Self::CredentialsRejected { inferred: true }
        )
    }

    /// Returns whether it shows that the registrar is at work.
    pub fn proves_registrar_alive(&self) -> bool {
        !self.is_outage()
            && !self.is_requester_failure()
            && !matches!(self, Self::CredentialsRejected { inferred: true })
    }

    /// Returns whether no SIP response came back at all: the call failed, or there was no connection for it.
    pub fn is_requester_failure(&self) -> bool {
        matches!(self, Self::RequesterUnavailable | Self::CallFailed { .. } | Self::RequesterRefused)
    }

    /// A short, fixed name for metrics, in the style of [`super::state::TrunkState::name`]; one of
    /// [`OUTCOME_LABELS`].
    pub fn label(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "registered",
            Self::IntervalTooBrief { .. } => "intervalTooBrief",
            Self::BadExtension { .. } => "badExtension",
            Self::Redirected { .. } => "redirected",
            Self::CredentialsRejected { .. } => "credentialsRejected",
            Self::UnknownAccount { .. } => "unknownAccount",
            Self::Failed { .. } => "failed",
            Self::Timeout => "timeout",
            Self::Unknown => "outcomeUnknown",
            Self::RequesterUnavailable => "requesterUnavailable",
            Self::CallFailed { .. } => "callFailed",
            Self::RequesterRefused => "requesterRefused",
        }
    }
}
