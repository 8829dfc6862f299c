//! The words for a failure: who failed, what they said, what to do. The cause comes first, for texts are cut
//! at their end.

use super::{
    classify::{EdgePortHealth, RequestContext, TRANSACTION_TIMEOUT_MS, synthesized},
    outcome::{Failure, Outcome, Reason},
};
use crate::model::RegisterResponse;
use routr_types::{
    extension::{Authentication, Hop, Local, LocalKind},
    text::clean,
};

/// Bytes of a registrar's phrase that are shown.
const MAX_PHRASE_BYTES: usize = 200;
/// Targets of a redirection that are named.
const MAX_NAMED_TARGETS: usize = 3;
/// Bytes of what our own Requester says that are shown: a TLS error names two certificates.
const MAX_LOCAL_BYTES: usize = 600;

pub(super) fn explain(response: &RegisterResponse, outcome: &Outcome, asked: RequestContext<'_>) -> Failure {
    if matches!(outcome, Outcome::CredentialsRejected { inferred: true }) {
        return inferred_rejection(asked);
    }
    if let Some(local) = synthesized(response) {
        return of_requester(response, local, asked);
    }
    if *outcome == Outcome::Timeout && (response.code == Some(408) && asked.took_ms >= TRANSACTION_TIMEOUT_MS)
    {
        return silence(asked);
    }
    let said = match (response.code, &*response.phrase) {
        (Some(code), "") => format!("the registrar responded with {code}"),
        (Some(code), phrase) => {
            format!("the registrar responded with {code} {}", clean(phrase, MAX_PHRASE_BYTES))
        }
        (None, _) => "the response has an unknown response type".to_owned(),
    };
    let (reason, hint) = redirected(response, outcome, asked).unwrap_or_else(|| hint(response, outcome));
    let wait = match outcome {
        Outcome::Failed { retry_after_s: Some(seconds), .. } => {
            format!(", and asked to wait {seconds} s")
        }
        _ => String::new(),
    };
    Failure { reason, code: response.code, message: format!("{said}{hint}{wait}").into() }
}

/// Returns what a redirection to another domain comes to, where that is the reason.
fn redirected(
    response: &RegisterResponse,
    outcome: &Outcome,
    asked: RequestContext<'_>,
) -> Option<(Reason, String)> {
    if !matches!(outcome, Outcome::Failed { .. }) {
        return None;
    }
    if asked.without_credentials && matches!(response.code, Some(401 | 403 | 407)) {
        let hint = format!(
            "; a redirection led from the trunk's registrar to {}, which belongs to another domain, so no \
             credentials were offered there: set spec.registration.redirects.credentials: true if it may \
             have them",
            asked.route.registrar
        );
        return Some((Reason::RedirectNotAllowed, hint));
    }
    let (from, _) = asked.redirects.filter(|_| matches!(response.code, Some(300 | 301 | 302 | 305)))?;
    let targets: Vec<String> =
        response.targets.iter().take(MAX_NAMED_TARGETS).map(|target| target.to.to_string()).collect();
    if targets.is_empty() {
        return None;
    }
    let hint = format!(
        ": the redirection to {} is not followed, because it leads to a domain other than that of {from}; \
         add the target to spec.registration.redirects.domains if the provider meant that",
        clean(&targets.join(", "), MAX_PHRASE_BYTES)
    );
    Some((Reason::RedirectNotAllowed, hint))
}

fn hint(response: &RegisterResponse, outcome: &Outcome) -> (Reason, String) {
    let plain = |reason, hint: &str| (reason, hint.to_owned());
    match (outcome, &response.authentication) {
        (Outcome::Failed { .. }, Some(Authentication::Stale)) => plain(
            Reason::StaleNonce,
            " again and again: it accepts the password, and calls each of its own nonces too old; its nodes may not share \
             their nonces",
        ),
        (Outcome::Failed { .. }, Some(Authentication::NotSent(asked))) => not_sent(response.code, asked),
        (Outcome::Failed { .. }, Some(Authentication::TooWeak(offered))) => (
            Reason::DigestTooWeak,
            format!(
                "; no credentials were sent to this challenge: {}; ask the provider for more, or lower spec.registration.digest or the \
                 trunk's extended.digest",
                clean(offered, MAX_PHRASE_BYTES)
            ),
        ),
        (Outcome::CredentialsRejected { .. }, _) => {
            plain(Reason::CredentialsRejected, "; check username and password")
        }
        (Outcome::UnknownAccount { .. }, _) => {
            plain(Reason::UnknownAccount, "; check user and host of the trunk's URI")
        }
        (Outcome::Timeout, _) => plain(Reason::Timeout, ": what it asked for did not respond in time"),
        (Outcome::Unknown, _) => plain(Reason::OutcomeUnknown, " as if that were final"),
        (Outcome::IntervalTooBrief { .. }, _) => plain(Reason::IntervalTooBrief, ""),
        (Outcome::BadExtension { guessed: false, .. }, _) => plain(Reason::BadExtension, ""),
        (Outcome::Redirected { .. }, _) => plain(Reason::RedirectFailed, ""),
        (Outcome::Failed { retry_after_s: Some(_), .. }, _) => plain(Reason::RetryAfter, ""),
        (Outcome::Failed { .. }, _) => match response.code {
            None => plain(Reason::MalformedResponse, ""),
            Some(200..=299) => plain(Reason::MalformedResponse, ", but granted no time"),
            Some(300 | 301 | 302 | 305) => plain(Reason::RedirectFailed, ", but named no Contact"),
            Some(423) => {
                plain(Reason::IntervalTooBrief, ", with a Min-Expires that is not above what was asked")
            }
            Some(416) => plain(
                Reason::Refused,
                "; over TLS, tlsUriScheme in spec.registration or the trunk's extended chooses between sips: and sip:",
            ),
            Some(500..=599) => plain(Reason::RegistrarFailed, ""),
            Some(_) => plain(Reason::Refused, ""),
        },
        (Outcome::BadExtension { guessed: true, .. }, _)
        | (
            Outcome::Registered { .. }
            | Outcome::RequesterUnavailable
            | Outcome::CallFailed { .. }
            | Outcome::RequesterRefused,
            _,
        ) => plain(Reason::Refused, ""),
    }
}

