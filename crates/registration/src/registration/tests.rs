//! The state machine, line by line of the table of replies, and its properties.

mod deregistration;
mod failback;
mod failures;
mod lifecycle;
mod random;
mod retry_after;
mod retry_hints;

use rand::{SeedableRng, rngs::SmallRng};

use super::{
    classify::RouteHealth,
    outcome::Outcome,
    redirect_policy::{RedirectDomain, RedirectPolicy},
    *,
};
use crate::model::{RedirectContact, RegisterResponse, SendError};
use routr_types::host::{HostPort, Transport};

/// One registration, its clock and its answers.
struct Harness {
    registration: Registration,
    settings: Settings,
    uris: u8,
    edges: u8,
    at: u64,
    sent_at: u64,
    rng: SmallRng,
    min_expires: u32,
    transport: Transport,
    /// All URIs are ways to one address of record.
    one_address: bool,
    /// Facts about the path, from other trunks.
    route: RouteHealth<'static>,
}

const START: u64 = 1_000_000_000;

impl Harness {
    fn new(uris: u8, edges: u8) -> Self {
        let settings = Settings {
            interval_ms: 60_000,
            expires_s: 600,
            deadline_ms: 40_000,
            tags: vec!["gin".into(), "path".into()],
            redirects: anywhere(),
        };
        let registration = Registration::new(Moment(START));
        let rng = SmallRng::seed_from_u64(11);
        Self {
            registration,
            settings,
            uris,
            edges,
            at: START,
            sent_at: START,
            rng,
            min_expires: 0,
            transport: Transport::Udp,
            one_address: false,
            route: RouteHealth::default(),
        }
    }

    fn now(&self) -> Now {
        Now { at: Moment(self.at), unix_ms: 1_790_000_000_000 + self.at }
    }

    fn wait_of_next(&self) -> u64 {
        self.registration.due().since(Moment(self.at))
    }

    /// Lets time pass until the next attempt is due, and makes it.
    fn attempt(&mut self) -> Attempt {
        assert_ne!(self.registration.due(), Moment::NEVER, "nothing is due");
        self.at = self.at.max(self.registration.due().0);
        self.attempt_now()
    }

    fn attempt_now(&mut self) -> Attempt {
        self.sent_at = self.at;
        let settings = self.settings.clone();
        let plan = Targets { uris: self.uris, edges: self.edges, settings: &settings };
        self.registration.attempt(self.min_expires, &plan, self.now())
    }

    fn answer_with(
        &mut self,
        attempt: &Attempt,
        answer: &Result<RegisterResponse, SendError>,
    ) -> (Outcome, Effects) {
        let settings = self.settings.clone();
        let plan = Targets { uris: self.uris, edges: self.edges, settings: &settings };
        let index = match attempt.uri {
            UriChoice::Rank(UriRank(number)) | UriChoice::Index(UriIndex(number)) => UriIndex(number),
        };
        let to = match &attempt.redirect {
            Some(to) => to.address.clone(),
            None => HostPort::new(&format!("host-{}", index.0), 5060),
        };
        let now = self.now();
        let transport = attempt.redirect.as_ref().and_then(|to| to.transport).unwrap_or(self.transport);
        let preferred_edge = attempt.edge == EdgePortRank::FIRST;
        let at = Moment(self.sent_at);
        let same =
            if self.one_address { UriIndex::first(self.uris).collect() } else { UriSet::from_iter([index]) };
        let edge = attempt.bound_edge.unwrap_or(EdgePortId(u16::from(attempt.edge.0)));
        let route = self.route;
        let registrar = format!("host-{}", index.0);
        let sent = SentTo {
            address: &to,
            registrar: &registrar,
            transport,
            index,
            same,
            preferred_edge,
            edge,
            route,
            at,
        };
        self.registration.on_response(attempt, sent, answer, &plan, now, &mut self.rng)
    }

    fn answer(&mut self, attempt: &Attempt, response: RegisterResponse) -> Effects {
        self.answer_with(attempt, &Ok(response)).1
    }

    /// The next attempt, answered by a code after `took` milliseconds.
    fn round(&mut self, code: u16, took: u64) -> Attempt {
        let attempt = self.attempt();
        self.at += took;
        self.answer(&attempt, response(code));
        attempt
    }

    fn registered(mut self, expires: i32) -> Self {
        let attempt = self.attempt();
        self.answer(&attempt, ok(expires));
        self
    }

    fn state(&self) -> TrunkState {
        self.registration.state(Moment(self.at))
    }

    fn reason(&self) -> Option<&'static str> {
        self.registration.cause().map(|(cause, _)| cause.reason.name())
    }
}

/// Redirections are followed wherever they lead, with credentials, as long as they say.
fn anywhere() -> RedirectPolicy {
    RedirectPolicy { domains: vec![RedirectDomain::Any], credentials: true, max_s: MAX_EXPIRES_S }
}

fn response(code: u16) -> RegisterResponse {
    RegisterResponse { code: Some(code), phrase: "Because".into(), ..RegisterResponse::default() }
}

fn ok(expires: i32) -> RegisterResponse {
    RegisterResponse { contact_expires: Some(expires), ..response(200) }
}

fn redirect(code: u16, host: &str, expires: Option<i32>) -> RegisterResponse {
    let to = RedirectTarget { address: HostPort::new(host, 5060), transport: None };
    RegisterResponse {
        targets: vec![RedirectContact { to, expires: None }],
        contact_expires: expires,
        ..response(code)
    }
}

fn between(value: u64, low: u64, high: u64) {
    assert!((low..=high).contains(&value), "{value} is not in {low}..={high}");
}
