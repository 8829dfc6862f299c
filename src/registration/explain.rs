//! The words for a failure: who failed, what they said, what to do. The cause comes first, for texts are cut at their end.

use super::{
    classify::{Asked, EdgeStanding, MADE_UP_FROM, made_up},
    reply::{Cause, Reason, Verdict},
};
use crate::{
    ports::{Authentication, Hop, Local, LocalKind, Reply},
    text::clean,
};

/// Bytes of a registrar's phrase that are shown.
const MAX_PHRASE: usize = 200;
/// Targets of a redirection that are named.
const MAX_TARGETS: usize = 3;
/// Bytes of what our own Requester says that are shown: a TLS error names two certificates.
const MAX_LOCAL: usize = 600;

pub(super) fn explain(reply: &Reply, verdict: &Verdict, asked: Asked<'_>) -> Cause {
    if matches!(verdict, Verdict::Rejected { inferred: true }) {
        return inferred_rejection(asked);
    }
    if let Some(local) = made_up(reply) {
        return of_requester(reply, local, asked);
    }
    if *verdict == Verdict::Silent && (reply.code == Some(408) && asked.took_ms >= MADE_UP_FROM) {
        return silence(asked);
    }
    let said = match (reply.code, &*reply.phrase) {
        (Some(code), "") => format!("the registrar responded with {code}"),
        (Some(code), phrase) => format!("the registrar responded with {code} {}", clean(phrase, MAX_PHRASE)),
        (None, _) => "the response has an unknown response type".to_owned(),
    };
    let (reason, hint) = redirected(reply, verdict, asked).unwrap_or_else(|| hint(reply, verdict));
    let wait = match verdict {
        Verdict::Failed { retry_after_s: Some(seconds), .. } => {
            format!(", and asked to wait {seconds} s")
        }
        _ => String::new(),
    };
    Cause { reason, code: reply.code, message: format!("{said}{hint}{wait}").into() }
}

/// What a redirection to another domain comes to, where that is the reason.
fn redirected(reply: &Reply, verdict: &Verdict, asked: Asked<'_>) -> Option<(Reason, String)> {
    if !matches!(verdict, Verdict::Failed { .. }) {
        return None;
    }
    if asked.without_credentials && matches!(reply.code, Some(401 | 403 | 407)) {
        let hint = format!(
            "; a redirection led from the trunk's registrar to {}, which belongs to another domain, so no \
             credentials were offered there: set spec.registration.redirects.credentials: true if it may \
             have them",
            asked.around.registrar
        );
        return Some((Reason::RedirectNotAllowed, hint));
    }
    let (from, _) = asked.redirects.filter(|_| matches!(reply.code, Some(300 | 301 | 302 | 305)))?;
    let targets: Vec<String> =
        reply.targets.iter().take(MAX_TARGETS).map(|target| target.to.to_string()).collect();
    if targets.is_empty() {
        return None;
    }
    let hint = format!(
        ": the redirection to {} is not followed, because it leads to a domain other than that of {from}; \
         add the target to spec.registration.redirects.domains if the provider meant that",
        clean(&targets.join(", "), MAX_PHRASE)
    );
    Some((Reason::RedirectNotAllowed, hint))
}

fn hint(reply: &Reply, verdict: &Verdict) -> (Reason, String) {
    let plain = |reason, hint: &str| (reason, hint.to_owned());
    match (verdict, &reply.authentication) {
        (Verdict::Failed { .. }, Some(Authentication::Stale)) => plain(
            Reason::StaleNonce,
            " again and again: it accepts the password, and calls each of its own nonces too old; its nodes may not share \
             their nonces",
        ),
        (Verdict::Failed { .. }, Some(Authentication::NotSent(asked))) => not_sent(reply.code, asked),
        (Verdict::Failed { .. }, Some(Authentication::TooWeak(offered))) => (
            Reason::DigestTooWeak,
            format!(
                "; no credentials were sent to this challenge: {}; ask the provider for more, or lower spec.registration.digest or the \
                 trunk's extended.digest",
                clean(offered, MAX_PHRASE)
            ),
        ),
        (Verdict::Rejected { .. }, _) => plain(Reason::CredentialsRejected, "; check username and password"),
        (Verdict::UnknownAccount { .. }, _) => {
            plain(Reason::UnknownAccount, "; check user and host of the trunk's URI")
        }
        (Verdict::Silent, _) => plain(Reason::NoAnswer, ": what it asked for did not respond in time"),
        (Verdict::Unknown, _) => plain(Reason::OutcomeUnknown, " as if that were final"),
        (Verdict::TooBrief { .. }, _) => plain(Reason::IntervalTooBrief, ""),
        (Verdict::BadExtension { guessed: false, .. }, _) => plain(Reason::BadExtension, ""),
        (Verdict::Redirected { .. }, _) => plain(Reason::RedirectFailed, ""),
        (Verdict::Failed { retry_after_s: Some(_), .. }, _) => plain(Reason::AskedToWait, ""),
        (Verdict::Failed { .. }, _) => match reply.code {
            None => plain(Reason::MalformedReply, ""),
            Some(200..=299) => plain(Reason::MalformedReply, ", but granted no time"),
            Some(300 | 301 | 302 | 305) => plain(Reason::RedirectFailed, ", but named no Contact"),
            Some(423) => {
                plain(Reason::IntervalTooBrief, ", with a Min-Expires that is not above what was asked")
            }
            Some(500..=599) => plain(Reason::RegistrarFailed, ""),
            Some(_) => plain(Reason::Refused, ""),
        },
        (Verdict::BadExtension { guessed: true, .. }, _)
        | (
            Verdict::Registered { .. }
            | Verdict::Unavailable
            | Verdict::CallFailed { .. }
            | Verdict::WayRefused,
            _,
        ) => plain(Reason::Refused, ""),
    }
}

