//! What a reply means for a registration: SIP response -> [`Verdict`]. A SIP rejection is an outcome, not an error.

use crate::ports::{RedirectTarget, Reply, SendError};

/// The longest expiry that is believed, in seconds.
const MAX_EXPIRES: u32 = 86_400;

/// Why an attempt failed; the names are what status, metrics and tables show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 401, 403 or 407.
    CredentialsRejected,
    /// 404, 410 or 604.
    UnknownAccount,
    /// 408, or nothing within the deadline.
    NoAnswer,
    /// A provisional response came back as if it were final.
    OutcomeUnknown,
    /// 423 more often than makes sense.
    IntervalTooBrief,
    /// 420, and nothing left to leave out.
    BadExtension,
    /// Redirected in a circle, or too often, or to nowhere.
    RedirectFailed,
    /// The Requester could not deliver the request: no connection, or an unknown host.
    Unreachable,
    /// The registrar asked to wait.
    AskedToWait,
    /// 5xx.
    RegistrarFailed,
    /// Another 4xx or 6xx.
    Refused,
    /// The reply makes no sense.
    MalformedReply,
    /// The Requester cannot be reached.
    RequesterUnavailable,
    /// The Requester answered with an error.
    RequesterRefused,
    /// The binding lapsed before its refresh could be sent.
    Lapsed,
    /// The trunk as configured cannot be registered.
    InvalidTrunk,
}

impl Reason {
    /// CamelCase, as Kubernetes conditions have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CredentialsRejected => "CredentialsRejected",
            Self::UnknownAccount => "UnknownAccount",
            Self::NoAnswer => "NoAnswer",
            Self::OutcomeUnknown => "OutcomeUnknown",
            Self::IntervalTooBrief => "IntervalTooBrief",
            Self::BadExtension => "BadExtension",
            Self::RedirectFailed => "RedirectFailed",
            Self::Unreachable => "Unreachable",
            Self::AskedToWait => "AskedToWait",
            Self::RegistrarFailed => "RegistrarFailed",
            Self::Refused => "Refused",
            Self::MalformedReply => "MalformedReply",
            Self::RequesterUnavailable => "RequesterUnavailable",
            Self::RequesterRefused => "RequesterRefused",
            Self::Lapsed => "Lapsed",
            Self::InvalidTrunk => "InvalidTrunk",
        }
    }
}

/// A failure as a person wants to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Which kind.
    pub reason: Reason,
    /// SIP status code, where there was one.
    pub code: Option<u16>,
    /// Plain words, with the registrar's own phrase.
    pub message: Box<str>,
}

/// How long a redirection holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// For this request only (302 without an expiry, 305).
    Once,
    /// For so many seconds (302 with an expiry, RFC 3261 §21.3.3).
    Seconds(u32),
    /// Until the target fails or the trunk changes (301).
    Lasting,
}

/// What a reply means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The registrar holds a binding for so many seconds.
    Registered {
        /// Seconds.
        expires_s: u32,
    },
    /// The expiry asked for is too short; `ask` seconds is what to ask next.
    TooBrief {
        /// Seconds.
        ask: u32,
        /// The registrar said so itself; else it is a guess.
        told: bool,
    },
    /// Option tags to leave out, one bit for each; 0 where nothing is left to leave out.
    BadExtension {
        /// One bit for each, in configuration order.
        tags: u32,
    },
    /// Try there instead.
    Redirected {
        /// Where to.
        to: RedirectTarget,
        /// For how long.
        hold: Hold,
    },
    /// The credentials are refused: other targets will refuse them too.
    Rejected,
    /// There is no such account.
    UnknownAccount {
        /// Retry-After of a 404, in seconds.
        retry_after_s: Option<u32>,
    },
    /// The target failed.
    Failed {
        /// It may be the EdgePort rather than the registrar.
        way: bool,
        /// Retry-After, in seconds.
        retry_after_s: Option<u32>,
        /// Retry-After concerns every trunk of the registrar.
        whole_registrar: bool,
    },
    /// Nobody answered.
    Silent,
    /// Whether the registrar holds a binding is not known.
    Unknown,
    /// The Requester is not there, or the connection to it broke.
    Unavailable,
    /// The Requester would not send it.
    WayRefused,
}

