//! The state machine, line by line of the table of replies, and its properties.

use std::{num::NonZeroU32, time::Duration};

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

use super::{reply::Verdict, *};
use crate::{
    ports::{Reply, SendError},
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
}

const START: u64 = 1_000_000_000;

impl Bench {
    fn new(uris: u8, edges: u8) -> Self {
        let settings = Settings {
            interval_ms: 60_000,
            expires_s: 600,
            deadline_ms: 40_000,
            tags: vec!["gin".into(), "path".into()],
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
        let sent = Sent { address: &to, transport, position, same, preferred_edge, at };
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

fn reply(code: u16) -> Reply {
    Reply { code: Some(code), phrase: "Because".into(), ..Reply::default() }
}

fn ok(expires: i32) -> Reply {
    Reply { contact_expires: Some(expires), ..reply(200) }
}

fn redirect(code: u16, host: &str, expires: Option<i32>) -> Reply {
    let to = RedirectTarget { address: HostPort::new(host, 5060), transport: None };
    Reply { contact: Some(to), contact_expires: expires, ..reply(code) }
}

fn between(value: u64, low: u64, high: u64) {
    assert!((low..=high).contains(&value), "{value} is not in {low}..={high}");
}

#[test]
fn what_is_granted_counts_from_when_it_was_asked_for() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.at += 30_000;
    bench.answer(&attempt, ok(600));
    assert_eq!(bench.registration.left(Moment(bench.at)), Some(570_000));
    // An answer that comes after the end of what it grants: refreshed at once.
    let attempt = bench.attempt();
    bench.at += 30_000;
    bench.answer(&attempt, ok(20));
    assert_eq!(bench.registration.left(Moment(bench.at)), None);
    assert_eq!(bench.registration.due(), Moment(bench.at));
}

#[test]
fn a_new_trunk_registers_at_once_and_refreshes_in_time() {
    let mut bench = Bench::new(1, 1);
    assert_eq!((bench.state(), bench.registration.class()), (TrunkState::Pending, Class::First));
    let attempt = bench.attempt();
    assert_eq!((attempt.expires, attempt.purpose, bench.at), (600, Purpose::Register, START));
    assert_eq!(bench.registration.due(), Moment::NEVER, "two in flight");
    bench.answer(&attempt, ok(300));
    assert_eq!((bench.state(), bench.registration.class()), (TrunkState::Registered, Class::Refresh));
    between(bench.wait_of_next(), 210_000, 240_000);
    assert_eq!(bench.registration.left(Moment(bench.at)), Some(300_000));
}

#[test]
fn a_success_clears_the_failure_count_and_the_reason() {
    let mut bench = Bench::new(1, 1);
    bench.round(500, 0);
    bench.round(500, 0);
    assert_eq!((bench.registration.failures(), bench.reason()), (2, Some("RegistrarFailed")));
    let mut bench = bench.registered(600);
    assert_eq!((bench.registration.failures(), bench.reason()), (0, None));
    bench.round(500, 0);
    assert_eq!(bench.registration.failures(), 1, "the count did not start anew");
}

#[test]
fn a_423_is_answered_by_what_it_asks_at_once_and_twice_at_most() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    let effect = bench.answer(&attempt, Reply { min_expires: Some(1_800), ..reply(423) });
    assert_eq!(effect.min_expires, Some(1_800), "not remembered for the registrar");
    assert_eq!((bench.wait_of_next(), bench.registration.class()), (0, Class::Refresh));
    bench.min_expires = 1_800;
    let attempt = bench.attempt();
    assert_eq!(attempt.expires, 1_800);
    bench.min_expires = 3_600;
    bench.answer(&attempt, reply(423));
    assert_eq!(bench.wait_of_next(), 0);
    let attempt = bench.attempt();
    assert_eq!(attempt.expires, 3_600);
    bench.answer(&attempt, reply(423));
    between(bench.wait_of_next(), 30_000, 60_000);
    assert_eq!(bench.reason(), Some("IntervalTooBrief"));
}

#[test]
fn a_guess_after_a_423_is_remembered_up_to_an_hour() {
    let mut bench = Bench::new(1, 1);
    for _ in 0..10 {
        let first = bench.min_expires.max(600);
        let mut learnt = 0;
        for doublings in 0..3 {
            let attempt = bench.attempt();
            assert_eq!(attempt.expires, first << doublings);
            learnt = bench.answer(&attempt, reply(423)).min_expires.unwrap();
        }
        between(bench.wait_of_next(), 15_000, 1_800_000);
        bench.min_expires = bench.min_expires.max(learnt);
    }
    assert_eq!(bench.min_expires, 3_600);
    let attempt = bench.attempt();
    let told = bench.answer(&attempt, Reply { min_expires: Some(86_400), ..reply(423) }).min_expires;
    assert_eq!(told, Some(86_400), "what it says itself is no guess");
}

#[test]
fn a_420_drops_the_tags_and_sends_again_at_once_once() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, Reply { unsupported: vec!["gin".into()], ..reply(420) });
    assert_eq!(bench.wait_of_next(), 0);
    let attempt = bench.attempt();
    assert_eq!(attempt.without_tags, 0b01);
    bench.answer(&attempt, reply(420));
    between(bench.wait_of_next(), 30_000, 60_000);
    let attempt = bench.attempt();
    assert_eq!(attempt.without_tags, 0b11);
    bench.answer(&attempt, ok(600));
    assert_eq!(bench.attempt().without_tags, 0b11, "a refresh would be refused again");
}

#[test]
fn redirections_are_followed_at_once_but_not_in_a_circle() {
    for code in [301, 302, 305] {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        bench.answer(&attempt, redirect(code, "elsewhere", None));
        assert_eq!(bench.wait_of_next(), 0);
        let attempt = bench.attempt();
        assert_eq!(&*attempt.redirect.as_ref().unwrap().address.host, "elsewhere");
        bench.answer(&attempt, redirect(code, "host-0", None));
        between(bench.wait_of_next(), 30_000, 60_000);
        assert_eq!(bench.reason(), Some("RedirectFailed"));
        assert_eq!(bench.attempt().redirect, None);
    }
}

