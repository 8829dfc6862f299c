//! SIP response -> [`Verdict`], and the words for it. A SIP rejection is an outcome, not an error.

use super::{
    explain::explain,
    redirect_policy::{Permission, RedirectPolicy},
    reply::{Cause, Hold, Reason, RedirectOffer, Verdict},
    time::Moment,
};
use crate::ports::{Authentication, Hop, Local, LocalKind, RedirectContact, Reply, SendError};

/// The longest expiry that is believed, in seconds.
pub(super) const MAX_EXPIRES: u32 = 86_400;
/// A response after this time, in milliseconds, is one that somebody made up: Timer F (RFC 3261 §17.1.2.2) is over by then.
pub const MADE_UP_FROM: u64 = 30_000;
/// How far an expiry may be off from what is left of another binding, in seconds, to be taken for that binding's.
const SAME_BINDING: u64 = 2;
/// Trunks register at the same time where it is within so many milliseconds.
const SAME_TIME: u64 = 2 * 60 * 1_000;
/// What Routr's Java Requester says in the 503 that it makes up when a connection fails.
const JAVA_TRANSPORT_ERROR: &str = "transport error";

/// What was asked, and what is known around it, as far as the meaning of the response depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Requested expiry in seconds; 0 for a removal.
    pub expires: u32,
    /// The configured option tags.
    pub tags: &'a [String],
    /// Those that were left out already, one bit for each.
    pub without_tags: u32,
    /// When it was sent.
    pub sent_at: Moment,
    /// How long the response took, in milliseconds.
    pub took_ms: u64,
    /// The binding that was held when the request was sent.
    pub held: Option<Held>,
    /// The trunk has never been registered with what it offers now.
    pub never_registered: bool,
    /// The attempt before this one met with silence: when the first of those in a row was sent.
    pub silent_since: Option<Moment>,
    /// Since its last success it has met with silence at another registrar, and it was registered at another one.
    pub silent_elsewhere: bool,
    /// The attempt before this one was refused, or taken for that.
    pub refused_before: bool,
    /// What others have met with.
    pub around: Around<'a>,
    /// Host of the trunk's URI, and where that may redirect to; `None`: nowhere.
    pub redirects: Option<(&'a str, &'a RedirectPolicy)>,
    /// It was redirected to another domain, where its credentials were not offered.
    pub without_credentials: bool,
    /// The longest expiry that is counted on, in seconds, because a 423 asked for more than is configured; 0 for no bound.
    pub longest_s: u32,
}

/// The binding before a refresh.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// What was left of it when the request was sent, in milliseconds,
    pub left_then: u64,
    /// and when the response came.
    pub left_now: u64,
    /// What was granted, in seconds.
    pub granted_s: u32,
}

/// What the engine knows of the way that a request took, from other trunks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'a> {
    /// The registrar, as a message names it.
    pub registrar: &'a str,
    /// The EdgePort, as a message names it.
    pub edge_port: &'a str,
    /// How the EdgePort stands.
    pub edge: EdgeStanding,
    /// When the latest REGISTER of another trunk was sent that this registrar accepted.
    pub others_registered: Option<Moment>,
    /// When the latest request was sent that was answered through this EdgePort.
    pub edge_responded: Option<Moment>,
    /// No other trunk uses this registrar.
    pub alone: bool,
    /// The trunk has a password that could be offered again and again.
    pub has_credentials: bool,
    /// Calls of several trunks fail in a row, or no connection can be made: a call that fails is not this trunk's own failure.
    pub requester_down: bool,
    /// Other calls were under way at the same time: of a connection that breaks, any of them may be the reason.
    pub among_others: bool,
}

/// How an EdgePort stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EdgeStanding {
    /// A response came through it since the request was sent.
    Answering,
    /// Nothing proves either.
    #[default]
    Unknown,
    /// Nothing has ever come through it.
    NeverAnswered,
    /// It has been silent towards several registrars in a row.
    Silent,
}