impl Verdict {
    /// Whether it tells how to ask instead, rather than that asking failed.
    pub fn tells_how(&self) -> bool {
        matches!(self, Self::TooBrief { .. } | Self::BadExtension { .. } | Self::Redirected { .. })
    }

    /// A short, fixed name for metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "registered",
            Self::TooBrief { .. } => "too_brief",
            Self::BadExtension { .. } => "bad_extension",
            Self::Redirected { .. } => "redirected",
            Self::Rejected => "rejected",
            Self::UnknownAccount { .. } => "unknown_account",
            Self::Failed { .. } => "failed",
            Self::Silent => "no_answer",
            Self::Unknown => "unknown",
            Self::Unavailable => "requester_unavailable",
            Self::WayRefused => "requester_refused",
        }
    }
}

/// What was asked, as far as the meaning of the reply depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Requested expiry in seconds; 0 for a removal.
    pub expires: u32,
    /// The configured option tags.
    pub tags: &'a [String],
    /// Those that were left out already, one bit for each.
    pub without_tags: u32,
}

/// Reads a reply. The cause is what to show when the verdict turns out to be a failure.
pub fn judge(answer: &Result<Reply, SendError>, asked: Asked<'_>) -> (Verdict, Cause) {
    match answer {
        Ok(reply) => {
            let verdict = judge_reply(reply, asked);
            let cause = explain(reply, &verdict);
            (verdict, cause)
        }
        Err(error) => {
            let (verdict, reason) = match error {
                SendError::Deadline(_) => (Verdict::Silent, Reason::NoAnswer),
                SendError::Unavailable(_) => (Verdict::Unavailable, Reason::RequesterUnavailable),
                SendError::Refused(_) => (Verdict::WayRefused, Reason::RequesterRefused),
            };
            (verdict, Cause { reason, code: None, message: error.to_string().into() })
        }
    }
}

fn judge_reply(reply: &Reply, asked: Asked<'_>) -> Verdict {
    let retry_after_s = reply.retry_after;
    let failed = Verdict::Failed { way: false, retry_after_s: None, whole_registrar: false };
    let Some(code) = reply.code else { return failed };
    match code {
        100..=199 => Verdict::Unknown,
        200..=299 => match granted(reply, asked.expires) {
            Some(expires_s) => Verdict::Registered { expires_s },
            None => failed,
        },
        301 | 302 | 305 => match reply.targets.first() {
            Some(first) => Verdict::Redirected { to: first.to.clone(), hold: hold(code, reply) },
            None => failed,
        },
        401 | 403 | 407 => Verdict::Rejected,
        404 => Verdict::UnknownAccount { retry_after_s },
        410 | 604 => Verdict::UnknownAccount { retry_after_s: None },
        408 => Verdict::Silent,
        420 => Verdict::BadExtension { tags: offending_tags(reply, asked) },
        423 => {
            let told = reply.min_expires.is_some();
            let ask = reply.min_expires.unwrap_or_else(|| asked.expires.saturating_mul(2));
            if ask > asked.expires && ask <= MAX_EXPIRES { Verdict::TooBrief { ask, told } } else { failed }
        }
        503 => Verdict::Failed { way: true, retry_after_s, whole_registrar: true },
        500 | 413 | 480 | 486 | 600 | 603 => {
            Verdict::Failed { way: false, retry_after_s, whole_registrar: false }
        }
        // A bad gateway or a server timeout is spoken by whoever stands between.
        502 | 504 => Verdict::Failed { way: true, retry_after_s: None, whole_registrar: false },
        _ => failed,
    }
}

/// The granted expiry: the Contact's own when it is there and positive, else the Expires header field, else what was
/// asked; never more than what was asked, for the Contact that comes back can be another binding's. `None` where the
/// registrar granted nothing.
fn granted(reply: &Reply, asked: u32) -> Option<u32> {
    if asked == 0 {
        return Some(0);
    }
    let expires = match (reply.contact_expires, reply.expires) {
        (Some(contact), _) if contact > 0 => contact,
        (_, Some(header)) => header,
        (Some(contact), None) => contact,
        (None, None) => return Some(asked),
    };
    let expires = u32::try_from(expires).ok().filter(|seconds| *seconds > 0)?;
    Some(expires.min(asked).min(MAX_EXPIRES))
}