#[test]
fn another_transport_is_no_circle_but_a_way_out_of_tls_is_refused() {
    let to = |transport| {
        let address = HostPort::new("host-0", 5060);
        Reply { contact: Some(RedirectTarget { address, transport: Some(transport) }), ..reply(302) }
    };
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, to(Transport::Tcp));
    assert_eq!(bench.wait_of_next(), 0);
    let attempt = bench.attempt();
    bench.answer(&attempt, to(Transport::Udp));
    between(bench.wait_of_next(), 30_000, 60_000);
    let mut bench = Bench::new(1, 1);
    bench.transport = Transport::Tls;
    let attempt = bench.attempt();
    bench.answer(&attempt, to(Transport::Udp));
    assert_eq!((bench.reason(), bench.attempt().redirect), (Some("RedirectFailed"), None));
}

#[test]
fn each_target_may_be_too_brief_for_itself() {
    let mut bench = Bench::new(2, 1);
    for _ in 0..2 {
        for _ in 0..2 {
            bench.round(423, 0);
            assert_eq!(bench.wait_of_next(), 0);
        }
        let rank = bench.registration.ranks().0;
        bench.round(423, 0);
        assert!(bench.registration.ranks().0 != rank);
    }
    between(bench.wait_of_next(), 30_000, 60_000);
}

#[test]
fn at_most_five_redirections_are_followed() {
    let mut bench = Bench::new(1, 1);
    let mut followed = 0;
    loop {
        let attempt = bench.attempt();
        bench.answer(&attempt, redirect(302, &format!("hop-{followed}"), None));
        if bench.wait_of_next() > 0 {
            break;
        }
        followed += 1;
    }
    assert_eq!(followed, 5);
}

#[test]
fn a_302_holds_for_its_expiry_a_301_until_it_fails_a_305_once() {
    let where_next = |code, expires| {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        bench.answer(&attempt, redirect(code, "elsewhere", expires));
        let attempt = bench.attempt();
        bench.answer(&attempt, ok(600));
        let first = bench.attempt();
        bench.answer(&first, ok(600));
        let second = bench.attempt();
        (first.redirect.is_some(), second.redirect.is_some())
    };
    assert_eq!(where_next(302, None), (false, false));
    assert_eq!(where_next(305, None), (false, false));
    assert_eq!(where_next(302, Some(700)), (true, false));
    assert_eq!(where_next(301, None), (true, true));
}

#[test]
fn refused_credentials_wait_five_minutes_doubling_to_an_hour() {
    for (code, reason) in [
        (401, "CredentialsRejected"),
        (403, "CredentialsRejected"),
        (407, "CredentialsRejected"),
        (404, "UnknownAccount"),
        (410, "UnknownAccount"),
        (604, "UnknownAccount"),
    ] {
        let mut bench = Bench::new(3, 2);
        for minutes in [5, 10, 20, 40, 60, 60] {
            let attempt = bench.round(code, 10);
            assert_eq!(attempt.uri, UriChoice::Rank(0), "{code}: another target was tried");
            between(bench.wait_of_next(), minutes * 60_000, minutes * 66_000);
            assert_eq!((bench.reason(), bench.state()), (Some(reason), TrunkState::Failing));
        }
    }
}

#[test]
fn a_rejected_password_is_not_offered_more_often_because_a_binding_lapses() {
    let mut bench = Bench::new(1, 1).registered(60);
    bench.round(403, 0);
    assert_eq!(bench.state(), TrunkState::AtRisk);
    between(bench.wait_of_next(), 300_000, 330_000);
}

#[test]
fn changed_credentials_are_tried_at_once() {
    let mut bench = Bench::new(1, 1);
    bench.round(403, 0);
    let now = bench.now();
    bench.registration.changed(|_| None, now.at);
    assert_eq!(bench.wait_of_next(), 0);
    bench.round(403, 0);
    between(bench.wait_of_next(), 300_000, 330_000);
}

#[test]
fn a_failed_target_gives_way_at_once_while_one_is_untried() {
    for code in [500, 501, 503, 480, 600, 606, 400, 405, 433, 489] {
        let mut bench = Bench::new(3, 1);
        let mut tried = Vec::new();
        for _ in 0..3 {
            assert_eq!(bench.wait_of_next(), 0, "{code} after {tried:?}");
            tried.push(bench.round(code, 5).uri);
        }
        assert_eq!(tried, [UriChoice::Rank(0), UriChoice::Rank(1), UriChoice::Rank(2)]);
        between(bench.wait_of_next(), 30_000, 60_000);
        assert_eq!(bench.registration.failures(), 1, "a round counts once");
        assert_eq!(bench.attempt().uri, UriChoice::Rank(0), "the next round starts at the preferred one");
    }
}

#[test]
fn a_failure_on_the_way_tries_another_edge_port_too() {
    let mut bench = Bench::new(1, 2);
    assert_eq!(bench.round(503, 5).edge, 0);
    assert_eq!(bench.wait_of_next(), 0);
    assert_eq!(bench.round(503, 5).edge, 1);
    between(bench.wait_of_next(), 30_000, 60_000);
    // The registrar itself answered: the EdgePort is not to blame.
    let mut bench = Bench::new(1, 2);
    bench.round(500, 5);
    between(bench.wait_of_next(), 30_000, 60_000);
}

#[test]
fn silence_is_followed_by_one_other_target_and_never_by_a_quick_round() {
    let mut bench = Bench::new(4, 1);
    let mut others = Vec::new();
    for round in 0..3 {
        assert_eq!(bench.round(408, 32_500).uri, UriChoice::Rank(0));
        between(bench.wait_of_next(), 5_000, 10_000);
        others.push(bench.round(408, 32_500).uri);
        let full = 60_000 << round;
        between(bench.wait_of_next(), full / 2, full);
    }
    assert_eq!(others, [UriChoice::Rank(1), UriChoice::Rank(2), UriChoice::Rank(3)], "each has its turn");
    assert_eq!(bench.reason(), Some("NoAnswer"));
}

