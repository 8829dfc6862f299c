//! Responses of a registrar: RFC 3261 §10.3, modified by its configured behaviour.

use std::{net::SocketAddr, time::Duration};

use super::{
    State,
    behaviour::Behaviour,
    bindings::{Binding, Contacts, Outcome, Refusal, Update},
    journal::Seen,
    nonce::Worth,
    options::RegistrarOptions,
};
use routr_sip::{
    digest::{Authorization, Challenge, Qop, verify},
    message::{Request, Response},
    uri::{NameAddr, SipUri},
};
use routr_types::host::Transport;

/// Delivery of a response.
pub(super) enum Delivery {
    /// Nothing.
    Nothing,
    /// The connection is closed.
    Disconnect,
    /// Responses.
    Send {
        /// Provisional response, sent at once, before the final one.
        provisional: Option<Response>,
        /// Delay of the final one.
        after: Duration,
        /// The final one.
        response: Box<Response>,
    },
}

/// Required parts of a REGISTER, parsed.
struct Parts {
    user: String,
    aor: String,
    call_id: String,
    cseq: u32,
    branch: String,
}

/// A final response, and its description.
struct Verdict {
    response: Response,
    authorised: bool,
}

/// Deals with one request at `now`, time since the registrar's start.
pub(super) fn answer(
    options: &RegistrarOptions,
    state: &mut State,
    request: &Request,
    now: Duration,
    transport: Transport,
    source: SocketAddr,
) -> Delivery {
    match request.method.as_str() {
        "REGISTER" => {}
        "ACK" => return Delivery::Nothing,
        "OPTIONS" => return at_once(with(to(request, 200, "OK"), "Allow", "REGISTER, OPTIONS")),
        _ => return at_once(with(to(request, 405, "Method Not Allowed"), "Allow", "REGISTER, OPTIONS")),
    }
    state.journal.arrived(now);
    if request.headers.get("X-Gateway-Auth").is_some() {
        state.journal.counters.gateway_auth_leaks += 1;
    }
    let Some(parts) = Parts::read(request) else {
        state.journal.counters.malformed += 1;
        return at_once(to(request, 400, "Bad Request"));
    };
    let behaviour = state.rules.next(&parts.user);
    let mut seen = Seen {
        at: now,
        transport,
        source,
        user: parts.user.clone(),
        request_uri: request.uri.to_string(),
        call_id: parts.call_id.clone(),
        cseq: parts.cseq,
        expires: request.headers.expires(),
        contact: request.headers.get("Contact").map(str::to_owned),
        require: request.headers.list("Require").map(str::to_owned).collect(),
        authorised: false,
        code: None,
    };
    let verdict = match behaviour {
        Behaviour::Silence | Behaviour::Disconnect => None,
        Behaviour::Unavailable { retry_after } => Some(Verdict::plain({
            let response = to(request, 503, "Service Unavailable");
            match retry_after {
                Some(seconds) => with(response, "Retry-After", &seconds.to_string()),
                None => response,
            }
        })),
        Behaviour::Redirect { code, ref contact, expires } => {
            let expires = expires.map(|seconds| format!(";expires={seconds}")).unwrap_or_default();
            let phrase = if code == 301 { "Moved Permanently" } else { "Moved Temporarily" };
            Some(Verdict::plain(with(to(request, code, phrase), "Contact", &format!("<{contact}>{expires}"))))
        }
        Behaviour::Code { code, ref phrase, ref headers } => {
            let response = to(request, code, phrase);
            Some(Verdict::plain(headers.iter().fold(response, |r, (name, value)| with(r, name, value))))
        }
        Behaviour::BadExtension if !seen.require.is_empty() => {
            Some(Verdict::plain(bad_extension(request, &seen.require)))
        }
        _ => Some(by_the_rules(options, state, request, &parts, &behaviour, now)),
    };
    seen.authorised = verdict.as_ref().is_some_and(|verdict| verdict.authorised);
    seen.code = verdict.as_ref().map(|verdict| verdict.response.code);
    state.journal.done(seen);
    let Some(Verdict { response, .. }) = verdict else {
        let closes = behaviour == Behaviour::Disconnect;
        return if closes { Delivery::Disconnect } else { Delivery::Nothing };
    };
    let (provisional, after) = match behaviour {
        Behaviour::TryingFirst(after) => (Some(Response::to_request(request, 100, "Trying")), after),
        Behaviour::Delay(after) => (None, after),
        _ => (None, Duration::ZERO),
    };
    Delivery::Send { provisional, after, response: Box::new(response) }
}