/// Reads a response. The cause is what to show when the verdict turns out to be a failure.
pub fn judge(answer: &Result<Reply, SendError>, asked: Asked<'_>) -> (Verdict, Cause) {
    let verdict = match answer {
        Ok(reply) => judge_reply(reply, asked),
        Err(SendError::Deadline(_)) => Verdict::Silent,
        Err(SendError::Unavailable(_)) => Verdict::Unavailable,
        Err(SendError::Disconnected(_)) => Verdict::CallFailed { broken: true },
        Err(SendError::Failed(_)) => Verdict::CallFailed { broken: false },
        Err(SendError::Refused(_)) => Verdict::WayRefused,
    };
    let cause = match answer {
        Ok(reply) => explain(reply, &verdict, asked),
        Err(error) => explain_error(error, asked),
    };
    (verdict, cause)
}

fn explain_error(error: &SendError, asked: Asked<'_>) -> Cause {
    let reason = match error {
        SendError::Deadline(_) => Reason::NoAnswer,
        SendError::Unavailable(_) | SendError::Disconnected(_) | SendError::Failed(_) => {
            Reason::RequesterUnavailable
        }
        SendError::Refused(_) => Reason::RequesterRefused,
    };
    let edge = asked.around.edge_port;
    let hint = match (error, asked.around.edge) {
        // Routr's Java Requester never responds, and burns a core, when the EdgePort's name does not resolve.
        (SendError::Deadline(_), EdgeStanding::NeverAnswered | EdgeStanding::Silent) => format!(
            "; nothing has come through EdgePort {edge} so far: check that its name in edgePorts resolves where the \
             Requester runs, and that it is up"
        ),
        (SendError::Deadline(_), _) => {
            format!(" for registrar {} through EdgePort {edge}", asked.around.registrar)
        }
        _ => String::new(),
    };
    Cause { reason, code: None, message: format!("{error}{hint}").into() }
}

/// What the Requester says, or Routr's Java one shows by its words, to have made up itself.
pub fn made_up(reply: &Reply) -> Option<Local> {
    let java = reply.code == Some(503)
        && reply.retry_after.is_none()
        && reply.phrase.to_ascii_lowercase().starts_with(JAVA_TRANSPORT_ERROR);
    reply.local.or(java.then_some(Local { kind: LocalKind::Transport, at: None }))
}

fn judge_reply(reply: &Reply, asked: Asked<'_>) -> Verdict {
    let retry_after_s = reply.retry_after;
    let failed = Verdict::Failed { way: false, retry_after_s: None, whole_registrar: false, outage: false };
    let outage = |way, retry_after_s| Verdict::Failed {
        way,
        retry_after_s,
        whole_registrar: reply.code == Some(503),
        outage: true,
    };
    match made_up(reply) {
        // An EdgePort is a proxy: silence behind it may be its own or the registrar's.
        Some(Local { kind: LocalKind::Timeout, at }) => return judge_silence(at, asked),
        Some(local) => {
            let way = local.at != Some(Hop::Registrar);
            return Verdict::Failed { way, retry_after_s: None, whole_registrar: false, outage: true };
        }
        None => {}
    }
    let Some(code) = reply.code else { return failed };
    match code {
        100..=199 => Verdict::Unknown,
        200..=299 => match granted(reply, asked) {
            Some(expires_s) => Verdict::Registered { expires_s },
            None => failed,
        },
        300 | 301 | 302 | 305 => {
            let targets = offers(code, reply, asked);
            if targets.is_empty() { failed } else { Verdict::Redirected { targets } }
        }
        // What is asked for there is not offered there.
        401 | 403 | 407 if asked.without_credentials => failed,
        // No credentials were sent, or the password is right: other targets may be wiser, and no account is at risk.
        401 | 403 | 407
            if matches!(
                reply.authentication,
                Some(Authentication::NotSent(_) | Authentication::TooWeak(_) | Authentication::Stale)
            ) =>
        {
            failed
        }
        401 | 403 | 407 => Verdict::Rejected { inferred: false },
        404 => Verdict::UnknownAccount { retry_after_s },
        410 | 604 => Verdict::UnknownAccount { retry_after_s: None },
        408 => judge_silence(None, asked),
        420 => Verdict::BadExtension { tags: offending_tags(reply, asked), guessed: false },
        400 if asked.expires > 0 && remaining_tags(asked) != 0 => {
            Verdict::BadExtension { tags: remaining_tags(asked), guessed: true }
        }
        423 => {
            let told = reply.min_expires.is_some();
            let ask = reply.min_expires.unwrap_or_else(|| asked.expires.saturating_mul(2));
            if ask > asked.expires && ask <= MAX_EXPIRES { Verdict::TooBrief { ask, told } } else { failed }
        }
        503 => outage(true, retry_after_s),
        500 => outage(false, retry_after_s),
        413 | 480 | 486 | 600 | 603 => {
            Verdict::Failed { way: false, retry_after_s, whole_registrar: false, outage: false }
        }
        // A bad gateway or a server timeout is spoken by what stands between.
        502 | 504 => outage(true, None),
        501..=599 => outage(false, None),
        _ => failed,
    }
}