fn not_sent(code: Option<u16>, asked: &str) -> (Reason, String) {
    let asked = clean(asked, MAX_PHRASE);
    match (code, asked.as_str()) {
        (Some(403), _) => (
            Reason::Forbidden,
            " before it asked for credentials: it may not know this account, or not accept this source address".to_owned(),
        ),
        (_, "") => (Reason::ChallengeNotSupported, ", with a challenge that cannot be answered".to_owned()),
        (_, asked) => {
            (Reason::ChallengeNotSupported, format!("; no credentials were sent: {asked}"))
        }
    }
}

fn inferred_rejection(asked: Asked<'_>) -> Cause {
    let around = asked.around;
    let evidence = if around.others_registered.is_some() {
        "while other trunks register there"
    } else {
        "again and again, and the trunk has never registered"
    };
    let message = format!(
        "check username and password: no response from registrar {} within {} s through EdgePort {}, \
         {evidence}; an EdgePort that keeps offering a rejected password looks like this",
        around.registrar,
        asked.took_ms / 1_000,
        around.edge_port,
    );
    Cause { reason: Reason::CredentialsRejected, code: None, message: message.into() }
}

/// Silence that nobody explains: a 408 that took as long as a transaction lasts, made up by the Requester or an EdgePort.
fn silence(asked: Asked<'_>) -> Cause {
    let around = asked.around;
    let (registrar, edge, seconds) = (around.registrar, around.edge_port, asked.took_ms / 1_000);
    let (reason, message) = match around.edge {
        EdgeStanding::Silent => (
            Reason::EdgePortFailed,
            format!(
                "EdgePort {edge} does not respond: no registrar responds through it; check that it runs, and \
                 its address in edgePorts (the last try waited {seconds} s)"
            ),
        ),
        EdgeStanding::Answering => (
            Reason::NoAnswer,
            format!(
                "no response from registrar {registrar} within {seconds} s; EdgePort {edge} works for others, so the registrar is \
                 down or drops the request, or the password is wrong"
            ),
        ),
        EdgeStanding::NeverAnswered | EdgeStanding::Unknown => {
            let so_far = if around.edge == EdgeStanding::NeverAnswered {
                "; nothing has come through this EdgePort so far"
            } else {
                ""
            };
            (
                Reason::NoAnswer,
                format!(
                    "no response from registrar {registrar} through EdgePort {edge} within {seconds} s{so_far}: one of them is down, or the \
                     password is wrong"
                ),
            )
        }
    };
    Cause { reason, code: None, message: message.into() }
}

/// A response that the Requester made up itself. There is no code in it that a registrar sent.
fn of_requester(reply: &Reply, local: Local, asked: Asked<'_>) -> Cause {
    if local.kind == LocalKind::Timeout && local.at != Some(Hop::Registrar) {
        return silence(asked);
    }
    let (registrar, edge) = (asked.around.registrar, asked.around.edge_port);
    let reason = match (local.at, local.kind) {
        (Some(Hop::EdgePort), _) => Reason::EdgePortFailed,
        (_, LocalKind::Timeout) => Reason::NoAnswer,
        (_, LocalKind::Transport) => Reason::Unreachable,
        (_, LocalKind::Tls) => Reason::TlsFailed,
        (_, LocalKind::UnknownHost) => Reason::UnknownHost,
    };
    let to = match local.at {
        Some(Hop::Registrar) => format!("registrar {registrar}"),
        Some(Hop::EdgePort) => format!("EdgePort {edge}"),
        None => format!("registrar {registrar} through EdgePort {edge}"),
    };
    let why = clean(&reply.phrase, MAX_LOCAL);
    let message = match (local.at, why.as_str()) {
        // Ours names the hop itself.
        (Some(_), why) if !why.is_empty() => why.to_owned(),
        (_, "") => format!("the Requester could not reach {to}"),
        (None, why) => format!("{why} (the Requester's own words: it could not reach {to})"),
        (Some(_), why) => why.to_owned(),
    };
    Cause { reason, code: None, message: message.into() }
}