fn by_the_rules(
    options: &RegistrarOptions,
    state: &mut State,
    request: &Request,
    parts: &Parts,
    behaviour: &Behaviour,
    now: Duration,
) -> Verdict {
    if let Some(response) = sanity(options, request) {
        return Verdict::plain(response);
    }
    if let Some(accounts) = &state.accounts {
        let Some(account) = accounts.get(&parts.user) else {
            return Verdict::plain(to(request, 404, "Not Found"));
        };
        let login = account.login.as_deref().unwrap_or(&parts.user);
        let claims = credentials(options, request);
        let mut stale = false;
        if let Some(claim) = &claims {
            if claim.username != login || !verify(claim, &account.password, &request.method) {
                state.journal.counters.wrong_passwords += 1;
                if options.forbid_wrong_passwords {
                    return Verdict::plain(to(request, 403, "Forbidden"));
                }
            } else if state.nonces.check(&claim.nonce.plain(), now) == Worth::Stale {
                state.journal.counters.stale_nonces += 1;
                stale = true;
            } else if SipUri::parse(&claim.uri).is_ok_and(|uri| uri == request.uri) {
                state.journal.counters.authorised += 1;
                return Verdict {
                    response: update(options, state, request, parts, behaviour, now),
                    authorised: true,
                };
            } else {
                // RFC 7616 §3.4.6.
                return Verdict::plain(to(request, 400, "Digest URI Is Not The Request-URI"));
            }
        }
        return Verdict::plain(challenge(options, state, request, stale, now));
    }
    Verdict::plain(update(options, state, request, parts, behaviour, now))
}

/// Returns what a strict registrar refuses: option tags that it does not know, and a Request-URI with a user
/// (RFC 3261 §10.2).
fn sanity(options: &RegistrarOptions, request: &Request) -> Option<Response> {
    if !options.strict {
        return None;
    }
    let unknown: Vec<String> = request
        .headers
        .list("Require")
        .filter(|tag| !options.option_tags.iter().any(|known| known.eq_ignore_ascii_case(tag)))
        .map(str::to_owned)
        .collect();
    if !unknown.is_empty() {
        return Some(bad_extension(request, &unknown));
    }
    request.uri.user.is_some().then(|| to(request, 400, "Request-URI Has A User Part"))
}

/// Returns the credentials for a challenge of this registrar, where the request carries any.
fn credentials(options: &RegistrarOptions, request: &Request) -> Option<Authorization> {
    let name = if options.as_proxy { "Proxy-Authorization" } else { "Authorization" };
    request
        .headers
        .get_all(name)
        .filter_map(|value| Authorization::parse(value).ok())
        .find(|claim| claim.realm == options.realm && options.algorithms.contains(&claim.algorithm))
}

fn challenge(
    options: &RegistrarOptions,
    state: &State,
    request: &Request,
    stale: bool,
    now: Duration,
) -> Response {
    let (code, phrase) =
        if options.as_proxy { (407, "Proxy Authentication Required") } else { (401, "Unauthorized") };
    let nonce = state.nonces.issue(now);
    options.algorithms.iter().fold(to(request, code, phrase), |response, algorithm| {
        let challenge = Challenge {
            realm: options.realm.as_str().into(),
            nonce: nonce.as_str().into(),
            algorithm: *algorithm,
            qop: options.qop_auth.then_some(Qop::Auth),
            stale,
            proxy: options.as_proxy,
            ..Challenge::default()
        };
        let (name, value) = challenge.to_header();
        with(response, name, value.as_str())
    })
}