#[test]
fn a_silent_target_is_not_asked_again_at_once_when_the_other_one_fails_too() {
    let mut bench = Bench::new(2, 1);
    bench.round(408, 32_500);
    assert_eq!(bench.round(500, 5).uri, UriChoice::Rank(1));
    between(bench.wait_of_next(), 30_000, 60_000);
}

#[test]
fn retry_after_of_the_first_target_outlives_the_failure_of_the_second() {
    let mut bench = Bench::new(2, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, Reply { retry_after: Some(600), ..reply(500) });
    bench.round(500, 5);
    between(bench.wait_of_next(), 599_000, 600_000);
}

#[test]
fn an_outage_before_the_lapse_does_not_become_a_longer_one_after_it() {
    let mut bench = Bench::new(1, 1).registered(600);
    while bench.registration.left(Moment(bench.at)).is_some() {
        bench.round(503, 0);
    }
    assert!(bench.registration.failures() > 5);
    between(bench.wait_of_next(), 30_000, 60_000);
    bench.round(503, 0);
    between(bench.wait_of_next(), 60_000, 120_000);
}

#[test]
fn past_the_deadline_is_silence() {
    let mut bench = Bench::new(1, 2);
    let attempt = bench.attempt();
    bench.at += 40_000;
    bench.answer_with(&attempt, &Err(SendError::Deadline(Duration::from_secs(40))));
    between(bench.wait_of_next(), 5_000, 10_000);
    assert_eq!(bench.attempt().edge, 1, "the one other target is the other EdgePort");
}

#[test]
fn silence_of_an_only_target_backs_off() {
    let mut bench = Bench::new(1, 1);
    for failures in 1..=8_u32 {
        bench.round(408, 32_500);
        assert_eq!(bench.registration.failures(), failures);
        let full = (30_000_u64 << failures).min(1_800_000);
        between(bench.wait_of_next(), full / 2, full);
    }
}

#[test]
fn a_request_of_unknown_outcome_may_have_shortened_the_binding_that_it_was_to_refresh() {
    // What was learnt of the shortest expiry is gone after a restart: less is asked than was granted.
    let resumed = |position| {
        let mut bench = Bench::new(2, 1);
        let expires_at = Moment(START + 70_000_000);
        let binding = Binding { expires_at, granted_s: NonZeroU32::new(76_800).unwrap(), position };
        let (settings, now) = (bench.settings.clone(), Moment(START));
        bench.registration =
            Registration::resume(7, Some((binding, position)), &settings, now, &mut bench.rng);
        bench
    };
    for code in [100, 408] {
        let mut bench = resumed(0);
        let attempt = bench.attempt();
        assert_eq!(attempt.expires, 600);
        let sent_at = bench.at;
        bench.at += 1_000;
        bench.answer(&attempt, reply(code));
        assert_eq!(bench.registration.left(Moment(bench.at)), Some(599_000), "{code}");
        assert_eq!(bench.registration.left(Moment(sent_at + 600_000)), None, "{code}");
    }
    // A refusal has changed nothing, and what goes elsewhere leaves it alone.
    let mut bench = resumed(0);
    let before = *bench.registration.binding().unwrap();
    bench.round(500, 10);
    bench.round(408, 10);
    assert_eq!(*bench.registration.binding().unwrap(), before);
    // Where as much is asked, a new binding lasts longer than the one before.
    let mut bench = Bench::new(1, 1).registered(600);
    let before = *bench.registration.binding().unwrap();
    bench.round(408, 10);
    assert_eq!(*bench.registration.binding().unwrap(), before);
}

#[test]
fn a_provisional_answer_is_an_unknown_outcome_that_does_not_count() {
    let mut bench = Bench::new(1, 1);
    for _ in 0..5 {
        bench.round(100, 50);
        assert_eq!((bench.registration.failures(), bench.reason()), (0, Some("OutcomeUnknown")));
        between(bench.wait_of_next(), 15_000, 30_000);
    }
}

#[test]
fn retry_after_is_the_least_to_wait() {
    for code in [503, 500, 413, 480, 486, 600, 603] {
        let mut bench = Bench::new(1, 2);
        let attempt = bench.attempt();
        let effect = bench.answer(&attempt, Reply { retry_after: Some(900), ..reply(code) });
        assert!(bench.wait_of_next() >= 900_000, "{code}");
        assert_eq!(effect.hold_registrar_until.is_some(), code == 503, "{code}");
    }
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, Reply { retry_after: Some(2_000), ..reply(404) });
    assert_eq!(bench.wait_of_next(), 2_000_000);
    let attempt = bench.attempt();
    let effect = bench.answer(&attempt, Reply { retry_after: Some(99_999), ..reply(503) });
    assert_eq!(effect.hold_registrar_until, Some(Moment(bench.at + 3_600_000)), "an hour is the most");
}

#[test]
fn retry_after_of_one_registrar_does_not_keep_from_another() {
    let mut bench = Bench::new(2, 1);
    let attempt = bench.attempt();
    bench.answer(&attempt, Reply { retry_after: Some(900), ..reply(503) });
    assert_eq!((bench.wait_of_next(), bench.registration.ranks().0), (0, UriChoice::Rank(1)));
}

#[test]
fn trouble_with_the_requester_does_not_count() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    bench.answer_with(&attempt, &Err(SendError::Unavailable("refused".into())));
    assert_eq!((bench.wait_of_next(), bench.registration.failures()), (0, 0));
    assert_eq!(bench.registration.class(), Class::First, "it lost its place");
    assert_eq!(bench.reason(), Some("RequesterUnavailable"));
    let attempt = bench.attempt();
    bench.answer_with(&attempt, &Err(SendError::Refused("no key store".into())));
    assert_eq!(bench.registration.failures(), 0);
    between(bench.wait_of_next(), 15_000, 30_000);
}

#[test]
fn nonsense_is_a_failure_with_its_reason() {
    for nonsense in [Reply::default(), ok(0), ok(-9)] {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        bench.answer(&attempt, nonsense);
        assert_eq!((bench.reason(), bench.state()), (Some("MalformedReply"), TrunkState::Failing));
        between(bench.wait_of_next(), 30_000, 60_000);
    }
}

