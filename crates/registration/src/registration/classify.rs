//! SIP response -> [`Outcome`], and the words for it. A SIP rejection is an outcome, not an error.

use super::{
    explain::explain,
    outcome::{Failure, Outcome, Reason, RedirectLifetime, RedirectOffer},
    redirect_policy::{Permission, RedirectPolicy},
    time::Moment,
};
use crate::model::{RedirectContact, RegisterResponse, SendError};
use routr_types::extension::{Authentication, Hop, Local, LocalKind};

/// The longest expiry that is believed, in seconds.
pub(super) const MAX_EXPIRES_S: u32 = 86_400;
/// A response after this time, in milliseconds, is one that someone made up: Timer F (RFC 3261 §17.1.2.2) is
/// over by then.
pub const TRANSACTION_TIMEOUT_MS: u64 = 30_000;
/// Seconds by which an expiry may be off from what is left of another binding, to be taken for that
/// binding's.
const SAME_BINDING_S: u64 = 2;
/// Trunks register at the same time where it is within so many milliseconds.
const SAME_TIME_MS: u64 = 2 * 60 * 1_000;
/// Phrase of the 503 that Routr's Java Requester makes up when a connection fails.
const JAVA_TRANSPORT_ERROR: &str = "transport error";

/// Context of a request, as far as the meaning of the response depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestContext<'a> {
    /// Requested expiry in seconds; 0 for a removal.
    pub expires: u32,
    /// The configured option tags.
    pub tags: &'a [String],
    /// Those that were left out already, one bit for each.
    pub without_tags: u32,
    /// Time at which it was sent.
    pub sent_at: Moment,
    /// Time that the response took, in milliseconds.
    pub took_ms: u64,
    /// The binding that was held when the request was sent.
    pub held: Option<PriorBinding>,
    /// The trunk has never been registered with what it offers now.
    pub never_registered: bool,
    /// The attempt before this one met with silence: when the first of those in a row was sent.
    pub silent_since: Option<Moment>,
    /// Since its last success it has met with silence at another registrar, and it was registered at another
    /// one.
    pub silent_elsewhere: bool,
    /// The attempt before this one was refused, or taken for that.
    pub refused_before: bool,
    /// Facts about the path, from other trunks.
    pub route: RouteHealth<'a>,
    /// Host of the trunk's URI, and where that may redirect to; `None`: nowhere.
    pub redirects: Option<(&'a str, &'a RedirectPolicy)>,
    /// It was redirected to another domain, where its credentials were not offered.
    pub without_credentials: bool,
    /// The longest expiry that is counted on, in seconds, because a 423 asked for more than is configured; 0
    /// for no bound.
    pub longest_s: u32,
}

/// The binding before a refresh.
#[derive(Clone, Copy, Debug)]
pub struct PriorBinding {
    /// Time that was left of it when the request was sent, in milliseconds,
    pub left_then: u64,
    /// and when the response came.
    pub left_now: u64,
    /// Expiry that was granted, in seconds.
    pub granted_s: u32,
}

/// Facts about the path that a request took, from other trunks.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteHealth<'a> {
    /// The registrar, as a message names it.
    pub registrar: &'a str,
    /// The EdgePort, as a message names it.
    pub edge_port: &'a str,
    /// Health of the EdgePort.
    pub edge: EdgePortHealth,
    /// Time at which the latest REGISTER of another trunk was sent that this registrar accepted.
    pub others_registered: Option<Moment>,
    /// Time at which the latest request was sent that was answered through this EdgePort.
    pub edge_responded: Option<Moment>,
    /// No other trunk uses this registrar.
    pub alone: bool,
    /// The trunk has a password that could be offered again and again.
    pub has_credentials: bool,
    /// Calls of several trunks fail in a row, or no connection can be made: a call that fails is not this
    /// trunk's own failure.
    pub requester_down: bool,
    /// Other calls were under way at the same time, or the connection had brought a response to another one:
    /// of a connection that breaks, this call need not be the reason.
    pub among_others: bool,
}

