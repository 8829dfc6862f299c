//! The state machine, line by line of the table of replies, and its properties.

mod course;
mod failing;
mod leaving;
mod probes;
mod random;
mod told;
mod waits;

use rand::{SeedableRng, rngs::SmallRng};

use super::{
    classify::Around,
    redirect_policy::{RedirectDomain, RedirectPolicy},
    reply::Verdict,
    *,
};
use crate::{
    ports::{RedirectContact, Reply, SendError},
    trunk::{HostPort, Transport},
};

/// One registration, its clock and its answers.
struct Bench {
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
    /// What others meet with.
    around: Around<'static>,
}

const START: u64 = 1_000_000_000;

impl Bench {
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
            around: Around::default(),
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
        let plan = Plan { uris: self.uris, edges: self.edges, settings: &settings };
        self.registration.attempt(self.min_expires, &plan, self.now())
    }

    fn answer_with(&mut self, attempt: &Attempt, answer: &Result<Reply, SendError>) -> (Verdict, Effect) {
        let settings = self.settings.clone();
        let plan = Plan { uris: self.uris, edges: self.edges, settings: &settings };
        let position = match attempt.uri {
            UriChoice::Rank(rank) | UriChoice::Position(rank) => rank,
        };
        let to = match &attempt.redirect {
            Some(to) => to.address.clone(),
            None => HostPort::new(&format!("host-{position}"), 5060),
        };
        let now = self.now();
        let transport = attempt.redirect.as_ref().and_then(|to| to.transport).unwrap_or(self.transport);
        let preferred_edge = attempt.edge == 0;
        let at = Moment(self.sent_at);
        let same = if self.one_address { (0..self.uris).collect() } else { Positions::from_iter([position]) };
        let edge = attempt.bound_edge.unwrap_or(EdgeId(u16::from(attempt.edge)));
        let around = self.around;
        let registrar = format!("host-{position}");
        let sent = Sent {
            address: &to,
            registrar: &registrar,
            transport,
            position,
            same,
            preferred_edge,
            edge,
            around,
            at,
        };
        self.registration.answered(attempt, sent, answer, &plan, now, &mut self.rng)
    }

    fn answer(&mut self, attempt: &Attempt, reply: Reply) -> Effect {
        self.answer_with(attempt, &Ok(reply)).1
    }

    /// The next attempt, answered by a code after `took` milliseconds.
    fn round(&mut self, code: u16, took: u64) -> Attempt {
        let attempt = self.attempt();
        self.at += took;
        self.answer(&attempt, reply(code));
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
    RedirectPolicy { domains: vec![RedirectDomain::Any], credentials: true, max_s: MAX_EXPIRES }
}

fn reply(code: u16) -> Reply {
    Reply { code: Some(code), phrase: "Because".into(), ..Reply::default() }
}

fn ok(expires: i32) -> Reply {
    Reply { contact_expires: Some(expires), ..reply(200) }
}

fn redirect(code: u16, host: &str, expires: Option<i32>) -> Reply {
    let to = RedirectTarget { address: HostPort::new(host, 5060), transport: None };
    Reply { targets: vec![RedirectContact { to, expires: None }], contact_expires: expires, ..reply(code) }
}

fn between(value: u64, low: u64, high: u64) {
    assert!((low..=high).contains(&value), "{value} is not in {low}..={high}");
}