#[test]
fn a_binding_does_not_lapse_during_a_back_off() {
    let mut bench = Bench::new(1, 1).registered(600);
    while bench.registration.left(Moment(bench.at)).is_some_and(|left| left > 4_000) {
        bench.round(500, 0);
        let left = bench.registration.left(Moment(bench.at)).unwrap();
        assert!(bench.wait_of_next() <= (left / 2).max(2_000), "{} of {left}", bench.wait_of_next());
        assert_eq!(bench.state(), TrunkState::AtRisk);
    }
    assert!(bench.registration.failures() > 3);
}

#[test]
fn since_is_when_the_trouble_began() {
    let mut bench = Bench::new(1, 1);
    bench.round(500, 0);
    let since = bench.registration.cause().unwrap().1;
    bench.round(403, 0);
    assert_eq!(bench.registration.cause().unwrap().1, since);
}

#[test]
fn a_backup_holds_until_a_probe_finds_the_preferred_one_well() {
    let mut bench = Bench::new(2, 1);
    bench.round(500, 0);
    let attempt = bench.attempt();
    assert_eq!(attempt.uri, UriChoice::Rank(1));
    bench.answer(&attempt, ok(600));
    assert_eq!(bench.state(), TrunkState::Registered);
    // The preferred one is probed while the backup's binding has plenty of time left.
    between(bench.wait_of_next(), 14_000, 60_000);
    let probe = bench.attempt();
    assert_eq!((probe.purpose, probe.uri), (Purpose::Probe, UriChoice::Rank(0)));
    bench.answer(&probe, reply(500));
    assert_eq!((bench.state(), bench.reason()), (TrunkState::Registered, None));
    let refresh = bench.attempt();
    assert_eq!((refresh.purpose, refresh.uri), (Purpose::Register, UriChoice::Rank(1)));
    bench.answer(&refresh, ok(600));
    let probe = bench.attempt();
    assert_eq!(probe.purpose, Purpose::Probe);
    bench.answer(&probe, ok(600));
    let refresh = bench.attempt();
    assert_eq!((refresh.purpose, refresh.uri), (Purpose::Register, UriChoice::Rank(0)), "not back");
}

#[test]
fn a_backup_found_after_a_restart_is_left_again_too() {
    let mut bench = Bench::new(2, 1);
    let now = Moment(START);
    let binding =
        Binding { expires_at: now.plus(400_000), granted_s: NonZeroU32::new(600).unwrap(), position: 1 };
    let settings = bench.settings.clone();
    bench.registration = Registration::resume(7, Some((binding, 1)), &settings, now, &mut bench.rng);
    let refresh = bench.attempt();
    assert_eq!(refresh.uri, UriChoice::Rank(1));
    bench.answer(&refresh, ok(600));
    let probe = bench.attempt();
    assert_eq!((probe.purpose, probe.uri), (Purpose::Probe, UriChoice::Rank(0)));
}

#[test]
fn the_preferred_one_that_asked_to_wait_is_left_alone_though_the_backup_fails() {
    for silent in [false, true] {
        let mut bench = Bench::new(2, 1);
        let first = bench.attempt();
        bench.answer(&first, Reply { retry_after: Some(900), ..reply(500) });
        let asked = bench.at + 900_000;
        while bench.at < asked {
            let attempt = bench.attempt();
            if bench.at >= asked {
                break;
            }
            assert_eq!(
                (attempt.uri, attempt.purpose),
                (UriChoice::Rank(1), Purpose::Register),
                "at {}",
                bench.at
            );
            let well = Reply { contact_expires: Some(600), ..reply(200) };
            let round = (bench.at / 1_000) % 3;
            bench.answer(&attempt, if round == 0 { well } else { reply(if silent { 408 } else { 500 }) });
        }
    }
}

#[test]
fn a_probe_that_is_told_to_ask_otherwise_does_so() {
    for told in [Reply { min_expires: Some(900), ..reply(423) }, reply(420), redirect(302, "elsewhere", None)]
    {
        let mut bench = Bench::new(2, 1);
        bench.round(500, 0);
        let attempt = bench.attempt();
        bench.answer(&attempt, ok(600));
        let probe = bench.attempt();
        bench.answer(&probe, told);
        assert_eq!(bench.wait_of_next(), 0);
        let attempt = bench.attempt();
        assert_eq!((attempt.purpose, attempt.uri), (Purpose::Register, UriChoice::Rank(0)));
        bench.answer(&attempt, ok(600));
        assert_eq!(bench.attempt().uri, UriChoice::Rank(0));
    }
}

#[test]
fn being_told_to_ask_otherwise_is_no_failure() {
    for told in [Reply { min_expires: Some(900), ..reply(423) }, reply(420), redirect(302, "elsewhere", None)]
    {
        let mut bench = Bench::new(1, 1);
        let attempt = bench.attempt();
        bench.answer(&attempt, told);
        assert_eq!((bench.state(), bench.reason()), (TrunkState::Pending, None));
    }
}

/// Bound by the second EdgePort, the first one probed next.
fn bound_by_another_edge_port(uris: u8, expires: i32) -> (Bench, Attempt) {
    let mut bench = Bench::new(uris, 2);
    bench.settings.expires_s = 3_600;
    let attempt = bench.attempt();
    bench.answer(&attempt, reply(503));
    (bench.registration.uri, bench.registration.edge) = (0, 1);
    let attempt = bench.attempt_now();
    bench.answer(&attempt, ok(expires));
    let probe = bench.attempt();
    assert_eq!((probe.purpose, probe.uri, probe.edge), (Purpose::Probe, UriChoice::Rank(0), 0));
    (bench, probe)
}