/// Silence, or what an EdgePort does that keeps offering a refused password without end: nobody hears of it until Timer F.
fn judge_silence(at: Option<Hop>, asked: Asked<'_>) -> Verdict {
    let around = asked.around;
    let through_an_edge_port = at != Some(Hop::Registrar) && around.has_credentials && asked.expires > 0;
    // Registrar and EdgePort both worked for others after that, so it is this trunk: else one of them may have died.
    let worked_since = |then| {
        let since = |worked: Option<Moment>| worked.is_some_and(|worked| worked >= then);
        since(around.others_registered) && since(around.edge_responded)
    };
    // A trunk that has never registered may as well have the wrong password from the start.
    // But where it met with silence elsewhere first, where it was registered, that may be an outage that has only begun: once is not enough.
    let outage = asked.silent_elsewhere && asked.silent_since.is_none();
    let never = asked.never_registered && !outage && worked_since(asked.sent_at.minus(SAME_TIME));
    // Nor does an EdgePort that is down to one that was registered elsewhere tell anything of its password.
    let edge_is_down = around.edge == EdgeStanding::Silent && asked.silent_elsewhere;
    let never_alone = asked.never_registered && asked.silent_since.is_some() && around.alone && !edge_is_down;
    let this_trunks = worked_since(asked.silent_since.unwrap_or(asked.sent_at));
    let its_own = this_trunks || never || never_alone || asked.refused_before;
    if through_an_edge_port && asked.took_ms >= MADE_UP_FROM && its_own {
        Verdict::Rejected { inferred: true }
    } else {
        Verdict::Silent
    }
}

/// The granted expiry, in seconds; never more than what was asked. `None` where the registrar granted nothing.
///
/// That of *our* Contact, where the Requester recognises it. Else the least positive one counts, for another binding may be
/// older or younger than ours; but one that equals what is left of the binding held before is that binding's, and says nothing of the new one.
fn granted(reply: &Reply, asked: Asked<'_>) -> Option<u32> {
    if asked.expires == 0 {
        return Some(0);
    }
    let header = reply.expires.map(|seconds| u32::try_from(seconds).unwrap_or(0));
    let default = header.unwrap_or(asked.expires);
    let own = reply.bindings.iter().find(|binding| binding.own);
    let expires = if let Some(own) = own {
        own.expires.unwrap_or(default)
    } else {
        let listed: Vec<u32> = match (reply.bindings.as_slice(), reply.contact_expires) {
            ([], None) => vec![default],
            ([], Some(first)) => vec![u32::try_from(first).unwrap_or(0)],
            (all, _) => all.iter().map(|binding| binding.expires.unwrap_or(default)).collect(),
        };
        let mut positive: Vec<u32> = listed.into_iter().filter(|seconds| *seconds > 0).collect();
        let before = positive.iter().position(|seconds| is_what_is_left(*seconds, asked.held));
        match (before, asked.held) {
            // The others are no older than ours, or another device's: none makes ours last longer than it did.
            (Some(before), Some(held)) => {
                positive.swap_remove(before);
                positive.into_iter().min().unwrap_or(held.granted_s).min(held.granted_s)
            }
            _ => positive.into_iter().min().unwrap_or(header.unwrap_or(0)),
        }
    };
    let longest = if asked.longest_s > 0 { asked.longest_s } else { MAX_EXPIRES };
    (expires > 0).then(|| expires.min(asked.expires).min(longest))
}