fn hold(code: u16, reply: &Reply) -> Hold {
    let expiry =
        reply.contact_expires.or(reply.expires).and_then(|s| u32::try_from(s).ok()).filter(|s| *s > 0);
    match (code, expiry) {
        (301, _) => Hold::Lasting,
        (302, Some(seconds)) => Hold::Seconds(seconds.min(MAX_EXPIRES)),
        _ => Hold::Once,
    }
}

/// Which of our option tags a 420 objects to; where it names none of them, gin, else all that are left.
fn offending_tags(reply: &Reply, asked: Asked<'_>) -> u32 {
    let bits = |wanted: &dyn Fn(&str) -> bool| {
        asked
            .tags
            .iter()
            .take(32)
            .enumerate()
            .filter(|(_, tag)| wanted(tag))
            .fold(0_u32, |bits, (position, _)| bits | 1 << position)
            & !asked.without_tags
    };
    let named =
        bits(&|tag| reply.unsupported.iter().any(|unsupported| unsupported.eq_ignore_ascii_case(tag)));
    let gin = bits(&|tag| tag.eq_ignore_ascii_case("gin"));
    [named, gin, bits(&|_| true)].into_iter().find(|tags| *tags != 0).unwrap_or(0)
}

fn explain(reply: &Reply, verdict: &Verdict) -> Cause {
    if reply.local.is_some() {
        return explain_local(reply);
    }
    let said = match (reply.code, &*reply.phrase) {
        // Whoever stands between made it up: nobody answered, or an EdgePort kept offering a wrong password.
        (Some(_), "") if *verdict == Verdict::Silent => "no answer in time".to_owned(),
        (Some(_), phrase) if *verdict == Verdict::Silent => {
            format!("no answer in time ({})", shorten(phrase))
        }
        (Some(code), "") => format!("the registrar answered {code}"),
        (Some(code), phrase) => format!("the registrar answered {code} {}", shorten(phrase)),
        (None, _) => "the reply has no response type that makes sense".to_owned(),
    };
    let (reason, hint) = match verdict {
        Verdict::Rejected => (Reason::CredentialsRejected, "; check username and password"),
        Verdict::UnknownAccount { .. } => {
            (Reason::UnknownAccount, "; check user and host of the trunk's URI")
        }
        Verdict::Silent => (Reason::NoAnswer, ": the registrar is silent, or the password is wrong"),
        Verdict::Unknown => (Reason::OutcomeUnknown, " as if that were final"),
        Verdict::TooBrief { .. } => (Reason::IntervalTooBrief, ""),
        Verdict::BadExtension { .. } => (Reason::BadExtension, ""),
        Verdict::Redirected { .. } => (Reason::RedirectFailed, ""),
        Verdict::Failed { retry_after_s: Some(_), .. } => (Reason::AskedToWait, ""),
        Verdict::Failed { .. } => match reply.code {
            None => (Reason::MalformedReply, ""),
            Some(200..=299) => (Reason::MalformedReply, ", but granted no time"),
            Some(301 | 302 | 305) => (Reason::RedirectFailed, ", but named no Contact"),
            Some(423) => (Reason::IntervalTooBrief, ", with a Min-Expires that makes no sense"),
            Some(500..=599) => (Reason::RegistrarFailed, ""),
            Some(_) => (Reason::Refused, ""),
        },
        Verdict::Registered { .. } | Verdict::Unavailable | Verdict::WayRefused => (Reason::Refused, ""),
    };
    let wait = match (verdict, reply.retry_after) {
        (Verdict::Failed { retry_after_s: Some(seconds), .. }, _) => {
            format!(", and asked to wait {seconds} s")
        }
        _ => String::new(),
    };
    Cause { reason, code: reply.code, message: format!("{said}{hint}{wait}").into() }
}

/// A reply that the Requester made up itself. There is no code in it that anybody sent.
fn explain_local(reply: &Reply) -> Cause {
    let why = shorten(&reply.phrase);
    let (reason, message) = match reply.code {
        Some(408) => (Reason::NoAnswer, "nobody answered"),
        _ => (Reason::Unreachable, "the REGISTER could not be delivered"),
    };
    let message = if why.is_empty() { message.to_owned() } else { format!("{message}: {why}") };
    Cause { reason, code: None, message: message.into() }
}

/// A phrase comes from outside: bounded, and without control characters.
fn shorten(phrase: &str) -> String {
    phrase.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
