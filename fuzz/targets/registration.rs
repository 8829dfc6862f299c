//! Responses of a Requester, one after the other, through the state machine of one trunk.
//!
//! An input is a byte of settings, then steps: what happens (a byte), the length of a response (two bytes),
//! the response.

use std::time::Duration;

use prost::Message as _;
use rand::{SeedableRng as _, rngs::SmallRng};
use routr_registration::{
    model::{PublicAddresses, RegisterResponse, SendError},
    registration::{
        Attempt, EdgePortId, EdgePortRank, Effects, Purpose, Registration, SentTo, Settings, Targets,
        UriChoice, UriIndex, UriRank, UriSet,
        classify::RouteHealth,
        identity::RegistryId,
        outcome::Outcome,
        redirect_policy::{Permission, RedirectPolicy},
        request::{self, UriView},
        time::{Moment, Now},
    },
    trunk::TlsUriScheme,
};
use routr_registry::{
    grpc::{register::Template, requester::decode},
    proto::{requester::SendMessageRequest, sipmessage::SipMessage},
    requester::{ContactHost, Mode, outgoing_request::OutgoingRequest},
};
use routr_types::{
    digest_minimum::DigestMinimum,
    extension::Features,
    host::{HostPort, Transport},
};

use super::support::{Input, assert_presentable, text};

/// More steps than this show nothing new.
const MAX_STEPS: usize = 64;
const HOSTS: [&str; 4] = ["sip.example.com", "b.example.com", "192.0.2.7", "2001:db8::7"];
const TRANSPORTS: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];
/// A quick round asks each URI once, another EdgePort for one of them, and each may send it on: six targets
/// of redirections, two 423, a 420 and a 400.
const MOST_AT_ONCE: usize = 5 * 11;

/// The trunk, and what its registrar and its engine remember.
struct World {
    registration: Registration,
    settings: Settings,
    uris: u8,
    edges: u8,
    now: Now,
    rng: SmallRng,
    min_expires: u32,
    last_cseq: u32,
    at_once: usize,
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let shape = input.byte();
    let tags = ["gin", "path", "outbound"].into_iter().take(usize::from(shape >> 6));
    let now = Now { at: Moment(1_000_000), unix_ms: 1_790_000_000_000 };
    let mut world = World {
        registration: Registration::new(now.at),
        settings: Settings {
            interval_ms: 60_000,
            expires_s: [600, 10, 3_600, 86_400][usize::from(shape >> 4 & 3)],
            deadline_ms: 40_000,
            tags: tags.map(str::to_owned).collect(),
            redirects: RedirectPolicy::default(),
        },
        uris: 1 + (shape & 3),
        edges: 1 + (shape >> 2 & 3),
        now,
        rng: SmallRng::seed_from_u64(7),
        min_expires: 0,
        last_cseq: 0,
        at_once: 0,
    };
    for _ in 0..MAX_STEPS {
        if input.is_empty() || !world.step(&mut input) {
            return;
        }
    }
}