#[test]
fn a_password_that_was_refused_by_one_edge_port_is_not_offered_by_the_other_before_its_time() {
    for code in [401, 403, 404, 407] {
        let (mut bench, probe) = bound_by_another_edge_port(1, 300);
        bench.answer(&probe, reply(code));
        assert_eq!(bench.state(), TrunkState::AtRisk);
        between(bench.wait_of_next(), 300_000, 330_000);
        let before = bench.registration.due();
        bench.registration.refresh_early(Moment(bench.at), &mut SmallRng::seed_from_u64(1));
        assert_eq!(bench.registration.due(), before);
        // Not the preferred one again: it may be the EdgePort that refuses.
        let attempt = bench.attempt();
        assert_eq!((attempt.purpose, attempt.uri, attempt.edge), (Purpose::Register, UriChoice::Rank(0), 1));
        bench.answer(&attempt, reply(code));
        between(bench.wait_of_next(), 600_000, 660_000);
    }
}

#[test]
fn a_refused_probe_does_not_move_a_refresh_that_is_far_away() {
    let (mut bench, probe) = bound_by_another_edge_port(1, 3_600);
    bench.answer(&probe, reply(403));
    assert_eq!((bench.state(), bench.reason()), (TrunkState::AtRisk, Some("CredentialsRejected")));
    assert!(bench.wait_of_next() > 3_000_000);
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(3_600));
    assert_eq!((bench.state(), bench.reason()), (TrunkState::Registered, None));
}

#[test]
fn a_registrar_that_asked_a_probe_to_wait_is_not_refreshed_by_another_edge_port() {
    let wait = |seconds| Reply { retry_after: Some(seconds), ..reply(480) };
    // The refresh is due later anyway.
    let (mut bench, probe) = bound_by_another_edge_port(2, 600);
    let until = bench.at + 200_000;
    bench.answer(&probe, wait(200));
    assert_eq!(bench.state(), TrunkState::Registered);
    bench.registration.refresh_early(Moment(bench.at), &mut SmallRng::seed_from_u64(1));
    let attempt = bench.attempt();
    assert_eq!((attempt.uri, attempt.edge), (UriChoice::Rank(0), 1));
    assert!(bench.at >= until);
    // It is due before, and there is another registrar.
    let (mut bench, probe) = bound_by_another_edge_port(2, 600);
    bench.answer(&probe, wait(900));
    assert_eq!((bench.state(), bench.wait_of_next()), (TrunkState::AtRisk, 0));
    assert_eq!(bench.attempt().uri, UriChoice::Rank(1));
    // There is none.
    let (mut bench, probe) = bound_by_another_edge_port(1, 600);
    bench.answer(&probe, wait(900));
    assert_eq!((bench.state(), bench.wait_of_next()), (TrunkState::AtRisk, 900_000));
}

#[test]
fn after_a_silence_the_target_that_asked_to_wait_is_not_the_other_one() {
    // The backup asks to wait, the preferred one says nothing: the other EdgePort, and then nobody.
    for edges in [1, 2] {
        let mut bench = Bench::new(2, edges);
        bench.registration.uri = 1;
        let attempt = bench.attempt();
        assert_eq!(attempt.uri, UriChoice::Rank(1));
        let until = bench.at + 1_800_000;
        bench.answer(&attempt, Reply { retry_after: Some(1_800), ..reply(413) });
        let attempt = bench.round(408, 32_500);
        assert_eq!(attempt.uri, UriChoice::Rank(0));
        if edges == 2 {
            between(bench.wait_of_next(), 5_000, 10_000);
            assert_eq!(bench.round(408, 32_500).uri, UriChoice::Rank(0));
        }
        bench.attempt();
        assert!(bench.at >= until, "{} ms too early by {edges} EdgePorts", until - bench.at);
    }
    // A third one that was not tried has its turn.
    let mut bench = Bench::new(3, 1);
    bench.registration.uri = 1;
    let attempt = bench.attempt();
    bench.answer(&attempt, Reply { retry_after: Some(1_800), ..reply(413) });
    assert_eq!(bench.round(408, 32_500).uri, UriChoice::Rank(0));
    assert_eq!(bench.attempt().uri, UriChoice::Rank(2));
}

/// Of three, the preferred one fails, the second one asks for half an hour, and the third one takes it. Until when the second
/// one is to be left alone.
fn bound_past_one_that_asked_to_wait() -> (Bench, u64) {
    let mut bench = Bench::new(3, 1);
    bench.round(500, 0);
    let attempt = bench.attempt();
    let until = bench.at + 1_800_000;
    bench.answer(&attempt, Reply { retry_after: Some(1_800), ..reply(600) });
    let attempt = bench.attempt();
    assert_eq!(attempt.uri, UriChoice::Rank(2));
    bench.answer(&attempt, ok(300));
    (bench, until)
}

/// When the second one of those is tried next, where all fail with this code.
fn asked_again(bench: &mut Bench, code: u16) -> u64 {
    while bench.round(code, 5).uri != UriChoice::Rank(1) {}
    bench.sent_at
}

#[test]
fn a_backup_that_asked_to_wait_is_left_alone_though_another_one_succeeds() {
    for code in [500, 408] {
        let (mut bench, until) = bound_past_one_that_asked_to_wait();
        assert!(asked_again(&mut bench, code) >= until, "{code}, bound at the third one");
        let (mut bench, until) = bound_past_one_that_asked_to_wait();
        let probe = bench.attempt();
        assert_eq!(probe.purpose, Purpose::Probe);
        bench.answer(&probe, ok(300));
        assert!(asked_again(&mut bench, code) >= until, "{code}, bound at the preferred one");
        // The pause after a refusal is shorter.
        let (mut bench, until) = bound_past_one_that_asked_to_wait();
        bench.round(403, 0);
        bench.round(403, 0);
        assert!(asked_again(&mut bench, code) >= until, "{code}, refused");
    }
}

#[test]
fn what_a_target_asked_for_is_forgotten_when_it_is_over_or_void() {
    let (mut bench, _) = bound_past_one_that_asked_to_wait();
    let now = bench.now();
    bench.registration.changed(Some, now.at);
    bench.round(500, 0);
    assert_eq!(bench.round(500, 0).uri, UriChoice::Rank(1), "another trunk now");
    let (mut bench, until) = bound_past_one_that_asked_to_wait();
    while bench.at < until || bench.registration.ranks().0 != UriChoice::Rank(0) {
        let attempt = bench.attempt();
        bench.answer(&attempt, ok(300));
    }
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(300));
    assert!(bench.registration.trouble.is_none(), "{:?}", bench.registration.trouble);
}