/// Health of an EdgePort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EdgePortHealth {
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
pub fn classify(
    answer: &Result<RegisterResponse, SendError>,
    asked: RequestContext<'_>,
) -> (Outcome, Failure) {
    let outcome = match answer {
        Ok(response) => classify_response(response, asked),
        Err(SendError::Deadline(_)) => Outcome::Timeout,
        Err(SendError::Unavailable(_)) => Outcome::RequesterUnavailable,
        Err(SendError::Disconnected { .. }) => Outcome::CallFailed { broken: true },
        Err(SendError::Failed(_)) => Outcome::CallFailed { broken: false },
        Err(SendError::Refused(_)) => Outcome::RequesterRefused,
    };
    let cause = match answer {
        Ok(response) => explain(response, &outcome, asked),
        Err(error) => explain_error(error, asked),
    };
    (outcome, cause)
}

fn explain_error(error: &SendError, asked: RequestContext<'_>) -> Failure {
    let reason = match error {
        SendError::Deadline(_) => Reason::Timeout,
        SendError::Unavailable(_) | SendError::Disconnected { .. } | SendError::Failed(_) => {
            Reason::RequesterUnavailable
        }
        SendError::Refused(_) => Reason::RequesterRefused,
    };
    let edge = asked.route.edge_port;
    let hint = match (error, asked.route.edge) {
        // Routr's Java Requester never responds, and burns a core, when the EdgePort's name does not resolve.
        (SendError::Deadline(_), EdgePortHealth::NeverAnswered | EdgePortHealth::Silent) => format!(
            "; nothing has come through EdgePort {edge} so far: check that its name in edgePorts resolves where the \
             Requester runs, and that it is up"
        ),
        (SendError::Deadline(_), _) => {
            format!(" for registrar {} through EdgePort {edge}", asked.route.registrar)
        }
        _ => String::new(),
    };
    Failure { reason, code: None, message: format!("{error}{hint}").into() }
}

/// Returns what the Requester says, or Routr's Java one shows by its words, to have made up itself.
pub fn synthesized(response: &RegisterResponse) -> Option<Local> {
    let java = response.code == Some(503)
        && response.retry_after.is_none()
        && response.phrase.to_ascii_lowercase().starts_with(JAVA_TRANSPORT_ERROR);
    response.local.or(java.then_some(Local { kind: LocalKind::Transport, at: None }))
}

fn classify_response(response: &RegisterResponse, asked: RequestContext<'_>) -> Outcome {
    let retry_after_s = response.retry_after;
    let failed = Outcome::Failed {
        edge_port_suspect: false,
        retry_after_s: None,
        whole_registrar: false,
        outage: false,
    };
    let outage = |edge_port_suspect, retry_after_s| Outcome::Failed {
        edge_port_suspect,
        retry_after_s,
        whole_registrar: response.code == Some(503),
        outage: true,
    };
    match synthesized(response) {
        // An EdgePort is a proxy: silence behind it may be its own or the registrar's.
        Some(Local { kind: LocalKind::Timeout, at }) => return classify_timeout(at, asked),
        Some(local) => {
            let edge_port_suspect = local.at != Some(Hop::Registrar);
            return Outcome::Failed {
                edge_port_suspect,
                retry_after_s: None,
                whole_registrar: false,
                outage: true,
            };
        }
        None => {}
    }
    let Some(code) = response.code else { return failed };
    match code {
        100..=199 => Outcome::Unknown,
        200..=299 => match granted(response, asked) {
            Some(expires_s) => Outcome::Registered { expires_s },
            None => failed,
        },
        300 | 301 | 302 | 305 => {
            let targets = offers(code, response, asked);
            if targets.is_empty() { failed } else { Outcome::Redirected { targets } }
        }
        // What is asked for there is not offered there.
        401 | 403 | 407 if asked.without_credentials => failed,
        // No credentials were sent, or the password is right: other targets may be wiser, and no account is
        // at risk.
        401 | 403 | 407
            if matches!(
                response.authentication,
                Some(Authentication::NotSent(_) | Authentication::TooWeak(_) | Authentication::Stale)
            ) =>
        {
            failed
        }
        401 | 403 | 407 => Outcome::CredentialsRejected { inferred: false },
        404 => Outcome::UnknownAccount { retry_after_s },
        410 | 604 => Outcome::UnknownAccount { retry_after_s: None },
        408 => classify_timeout(None, asked),
        420 => Outcome::BadExtension { tags: offending_tags(response, asked), guessed: false },
        400 if asked.expires > 0 && remaining_tags(asked) != 0 => {
            Outcome::BadExtension { tags: remaining_tags(asked), guessed: true }
        }
        423 => {
            let from_registrar = response.min_expires.is_some();
            let ask = response.min_expires.unwrap_or_else(|| asked.expires.saturating_mul(2));
            if ask > asked.expires && ask <= MAX_EXPIRES_S {
                Outcome::IntervalTooBrief { ask, from_registrar }
            } else {
                failed
            }
        }
        503 => outage(true, retry_after_s),
        500 => outage(false, retry_after_s),
        413 | 480 | 486 | 600 | 603 => {
            Outcome::Failed { edge_port_suspect: false, retry_after_s, whole_registrar: false, outage: false }
        }
        // A bad gateway or a server timeout is spoken by what stands between.
        502 | 504 => outage(true, None),
        501..=599 => outage(false, None),
        _ => failed,
    }
}