impl World {
    fn plan(&self) -> Targets<'_> {
        Targets { uris: self.uris, edges: self.edges, settings: &self.settings }
    }

    /// Takes one step; `false` where the registration has ended.
    fn step(&mut self, input: &mut Input<'_>) -> bool {
        let what = input.byte();
        let length = input.number();
        let answer = match what & 15 {
            0..=8 => Ok(SipMessage::decode(input.take(length.into())).map(decode).unwrap_or_default()),
            9 => Err(SendError::Deadline(Duration::from_millis(length.into()))),
            10 => Err(SendError::Unavailable("no route to host".into())),
            // The gRPC port takes control characters out of it, and cuts it.
            11 => {
                let said = text(input.take((length & 255).into())).replace(char::is_control, "");
                Err(SendError::Refused(said.into()))
            }
            _ => {
                self.happen(what, length);
                return !self.is_over();
            }
        };
        self.exchange(&answer, what);
        !self.is_over()
    }

    fn is_over(&self) -> bool {
        self.registration.due() == Moment::NEVER
    }

    /// Performs an event that comes from elsewhere than a registrar.
    fn happen(&mut self, what: u8, length: u16) {
        let (now, number) = (self.now, u8::try_from(length & 3).unwrap());
        self.at_once = 0;
        match what >> 4 & 7 {
            0 => self.registration.changed(
                |_| (number < self.uris).then_some(UriIndex(number)),
                |_| (length & 4 != 0 && number < self.uris).then_some((UriIndex(number), UriRank(number))),
                self.uris,
                now.at,
            ),
            1 => drop(self.registration.deregister(now)),
            2 => self.registration.refresh_now(now.at),
            3 => self.registration.refresh_early(now.at, &mut self.rng),
            4 => self.registration.reschedule(&self.settings, now.at, &mut self.rng),
            5 => self.registration.expired_while_waiting(None, now.unix_ms),
            6 => {
                let until = now.at.plus(u64::from(length) * 100);
                let held = |rank| number & (1 << (u8::from(rank) % 8)) != 0;
                if let Some(failover) = self.registration.failover(until, held, self.uris, now.at) {
                    self.registration.fail_over(failover);
                }
            }
            // The wall clock jumps back, the other one goes on.
            _ => {
                self.now.unix_ms -= u64::from(length) * 1_000;
                self.now.at = now.at.plus(u64::from(length) * 10);
            }
        }
    }

    fn exchange(&mut self, answer: &Result<RegisterResponse, SendError>, what: u8) {
        let waited = self.registration.due().since(self.now.at);
        self.now = Now { at: self.now.at.plus(waited), unix_ms: self.now.unix_ms + waited };
        self.at_once = if waited > 0 { 0 } else { self.at_once + 1 };
        let plan = Targets { uris: self.uris, edges: self.edges, settings: &self.settings };
        let attempt = self.registration.attempt(self.min_expires, &plan, self.now);
        self.assert_attempt(&attempt);
        let uri = match attempt.uri {
            UriChoice::Rank(rank) => usize::from(rank),
            UriChoice::Index(index) => usize::from(index),
        };
        let host = HostPort::new(HOSTS[uri], 5060);
        let transport = TRANSPORTS[usize::from(what >> 6).min(2)];
        self.assert_sendable(&attempt, &host, transport);
        let target = attempt.redirect.clone();
        if let Some(to) = &target {
            let permission = self.settings.redirects.permission(&host.host, &to.address.host);
            assert_eq!(permission, Permission::Follow, "{attempt:?}");
        }
        let sent = SentTo {
            address: target.as_ref().map_or(&host, |to| &to.address),
            registrar: &host.host,
            transport: target.as_ref().and_then(|to| to.transport).unwrap_or(transport),
            index: UriIndex(u8::try_from(uri).unwrap()),
            same: UriSet::from_iter([UriIndex(u8::try_from(uri).unwrap())]),
            preferred_edge: attempt.edge == EdgePortRank::FIRST,
            edge: attempt.bound_edge.unwrap_or(EdgePortId(attempt.edge.0.into())),
            route: RouteHealth {
                others_registered: (what & 16 != 0).then_some(self.now.at),
                edge_responded: (what & 32 != 0).then_some(self.now.at),
                has_credentials: true,
                ..RouteHealth::default()
            },
            at: self.now.at,
        };
        // It takes its time.
        let late = u64::from(what >> 4 & 3) * 9_000;
        self.now = Now { at: self.now.at.plus(late), unix_ms: self.now.unix_ms + late };
        let plan = Targets { uris: self.uris, edges: self.edges, settings: &self.settings };
        let (verdict, effect) =
            self.registration.on_response(&attempt, sent, answer, &plan, self.now, &mut self.rng);
        self.assert_answered(&attempt, sent, &verdict, &effect);
    }

    /// Asserts what holds of every REGISTER, whatever the responses before it were.
    fn assert_attempt(&mut self, attempt: &Attempt) {
        assert!(attempt.cseq > self.last_cseq && attempt.cseq < 1 << 31, "CSeq rises: {attempt:?}");
        self.last_cseq = self.registration.cseq();
        let expires = if attempt.purpose == Purpose::Deregister { 0..=0 } else { 1..=86_400 };
        assert!(expires.contains(&attempt.expires), "{attempt:?}");
        let ranks = match attempt.uri {
            UriChoice::Rank(UriRank(number)) | UriChoice::Index(UriIndex(number)) => number < self.uris,
        };
        assert!(ranks && attempt.edge.0 < self.plan().edges, "{attempt:?}");
    }

    /// Asserts that it can be sent: nothing that a response taught spoils the next request.
    fn assert_sendable(&self, attempt: &Attempt, host: &HostPort, transport: Transport) {
        let uri = UriView {
            user: "alice",
            host: &host.host,
            port: host.port,
            names_port: true,
            transport,
            proxy: None,
        };
        let (id, edge) =
            (RegistryId::new("r"), (HostPort::new("10.0.0.1", 5060), &PublicAddresses::default()));
        let (uri, offered) = ((uri, TlsUriScheme::default()), (None, DigestMinimum::default()));
        let register = request::register(&id, "t1", uri, offered, edge, attempt, 1);
        let template = Template::new(&[], "Routr Connect v2", &self.settings.tags);
        let request =
            SendMessageRequest::decode(template.encode(&register, Features::ALL)).expect("it is a message");
        let draft = OutgoingRequest::read(&request, Mode::Direct, ContactHost::default());
        match (draft, register.transport) {
            (Ok(draft), _) => drop(draft.request.to_bytes().expect("it can be written")),
            (Err(_), Transport::Sctp | Transport::Ws | Transport::Wss) => {}
            (Err(error), _) => panic!("the Requester would not take it: {error}"),
        }
    }

    fn assert_answered(&mut self, attempt: &Attempt, sent: SentTo<'_>, verdict: &Outcome, effect: &Effects) {
        let (registration, now) = (&self.registration, self.now);
        assert!(!registration.in_flight());
        assert!(registration.cseq() >= attempt.cseq && registration.cseq() - attempt.cseq <= 1_000);
        self.last_cseq = registration.cseq();
        if let Some((cause, _)) = registration.cause() {
            assert_presentable(&cause.message);
        }
        if let Some(ask) = effect.min_expires {
            assert!(ask > self.settings.expires_s && ask <= attempt.expires.min(3_600));
            self.min_expires = ask;
        }
        assert!(
            effect
                .hold_registrar_until
                .is_none_or(|until| until >= now.at && until.since(now.at) <= 3_600_000)
        );
        if let Some(binding) = registration.binding() {
            assert!(
                (1..=86_400).contains(&binding.granted_s.get()) || attempt.purpose == Purpose::Deregister,
                "{binding:?}"
            );
            assert!(binding.expires_at.since(now.at) <= 86_400_000 && binding.index.0 < self.uris);
        }
        if self.is_over() {
            assert!(effect.finished, "a registration is due some time until it has ended");
            return;
        }
        let (due, registration) = (self.registration.due(), &self.registration);
        assert!(due.since(now.at) <= 86_400_000, "due in {} ms", due.since(now.at));
        if matches!(verdict, Outcome::RequesterUnavailable | Outcome::CallFailed { broken: true }) {
            // The breaker of the Requester decides when.
            self.at_once = 0;
            return;
        }
        assert!(due >= now.at, "the next REGISTER is never in the past");
        assert!(self.at_once <= MOST_AT_ONCE, "{} REGISTERs without a pause", self.at_once);
        let active = attempt.purpose != Purpose::Deregister && !registration.is_deregistering();
        match verdict {
            Outcome::Registered { expires_s } if active => {
                assert!(*expires_s >= 1 && *expires_s <= attempt.expires);
                let expiry = sent.at.plus(u64::from(*expires_s) * 1_000);
                assert_eq!(registration.binding().map(|binding| binding.expires_at), Some(expiry));
                assert!(due <= expiry.max(now.at), "refreshed before it expires");
            }
            Outcome::CredentialsRejected { .. } | Outcome::UnknownAccount { .. }
                if attempt.purpose == Purpose::Register && active =>
            {
                assert!(due.since(now.at) >= 300_000, "a refused password waits");
            }
            _ => {}
        }
    }
}