#[test]
fn a_trunk_whose_registrar_asked_all_to_wait_does_not_turn_to_one_that_asked_it_to_wait() {
    let diverted = |uris, hold_ms, held: fn(u8) -> bool| {
        let mut bench = Bench::new(uris, 1);
        bench.registration.uri = 1;
        let attempt = bench.attempt();
        bench.answer(&attempt, Reply { retry_after: Some(60), ..reply(480) });
        assert_eq!((bench.registration.ranks().0, bench.wait_of_next()), (UriChoice::Rank(0), 0));
        let now = Moment(bench.at);
        bench.registration.divert(now.plus(hold_ms), held, uris, now);
        (bench.registration.ranks().0, bench.wait_of_next())
    };
    let first = |rank| rank == 0;
    assert_eq!(diverted(3, 3_600_000, first), (UriChoice::Rank(2), 0));
    assert_eq!(diverted(2, 3_600_000, first), (UriChoice::Rank(1), 60_000), "the one that is free first");
    assert_eq!(diverted(2, 30_000, first), (UriChoice::Rank(0), 0), "the hold is over before");
    assert_eq!(diverted(3, 3_600_000, |rank| rank != 1), (UriChoice::Rank(1), 60_000));
    assert_eq!(diverted(3, 3_600_000, |_| true), (UriChoice::Rank(0), 0));
}

#[test]
fn a_probe_that_is_silent_endangers_nothing() {
    for expires in [30, 50, 60, 90, 120, 300, 600, 3_600] {
        let mut bench = Bench::new(2, 2);
        bench.round(500, 0);
        let attempt = bench.attempt();
        bench.answer(&attempt, ok(expires));
        for _ in 0..30 {
            let attempt = bench.attempt();
            let left = bench.registration.left(Moment(bench.at));
            assert!(left.is_some(), "lapsed with {expires} s granted");
            if attempt.purpose == Purpose::Probe {
                bench.at += 40_000;
                bench.answer_with(&attempt, &Err(SendError::Deadline(Duration::from_secs(40))));
            } else {
                bench.answer(&attempt, ok(expires));
            }
        }
    }
}

#[test]
fn leaving_removes_the_binding_where_it_is() {
    let mut bench = Bench::new(2, 1);
    bench.round(500, 0);
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(600));
    let now = bench.now();
    assert!(!bench.registration.leave(now));
    let attempt = bench.attempt();
    assert_eq!((attempt.purpose, attempt.expires, attempt.uri), (Purpose::Leave, 0, UriChoice::Position(1)));
    assert!(bench.answer(&attempt, ok(0)).finished);
}

#[test]
fn three_tries_to_leave_then_it_is_forgotten() {
    let mut bench = Bench::new(1, 1).registered(600);
    let now = bench.now();
    bench.registration.leave(now);
    let finished: Vec<bool> = (0..3)
        .map(|_| {
            let attempt = bench.attempt();
            bench.answer(&attempt, reply(500)).finished
        })
        .collect();
    assert_eq!(finished, [false, false, true]);
    assert_eq!(bench.registration.due(), Moment::NEVER);
}

#[test]
fn without_a_binding_there_is_nothing_to_leave() {
    let mut bench = Bench::new(1, 1);
    bench.round(403, 0);
    let now = bench.now();
    assert!(bench.registration.leave(now));
    // A request that nobody answered may have created one.
    let mut bench = Bench::new(1, 1);
    bench.round(408, 32_500);
    let now = bench.now();
    assert!(!bench.registration.leave(now));
}

#[test]
fn leaving_removes_whatever_may_be_bound_one_after_the_other() {
    let mut bench = Bench::new(2, 1);
    let tried = [bench.round(408, 32_500).uri, bench.round(408, 32_500).uri];
    assert_eq!(tried, [UriChoice::Rank(0), UriChoice::Rank(1)], "the second try went elsewhere");
    let now = bench.now();
    assert!(!bench.registration.leave(now));
    let removals: Vec<_> = [500, 408, 500, 408, 200]
        .into_iter()
        .map(|code| {
            let attempt = bench.attempt();
            assert_eq!((attempt.purpose, attempt.expires), (Purpose::Leave, 0));
            let finished = bench.answer(&attempt, reply(code)).finished;
            (attempt.uri, finished)
        })
        .collect();
    let (first, second) = (UriChoice::Position(0), UriChoice::Position(1));
    // Three tries for one do not count for the next.
    let all = [(first, false), (first, false), (first, false), (second, false), (second, true)];
    assert_eq!(removals, all);
    assert!(bench.registration.gave_up(), "the first one was left to lapse");
}

#[test]
fn one_address_of_record_is_removed_once_by_the_last_way() {
    let mut bench = Bench { one_address: true, ..Bench::new(2, 1) };
    bench.round(408, 32_500);
    bench.round(408, 32_500);
    let now = bench.now();
    bench.registration.leave(now);
    let removals: Vec<_> = (0..3).map(|_| bench.round(500, 0).uri).collect();
    assert_eq!(removals, [UriChoice::Position(1); 3]);
    assert_eq!(bench.registration.due(), Moment::NEVER, "a fourth try");
    // Where it is bound by another way, by that.
    let mut bench = Bench { one_address: true, ..Bench::new(2, 1) }.registered(600);
    bench.round(500, 0);
    assert_eq!(bench.round(408, 32_500).uri, UriChoice::Rank(1));
    let now = bench.now();
    bench.registration.leave(now);
    let removals: Vec<_> = (0..3).map(|_| bench.round(500, 0).uri).collect();
    assert_eq!(removals, [UriChoice::Position(0); 3]);
    assert_eq!(bench.registration.due(), Moment::NEVER, "a fourth try");
}