fn not_sent(code: Option<u16>, asked: &str) -> (Reason, String) {
    let asked = clean(asked, MAX_PHRASE_BYTES);
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

fn inferred_rejection(asked: RequestContext<'_>) -> Failure {
    let route = asked.route;
    let evidence = if route.others_registered.is_some() {
        "while other trunks register there"
    } else {
        "again and again, and the trunk has never registered"
    };
    let message = format!(
        "check username and password: no response from registrar {} within {} s through EdgePort {}, \
         {evidence}; an EdgePort that keeps offering a rejected password looks like this",
        route.registrar,
        asked.took_ms / 1_000,
        route.edge_port,
    );
    Failure { reason: Reason::CredentialsRejected, code: None, message: message.into() }
}

/// Silence that no one explains: a 408 that took as long as a transaction lasts, made up by the Requester or
/// an EdgePort.
fn silence(asked: RequestContext<'_>) -> Failure {
    let route = asked.route;
    let (registrar, edge, seconds) = (route.registrar, route.edge_port, asked.took_ms / 1_000);
    let (reason, message) = match route.edge {
        EdgePortHealth::Silent => (
            Reason::EdgePortFailed,
            format!(
                "EdgePort {edge} does not respond: no registrar responds through it; check that it runs, and \
                 its address in edgePorts (the last try waited {seconds} s)"
            ),
        ),
        EdgePortHealth::Answering => (
            Reason::Timeout,
            format!(
                "no response from registrar {registrar} within {seconds} s; EdgePort {edge} works for others, so the registrar is \
                 down or drops the request, or the password is wrong"
            ),
        ),
        EdgePortHealth::NeverAnswered | EdgePortHealth::Unknown => {
            let so_far = if route.edge == EdgePortHealth::NeverAnswered {
                "; nothing has come through this EdgePort so far"
            } else {
                ""
            };
            (
                Reason::Timeout,
                format!(
                    "no response from registrar {registrar} through EdgePort {edge} within {seconds} s{so_far}: one of them is down, or the \
                     password is wrong"
                ),
            )
        }
    };
    Failure { reason, code: None, message: message.into() }
}

/// A response that the Requester made up itself. There is no code in it that a registrar sent.
fn of_requester(response: &RegisterResponse, local: Local, asked: RequestContext<'_>) -> Failure {
    if local.kind == LocalKind::Timeout && local.at != Some(Hop::Registrar) {
        return silence(asked);
    }
    let (registrar, edge) = (asked.route.registrar, asked.route.edge_port);
    let reason = match (local.at, local.kind) {
        (Some(Hop::EdgePort), _) => Reason::EdgePortFailed,
        (_, LocalKind::Timeout) => Reason::Timeout,
        (_, LocalKind::Transport) => Reason::Unreachable,
        (_, LocalKind::Tls) => Reason::TlsFailed,
        (_, LocalKind::UnknownHost) => Reason::UnknownHost,
    };
    let to = match local.at {
        Some(Hop::Registrar) => format!("registrar {registrar}"),
        Some(Hop::EdgePort) => format!("EdgePort {edge}"),
        None => format!("registrar {registrar} through EdgePort {edge}"),
    };
    let why = clean(&response.phrase, MAX_LOCAL_BYTES);
    let message = match (local.at, why.as_str()) {
        // Ours names the hop itself.
        (Some(_), why) if !why.is_empty() => why.to_owned(),
        (_, "") => format!("the Requester could not reach {to}"),
        (None, why) => format!("{why} (the Requester's own words: it could not reach {to})"),
        (Some(_), why) => why.to_owned(),
    };
    Failure { reason, code: None, message: message.into() }
}