/// Whether a registrar may hold a binding for longer than a success seems to grant: the expiry is that of a Contact of which nothing
/// says that it is ours, and more was asked.
pub fn may_last_longer(answer: &Result<Reply, SendError>, verdict: &Verdict, asked_s: u32) -> bool {
    let Verdict::Registered { expires_s } = verdict else { return false };
    let guessed = |reply: &Reply| {
        let listed = !reply.bindings.is_empty() || reply.contact_expires.is_some();
        listed && !reply.bindings.iter().any(|binding| binding.own)
    };
    *expires_s < asked_s && answer.as_ref().is_ok_and(guessed)
}

fn is_what_is_left(seconds: u32, held: Option<Held>) -> bool {
    let Some(held) = held else { return false };
    let (least, most) = (held.left_now / 1_000, held.left_then.div_ceil(1_000));
    (least.saturating_sub(SAME_BINDING)..=most + SAME_BINDING).contains(&u64::from(seconds))
}

/// The targets of a redirection that are followed.
fn offers(code: u16, reply: &Reply, asked: Asked<'_>) -> Vec<RedirectOffer> {
    let Some((from, policy)) = asked.redirects else { return Vec::new() };
    let offer = |one: &RedirectContact| {
        let permission = policy.permission(from, &one.to.address.host);
        (permission != Permission::Refuse).then(|| RedirectOffer {
            to: one.to.clone(),
            hold: hold(code, one.expires, reply, policy.max_s),
            without_credentials: permission == Permission::WithoutCredentials,
        })
    };
    reply.targets.iter().filter_map(offer).collect()
}

/// How long a redirection holds. A 301 says for ever, and may be forged or out of date: it holds no longer than others.
fn hold(code: u16, expires: Option<u32>, reply: &Reply, max_s: u32) -> Hold {
    let of_message = || reply.contact_expires.or(reply.expires).and_then(|s| u32::try_from(s).ok());
    match (code, expires.or_else(of_message).filter(|seconds| *seconds > 0)) {
        (301, None) => Hold::Seconds(max_s),
        (301 | 302, Some(seconds)) => Hold::Seconds(seconds.min(max_s)),
        _ => Hold::Once,
    }
}

fn tag_bits(asked: Asked<'_>, wanted: impl Fn(&str) -> bool) -> u32 {
    let wanted = asked.tags.iter().take(32).enumerate().filter(|(_, tag)| wanted(tag));
    wanted.fold(0_u32, |bits, (position, _)| bits | 1 << position) & !asked.without_tags
}

fn remaining_tags(asked: Asked<'_>) -> u32 {
    tag_bits(asked, |_| true)
}

/// Which of our option tags a 420 objects to; where it names none of them, gin, else all that are left.
fn offending_tags(reply: &Reply, asked: Asked<'_>) -> u32 {
    let named = tag_bits(asked, |tag| reply.unsupported.iter().any(|one| one.eq_ignore_ascii_case(tag)));
    let gin = tag_bits(asked, |tag| tag.eq_ignore_ascii_case("gin"));
    [named, gin, remaining_tags(asked)].into_iter().find(|tags| *tags != 0).unwrap_or(0)
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