#[test]
fn leaving_removes_what_may_be_bound_besides_the_binding() {
    let mut bench = Bench::new(2, 1);
    bench.round(500, 0);
    let attempt = bench.attempt();
    bench.answer(&attempt, ok(600));
    let probe = bench.round(408, 32_500);
    assert_eq!((probe.purpose, probe.uri), (Purpose::Probe, UriChoice::Rank(0)));
    let now = bench.now();
    bench.registration.leave(now);
    for (position, last) in [(1, false), (0, true)] {
        let attempt = bench.attempt();
        assert_eq!(attempt.uri, UriChoice::Position(position));
        assert_eq!(bench.answer(&attempt, ok(0)).finished, last);
    }
    assert!(!bench.registration.gave_up());
}

#[test]
fn a_removal_outlives_the_binding_that_a_silent_refresh_may_have_prolonged() {
    for doubtful in [false, true] {
        let mut bench = Bench::new(1, 1).registered(600);
        bench.round(if doubtful { 408 } else { 500 }, 32_500);
        let now = bench.now();
        assert!(!bench.registration.leave(now));
        bench.at += 600_000;
        assert_eq!(bench.registration.give_up_leaving(Moment(bench.at)), !doubtful);
        if doubtful {
            let attempt = bench.attempt();
            assert_eq!((attempt.purpose, attempt.uri), (Purpose::Leave, UriChoice::Position(0)));
            assert!(bench.answer(&attempt, ok(0)).finished);
        }
    }
}

#[test]
fn after_a_success_only_that_is_removed() {
    let mut bench = Bench::new(2, 1);
    bench.round(408, 32_500);
    bench.round(408, 32_500);
    let mut bench = bench.registered(600);
    let now = bench.now();
    bench.registration.leave(now);
    let attempt = bench.attempt();
    assert!(bench.answer(&attempt, ok(0)).finished);
}

#[test]
fn what_may_be_bound_moves_with_the_uris_of_the_trunk() {
    let mut bench = Bench::new(3, 1);
    for position in 0..3 {
        bench.registration.presume(position, Positions::from_iter([position]));
    }
    let now = bench.now();
    bench.registration.changed(|position| [Some(1), None, Some(0)][usize::from(position)], now.at);
    assert_eq!(bench.registration.maybe_bound().iter().collect::<Vec<_>>(), [0, 1]);
    // The one that has gone is another registration's to remove.
    let lost = Positions::from_iter([1]);
    let mut removal = Registration::removal(lost, 7, now.at);
    assert!(removal.is_leaving() && !removal.give_up_leaving(now.at));
    assert_eq!((removal.ranks().0, removal.due()), (UriChoice::Position(1), now.at));
    assert!(removal.withdraw(lost, now.at), "what another one has taken over is removed");
}

#[test]
fn leaving_waits_for_the_answer_in_flight() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    let now = bench.now();
    assert!(!bench.registration.leave(now));
    assert_eq!(bench.registration.due(), Moment::NEVER, "two in flight");
    assert!(!bench.answer(&attempt, ok(600)).finished);
    let leave = bench.attempt();
    assert_eq!(leave.expires, 0);
    assert!(bench.answer(&leave, ok(0)).finished);
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    let now = bench.now();
    bench.registration.leave(now);
    assert!(bench.answer(&attempt, reply(403)).finished);
}

#[test]
fn a_change_while_in_flight_is_sent_afterwards() {
    let mut bench = Bench::new(1, 1);
    let attempt = bench.attempt();
    let now = bench.now();
    bench.registration.changed(|_| None, now.at);
    assert_eq!(bench.registration.due(), Moment::NEVER, "two in flight");
    bench.answer(&attempt, ok(600));
    assert_eq!((bench.wait_of_next(), bench.registration.class()), (0, Class::Refresh));
}

#[test]
fn a_late_answer_changes_nothing() {
    let mut bench = Bench::new(1, 1);
    let old = bench.attempt();
    bench.answer(&old, reply(500));
    let new = bench.attempt();
    bench.answer(&old, ok(600));
    assert_eq!((bench.state(), bench.registration.in_flight()), (TrunkState::Failing, true));
    bench.answer(&new, ok(600));
    let due = bench.registration.due();
    bench.answer(&new, reply(403));
    assert_eq!((bench.state(), bench.registration.due()), (TrunkState::Registered, due));
}

#[test]
fn the_cseq_of_the_answer_counts_and_a_lost_answer_leaves_room() {
    let mut bench = Bench::new(1, 1);
    let first = bench.attempt();
    bench.answer(&first, Reply { cseq: Some(first.cseq + 5), ..ok(600) });
    assert_eq!(bench.registration.cseq(), first.cseq + 5);
    let now = bench.now();
    bench.registration.refresh_now(now.at);
    let second = bench.attempt();
    assert!(second.cseq > first.cseq + 5);
    bench.answer(&second, Reply { cseq: Some(u32::MAX), ..ok(600) });
    assert!(bench.registration.cseq() < second.cseq + 10, "an absurd CSeq was believed");
    let now = bench.now();
    bench.registration.refresh_now(now.at);
    let third = bench.attempt();
    bench.answer_with(&third, &Err(SendError::Unavailable("gone".into())));
    assert!(bench.attempt().cseq > third.cseq + 2, "a challenge may have used two more");
}

#[test]
fn a_resumed_registration_is_not_sent_before_its_time() {
    let settings = Bench::new(1, 1).settings;
    let now = Moment(START);
    let mut rng = SmallRng::seed_from_u64(3);
    let binding = |left: u64| Binding {
        expires_at: now.plus(left),
        granted_s: NonZeroU32::new(600).unwrap(),
        position: 0,
    };
    let valid = Registration::resume(77, Some((binding(400_000), 0)), &settings, now, &mut rng);
    between(valid.due().since(now), 280_000, 340_000);
    assert_eq!((valid.state(now), valid.cseq()), (TrunkState::Registered, 77));
    let near = Registration::resume(77, Some((binding(20_000), 0)), &settings, now, &mut rng);
    assert_eq!(near.due(), now);
    let lapsed =
        Binding { expires_at: now.minus(5_000), granted_s: NonZeroU32::new(600).unwrap(), position: 0 };
    let lapsed = Registration::resume(77, Some((lapsed, 0)), &settings, now, &mut rng);
    assert_eq!((lapsed.due(), lapsed.class()), (now.minus(5_000), Class::Retry));
}