/// The table is changed as the request asks, or not.
fn update(
    options: &RegistrarOptions,
    state: &mut State,
    request: &Request,
    parts: &Parts,
    behaviour: &Behaviour,
    now: Duration,
) -> Response {
    let Some(contacts) = contacts(request) else { return to(request, 400, "Bad Contact") };
    let mut bounds = options.expiry;
    if let Behaviour::TooBrief { min_expires } = behaviour {
        bounds.min = *min_expires;
        bounds.max = bounds.max.max(*min_expires);
    }
    let outcome = state.bindings.update(&Update {
        aor: &parts.aor,
        call_id: &parts.call_id,
        cseq: parts.cseq,
        branch: &parts.branch,
        contacts,
        expires: request.headers.expires(),
        bounds,
        now,
    });
    match outcome {
        Ok(Outcome::Done(bindings)) => accepted(request, &bindings, behaviour, now),
        Ok(Outcome::Repeated(bindings)) => {
            state.journal.counters.retransmissions += 1;
            accepted(request, &bindings, behaviour, now)
        }
        Err(Refusal::TooBrief(min)) => {
            with(to(request, 423, "Interval Too Brief"), "Min-Expires", &min.to_string())
        }
        Err(Refusal::CseqNotRising) => {
            state.journal.counters.cseq_not_rising += 1;
            to(request, 400, "CSeq Is Not Higher")
        }
        Err(Refusal::BadWildcard) => to(request, 400, "Contact * Needs Expires 0"),
        Err(Refusal::Full) => to(request, 500, "Too Many Bindings"),
    }
}

fn accepted(request: &Request, bindings: &[Binding], behaviour: &Behaviour, now: Duration) -> Response {
    bindings.iter().fold(to(request, 200, "OK"), |response, binding| {
        let left = match behaviour {
            Behaviour::ClaimExpires(claimed) => claimed.to_string(),
            _ => binding.seconds_left(now).to_string(),
        };
        with(response, "Contact", &format!("<{}>;expires={left}", binding.contact))
    })
}

/// The Contact header fields; `None` where they are malformed.
fn contacts(request: &Request) -> Option<Contacts> {
    let mut all = Vec::new();
    let mut wildcard = false;
    for value in request.headers.get_all("Contact") {
        if value.trim() == "*" {
            wildcard = true;
        } else {
            all.extend(NameAddr::parse_list(value).ok()?);
        }
    }
    match (wildcard, all.is_empty()) {
        (true, true) => Some(Contacts::All),
        (true, false) => None,
        (false, _) => Some(Contacts::These(all)),
    }
}

fn bad_extension(request: &Request, tags: &[String]) -> Response {
    with(to(request, 420, "Bad Extension"), "Unsupported", &tags.join(", "))
}

/// A final response: with a To tag, the same for every response to one request (RFC 3261 §8.2.6.2).
fn to(request: &Request, code: u16, phrase: &str) -> Response {
    let mut response = Response::to_request(request, code, phrase);
    if let (Some(to), None) = (request.headers.get("To"), request.headers.to_tag()) {
        let tag: String =
            request.headers.via_branch().unwrap_or_default().bytes().map(|b| format!("{b:x}")).collect();
        let tag =
            tag.get(tag.len().saturating_sub(16)..).filter(|tag| !tag.is_empty()).unwrap_or("0").to_owned();
        response = with_set(response, "To", &format!("{to};tag={tag}"));
    }
    with(response, "Server", "routr-registry devstack")
}

fn with(mut response: Response, name: &str, value: &str) -> Response {
    if let Err(error) = response.headers.push(name, value) {
        tracing::warn!(%error, "a header field was left out of a response");
    }
    response
}

fn with_set(mut response: Response, name: &str, value: &str) -> Response {
    if let Err(error) = response.headers.set(name, value) {
        tracing::warn!(%error, "a header field was left out of a response");
    }
    response
}

fn at_once(response: Response) -> Delivery {
    Delivery::Send { provisional: None, after: Duration::ZERO, response: Box::new(response) }
}

impl Verdict {
    fn plain(response: Response) -> Self {
        Self { response, authorised: false }
    }
}

impl Parts {
    fn read(request: &Request) -> Option<Self> {
        let to = NameAddr::parse(request.headers.get("To")?).ok()?.uri;
        let (cseq, method) = request.headers.cseq()?;
        if method != request.method || cseq >= 1 << 31 {
            return None;
        }
        request.headers.from_tag()?;
        let user = to.user?;
        Some(Self {
            aor: format!("{user}@{}", to.host.to_ascii_lowercase()),
            user,
            call_id: request.headers.call_id()?.to_owned(),
            cseq,
            branch: request.headers.via_branch()?,
        })
    }
}