/// Silence, or what an EdgePort does that keeps offering a refused password without end: no one hears of it
/// until Timer F.
fn classify_timeout(at: Option<Hop>, asked: RequestContext<'_>) -> Outcome {
    let route = asked.route;
    let through_an_edge_port = at != Some(Hop::Registrar) && route.has_credentials && asked.expires > 0;
    // Registrar and EdgePort both worked for others after that, so it is this trunk: else one of them may
    // have died.
    let worked_since = |then| {
        let since = |worked: Option<Moment>| worked.is_some_and(|worked| worked >= then);
        since(route.others_registered) && since(route.edge_responded)
    };
    // A trunk that has never registered may as well have the wrong password from the start. But where it met
    // with silence elsewhere first, where it was registered, that may be an outage that has only begun: once
    // is not enough.
    let outage = asked.silent_elsewhere && asked.silent_since.is_none();
    let never = asked.never_registered && !outage && worked_since(asked.sent_at.minus(SAME_TIME_MS));
    // Nor does an EdgePort that is down to one that was registered elsewhere tell anything of its password.
    let edge_is_down = route.edge == EdgePortHealth::Silent && asked.silent_elsewhere;
    let never_alone = asked.never_registered && asked.silent_since.is_some() && route.alone && !edge_is_down;
    let this_trunks = worked_since(asked.silent_since.unwrap_or(asked.sent_at));
    let its_own = this_trunks || never || never_alone || asked.refused_before;
    if through_an_edge_port && asked.took_ms >= TRANSACTION_TIMEOUT_MS && its_own {
        Outcome::CredentialsRejected { inferred: true }
    } else {
        Outcome::Timeout
    }
}

/// The granted expiry, in seconds; never more than what was asked. `None` where the registrar granted
/// nothing.
///
/// That of *our* Contact, where the Requester recognises it. Else the least positive one counts, for another
/// binding may be older or younger than ours; but one that equals what is left of the binding held before is
/// that binding's, and says nothing of the new one.
fn granted(response: &RegisterResponse, asked: RequestContext<'_>) -> Option<u32> {
    if asked.expires == 0 {
        return Some(0);
    }
    let header = response.expires.map(|seconds| u32::try_from(seconds).unwrap_or(0));
    let default = header.unwrap_or(asked.expires);
    let own = response.bindings.iter().find(|binding| binding.own);
    let expires = if let Some(own) = own {
        own.expires.unwrap_or(default)
    } else {
        let listed: Vec<u32> = match (response.bindings.as_slice(), response.contact_expires) {
            ([], None) => vec![default],
            ([], Some(first)) => vec![u32::try_from(first).unwrap_or(0)],
            (all, _) => all.iter().map(|binding| binding.expires.unwrap_or(default)).collect(),
        };
        let mut positive: Vec<u32> = listed.into_iter().filter(|seconds| *seconds > 0).collect();
        let before = positive.iter().position(|seconds| is_what_is_left(*seconds, asked.held));
        match (before, asked.held) {
            // The others are no older than ours, or another device's: none makes ours last longer than it
            // did.
            (Some(before), Some(held)) => {
                positive.swap_remove(before);
                positive.into_iter().min().unwrap_or(held.granted_s).min(held.granted_s)
            }
            _ => positive.into_iter().min().unwrap_or(header.unwrap_or(0)),
        }
    };
    let longest = if asked.longest_s > 0 { asked.longest_s } else { MAX_EXPIRES_S };
    (expires > 0).then(|| expires.min(asked.expires).min(longest))
}