#[test]
fn after_a_restart_the_numbers_of_a_request_that_nobody_kept_are_left_out() {
    let mut bench = Bench::new(1, 1);
    // A clock that is far behind: the numbers go by what was kept alone.
    let kept = next_cseq(0, bench.now().unix_ms) + 100_000;
    bench.registration.raise_cseq(kept);
    let last = bench.attempt_now().cseq + CSEQ_RESERVE;
    let now = Moment(bench.at);
    bench.registration = Registration::resume(kept, None, &bench.settings, now, &mut bench.rng);
    let next = bench.attempt_now();
    assert!(next.cseq > last, "{} after {last}", next.cseq);
    bench.answer(&next, ok(600));
    let known = bench.registration.cseq();
    assert_eq!(bench.attempt().cseq, known + 1, "only once");
}

#[test]
fn after_a_reconnection_refreshes_come_early_and_spread() {
    let dues: Vec<u64> = (0..200)
        .map(|seed| {
            let mut bench = Bench::new(1, 1).registered(600);
            bench.registration.refresh_early(Moment(bench.at), &mut SmallRng::seed_from_u64(seed));
            bench.wait_of_next()
        })
        .collect();
    assert!(dues.iter().all(|due| *due <= 150_000));
    assert!(dues.iter().any(|due| *due < 30_000) && dues.iter().any(|due| *due > 120_000), "{dues:?}");
}

#[test]
fn a_registration_is_small() {
    assert!(size_of::<Registration>() <= 64, "{} bytes", size_of::<Registration>());
}

fn any_answer() -> impl Strategy<Value = Result<Reply, SendError>> {
    let code = prop_oneof![
        3 => Just(Some(200)), 2 => Just(Some(408)), 1 => Just(Some(503)), 1 => Just(Some(423)), 1 => Just(Some(302)),
        1 => Just(Some(420)), 1 => Just(Some(401)), 1 => Just(Some(100)), 2 => proptest::option::of(0_u16..1_000)
    ];
    let number = || proptest::option::of(-2_i32..100_000);
    let whole = || proptest::option::of(any::<u32>());
    let reply = (code, number(), number(), whole(), whole(), whole(), 0_u8..4).prop_map(
        |(code, contact_expires, expires, min_expires, retry_after, cseq, host)| {
            let to =
                RedirectTarget { address: HostPort::new(&format!("host-{host}"), 5060), transport: None };
            let contact = (host > 0).then_some(to);
            let unsupported = if host == 1 { vec!["gin".into()] } else { vec![] };
            Ok(Reply {
                code,
                contact_expires,
                expires,
                min_expires,
                retry_after,
                cseq,
                contact,
                unsupported,
                phrase: "x".into(),
                local: host == 2,
            })
        },
    );
    prop_oneof![
        8 => reply,
        1 => Just(Err(SendError::Deadline(Duration::from_secs(40)))),
        1 => Just(Err(SendError::Unavailable("down".into()))),
        1 => Just(Err(SendError::Refused("no".into()))),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Answer(Result<Reply, SendError>, u64),
    Change(bool),
    Early,
    Refresh,
    Leave,
    Stale,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (any_answer(), 0_u64..45_000).prop_map(|(answer, took)| Step::Answer(answer, took)),
        1 => any::<bool>().prop_map(Step::Change),
        1 => Just(Step::Early),
        1 => Just(Step::Refresh),
        1 => Just(Step::Leave),
        1 => Just(Step::Stale),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is answered, and whatever happens in between: CSeq rises, nothing is due while a request is in flight,
    /// leaving is final and ends, waits are bounded, late answers are harmless, and no refresh is planned past the lapse.
    #[test]
    fn whatever_happens(uris in 1_u8..5, edges in 1_u8..4, steps in proptest::collection::vec(any_step(), 1..60)) {
        let mut bench = Bench::new(uris, edges);
        let (mut last_cseq, mut left, mut last) = (0, false, None);
        for step in steps {
            if bench.registration.due() == Moment::NEVER {
                prop_assert!(left, "a registration stopped by itself");
                break;
            }
            let now = bench.now();
            match step {
                Step::Answer(answer, took) => {
                    let attempt = bench.attempt();
                    prop_assert!(attempt.cseq > last_cseq && attempt.cseq < 1 << 31);
                    prop_assert_eq!(bench.registration.due(), Moment::NEVER);
                    prop_assert!(attempt.expires <= 86_400);
                    prop_assert_eq!(left, attempt.purpose == Purpose::Leave);
                    prop_assert_eq!(left, attempt.expires == 0);
                    last_cseq = attempt.cseq;
                    bench.at += took;
                    let (verdict, effect) = bench.answer_with(&attempt, &answer);
                    if !effect.finished {
                        prop_assert!(bench.wait_of_next() <= 24 * 3_600_000);
                        if matches!(verdict, Verdict::Registered { .. }) && !left {
                            let lapse = bench.registration.binding().unwrap().expires_at;
                            // An answer may come after the lapse of what it grants.
                            let latest = lapse.max(bench.now().at);
                            prop_assert!(bench.registration.due() <= latest, "due after the lapse");
                        }
                    }
                    last = Some(attempt);
                }
                Step::Change(same) if !left => {
                    bench.registration.changed(|_| same.then_some(0), now.at);
                    prop_assert_eq!(bench.wait_of_next(), 0);
                }
                Step::Early => bench.registration.refresh_early(now.at, &mut SmallRng::seed_from_u64(1)),
                Step::Refresh => bench.registration.refresh_now(now.at),
                Step::Leave => {
                    left = true;
                    bench.registration.leave(now);
                }
                Step::Stale => {
                    if let Some(old) = &last {
                        let before = format!("{:?}", bench.registration);
                        bench.answer_with(old, &Ok(ok(600)));
                        prop_assert_eq!(before, format!("{:?}", bench.registration));
                    }
                }
                Step::Change(_) => {}
            }
            prop_assert_eq!(left, bench.registration.is_leaving());
        }
    }
}