/// Returns whether a registrar may hold a binding for longer than a success is believed to grant: it says so
/// of our Contact, or it grants less than was asked to a Contact of which nothing says that it is ours.
pub fn may_last_longer(
    answer: &Result<RegisterResponse, SendError>,
    outcome: &Outcome,
    asked_s: u32,
) -> bool {
    let (Outcome::Registered { expires_s }, Ok(response)) = (outcome, answer) else { return false };
    let default = response.expires.map_or(asked_s, |seconds| u32::try_from(seconds).unwrap_or(0));
    match response.bindings.iter().find(|binding| binding.own) {
        Some(own) => own.expires.unwrap_or(default) > *expires_s,
        None if response.bindings.is_empty() && response.contact_expires.is_none() => default > *expires_s,
        None => *expires_s < asked_s,
    }
}

fn is_what_is_left(seconds: u32, held: Option<PriorBinding>) -> bool {
    let Some(held) = held else { return false };
    let (least, most) = (held.left_now / 1_000, held.left_then.div_ceil(1_000));
    (least.saturating_sub(SAME_BINDING_S)..=most + SAME_BINDING_S).contains(&u64::from(seconds))
}

/// The targets of a redirection that are followed.
fn offers(code: u16, response: &RegisterResponse, asked: RequestContext<'_>) -> Vec<RedirectOffer> {
    let Some((from, policy)) = asked.redirects else { return Vec::new() };
    let offer = |one: &RedirectContact| {
        let permission = policy.permission(from, &one.to.address.host);
        (permission != Permission::Refuse).then(|| RedirectOffer {
            to: one.to.clone(),
            hold: hold(code, one.expires, response, policy.max_s),
            without_credentials: permission == Permission::WithoutCredentials,
        })
    };
    response.targets.iter().filter_map(offer).collect()
}

/// Returns how long a redirection holds. A 301 says for ever, and may be forged or out of date: it holds no
/// longer than others.
fn hold(code: u16, expires: Option<u32>, response: &RegisterResponse, max_s: u32) -> RedirectLifetime {
    let of_message = || response.contact_expires.or(response.expires).and_then(|s| u32::try_from(s).ok());
    match (code, expires.or_else(of_message).filter(|seconds| *seconds > 0)) {
        (301, None) => RedirectLifetime::Seconds(max_s),
        (301 | 302, Some(seconds)) => RedirectLifetime::Seconds(seconds.min(max_s)),
        _ => RedirectLifetime::Once,
    }
}

fn tag_bits(asked: RequestContext<'_>, wanted: impl Fn(&str) -> bool) -> u32 {
    let wanted = asked.tags.iter().take(32).enumerate().filter(|(_, tag)| wanted(tag));
    wanted.fold(0_u32, |bits, (index, _)| bits | 1 << index) & !asked.without_tags
}

fn remaining_tags(asked: RequestContext<'_>) -> u32 {
    tag_bits(asked, |_| true)
}

/// Returns which of our option tags a 420 objects to; where it names none of them, gin, else all that are
/// left.
fn offending_tags(response: &RegisterResponse, asked: RequestContext<'_>) -> u32 {
    let named = tag_bits(asked, |tag| response.unsupported.iter().any(|one| one.eq_ignore_ascii_case(tag)));
    let gin = tag_bits(asked, |tag| tag.eq_ignore_ascii_case("gin"));
    [named, gin, remaining_tags(asked)].into_iter().find(|tags| *tags != 0).unwrap_or(0)
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
