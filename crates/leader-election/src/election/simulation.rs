//! Random histories of some replicas and one API server: clocks of different rates and nonsense on the wall,
//! slow, late and lost requests and responses, processes that are stopped, killed and started again, outages,
//! deletions of the Lease.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;

/// Microseconds of true time.
type Micros = u64;

const SECOND: Micros = 1_000_000;
/// Duration of the faults, and of the calm after them.
const FAULTS: Micros = 120 * SECOND;
const CALM: Micros = 45 * SECOND;

/// Rules that are checked, and those that may be broken to see that the check finds it.
#[derive(Clone, Copy)]
struct Rules {
    times: LeaseTimes,
    /// Time that the work of a leader continues after the end of its term.
    stopping: Micros,
    /// The server looks at preconditions.
    preconditions: bool,
    /// The Lease is deleted once; no replica is killed.
    deletion: bool,
    /// The wall clock that is written into the records counts as the only sign of life.
    unsteady_stamps: bool,
}

impl Rules {
    fn right() -> Self {
        Self {
            times: LeaseTimes::of(Duration::from_secs(10)),
            // Of the 3 s, 1 % of two clocks is taken off.
            stopping: 2_800_000,
            preconditions: true,
            deletion: false,
            unsteady_stamps: false,
        }
    }
}

#[derive(Clone, Debug)]
enum Request {
    Read,
    Write(Option<String>, LeaseRecord),
}

type Answer = Result<Option<Observed>, WriteFailure>;

#[derive(Clone, Debug)]
enum Event {
    Step { replica: usize, life: u32 },
    Arrives { replica: usize, call: u64, request: Request, back: Option<Micros> },
    Answered { replica: usize, call: u64, answer: Answer },
    Timeout { replica: usize, call: u64 },
    Fault,
}

struct Call {
    id: u64,
    write: bool,
    sent: Instant,
}

struct Replica {
    election: ElectionState,
    /// Changes with each start of the process.
    life: u32,
    alive: bool,
    rate: f64,
    offset: Duration,
    stopped_until: Micros,
    call: Option<Call>,
    /// The term that runs.
    term: Option<(Micros, Micros)>,
}

struct World {
    rules: Rules,
    rng: SmallRng,
    base: Instant,
    now: Micros,
    events: BinaryHeap<Reverse<(Micros, u64)>>,
    bodies: std::collections::HashMap<u64, Event>,
    numbers: u64,
    lease: Option<Observed>,
    version: u64,
    deleted: bool,
    out_until: Micros,
    replicas: Vec<Replica>,
    /// Terms: the leader, the start, and the moment when its work had stopped.
    terms: Vec<(usize, Micros, Micros)>,
}

impl World {
    fn new(rules: Rules, seed: u64) -> Self {
        let mut world = Self {
            rules,
            rng: SmallRng::seed_from_u64(seed),
            base: Instant::now(),
            now: 0,
            events: BinaryHeap::new(),
            bodies: std::collections::HashMap::new(),
            numbers: 0,
            lease: None,
            version: 0,
            deleted: false,
            out_until: 0,
            replicas: Vec::new(),
            terms: Vec::new(),
        };
        for at in 0..3 {
            let rate = world.rng.random_range(0.99..=1.01);
            let offset = Duration::from_micros(world.rng.random_range(0..100 * SECOND));
            let election = ElectionState::new(format!("replica-{at}_0"), rules.times, world.base + offset);
            world.replicas.push(Replica {
                election,
                life: 0,
                alive: true,
                rate,
                offset,
                stopped_until: 0,
                call: None,
                term: None,
            });
            let first = world.rng.random_range(0..2 * SECOND);
            world.at(first, Event::Step { replica: at, life: 0 });
        }
        world.at(5 * SECOND, Event::Fault);
        world
    }

    fn at(&mut self, when: Micros, event: Event) {
        self.numbers += 1;
        self.bodies.insert(self.numbers, event);
        self.events.push(Reverse((when.max(self.now), self.numbers)));
    }

    fn local(&self, replica: usize) -> Instant {
        let Replica { rate, offset, .. } = self.replicas[replica];
        self.base + offset + Duration::from_micros((self.now as f64 * rate) as u64)
    }

    /// Returns when the clock of a replica shows that.
    fn when(&self, replica: usize, local: Instant) -> Micros {
        let Replica { rate, offset, .. } = self.replicas[replica];
        (local.saturating_duration_since(self.base + offset).as_micros() as f64 / rate).ceil() as Micros
    }

    fn delay(&mut self) -> Micros {
        match self.rng.random_range(0..100) {
            0..80 => self.rng.random_range(500..20_000),
            80..95 => self.rng.random_range(20_000..SECOND),
            _ => self.rng.random_range(SECOND..15 * SECOND),
        }
    }

    fn wall(&mut self) -> i64 {
        // Years apart, forwards and backwards, or standing still.
        match self.rng.random_range(0..3) {
            0 => 1_800_000_000_000_000,
            1 => self.rng.random_range(0..4_000_000_000_000_000),
            _ => 1_800_000_000_000_000 + self.now as i64,
        }
    }

    fn run(mut self) -> Vec<(usize, Micros, Micros)> {
        while let Some(Reverse((when, number))) = self.events.pop() {
            if when > FAULTS + CALM {
                break;
            }
            self.now = when;
            let event = self.bodies.remove(&number).expect("an event");
            self.happen(event);
        }
        for at in 0..self.replicas.len() {
            self.end_term(at, Micros::MAX, 0);
        }
        self.terms
    }

    fn happen(&mut self, event: Event) {
        match &event {
            Event::Step { replica, .. }
            | Event::Answered { replica, .. }
            | Event::Timeout { replica, .. } => {
                let until = self.replicas[*replica].stopped_until;
                if until > self.now {
                    return self.at(until + self.numbers % 50, event);
                }
            }
            Event::Arrives { .. } | Event::Fault => {}
        }
        match event {
            Event::Step { replica, life } => {
                if self.replicas[replica].life == life && self.replicas[replica].alive {
                    self.step(replica);
                }
            }
            Event::Arrives { replica, call, request, back } => {
                if self.now >= self.out_until {
                    let answer = self.serve(request);
                    if let Some(back) = back {
                        self.at(self.now + back, Event::Answered { replica, call, answer });
                    }
                }
            }
            Event::Answered { replica, call, answer } => self.resolve(replica, call, Some(answer)),
            Event::Timeout { replica, call } => self.resolve(replica, call, None),
            Event::Fault => self.fault(),
        }
    }

    fn serve(&mut self, request: Request) -> Answer {
        let Request::Write(over, record) = request else { return Ok(self.lease.clone()) };
        match (&self.lease, over) {
            (None, Some(_)) => return Err(WriteFailure::Missing),
            (Some(_), None) if self.rules.preconditions => return Err(WriteFailure::Conflict),
            (Some(lease), Some(over)) if self.rules.preconditions && lease.version != over => {
                return Err(WriteFailure::Conflict);
            }
            _ => {}
        }
        self.version += 1;
        self.lease = Some(Observed { record, version: self.version.to_string() });
        Ok(self.lease.clone())
    }

    fn step(&mut self, at: usize) {
        if self.replicas[at].call.is_some() {
            return;
        }
        let local = self.local(at);
        let act = self.replicas[at].election.next(local);
        match act {
            ElectionAction::Wait(until) => {
                let late = self.rng.random_range(0..20_000);
                let (when, life) = (self.when(at, until) + late, self.replicas[at].life);
                self.at(when, Event::Step { replica: at, life });
            }
            ElectionAction::Read => self.send(at, Request::Read),
            ElectionAction::Write { over } => {
                let wall = self.wall();
                let mut record = self.replicas[at].election.acquire_or_renew(wall);
                if self.rules.unsteady_stamps {
                    record.renewed = Some(0);
                }
                self.send(at, Request::Write(over, record));
            }
            ElectionAction::Lose(_) => {
                self.end_term(at, self.now, self.rules.stopping);
                let local = self.local(at);
                self.replicas[at].election.stand(local);
                let life = self.replicas[at].life;
                self.at(self.now + self.rules.stopping, Event::Step { replica: at, life });
            }
        }
    }

    fn send(&mut self, at: usize, request: Request) {
        self.numbers += 1;
        let (id, sent) = (self.numbers, self.local(at));
        self.replicas[at].call = Some(Call { id, write: matches!(request, Request::Write(..)), sent });
        let mut deadline = sent + self.rules.times.hedge_delay;
        if let Some(until) = self.replicas[at].election.leads_until() {
            deadline = deadline.min(until);
        }
        let timeout = self.when(at, deadline);
        self.at(timeout, Event::Timeout { replica: at, call: id });
        let calm = self.now > FAULTS;
        if calm || self.rng.random_range(0..100) < 96 {
            let there = if calm { 5_000 } else { self.delay() };
            let back = if calm { 5_000 } else { self.delay() };
            let back = (calm || self.rng.random_range(0..100) < 94).then_some(back);
            self.at(self.now + there, Event::Arrives { replica: at, call: id, request, back });
        }
    }

    fn resolve(&mut self, at: usize, id: u64, answer: Option<Answer>) {
        if self.replicas[at].call.as_ref().is_none_or(|call| call.id != id) || !self.replicas[at].alive {
            return;
        }
        let Some(call) = self.replicas[at].call.take() else { return };
        let now = self.local(at);
        let election = &mut self.replicas[at].election;
        match answer {
            Some(Ok(Some(lease))) if call.write => election.wrote(lease, call.sent, now),
            Some(Ok(lease)) => election.read(lease, now),
            Some(Err(why)) => election.unwritten(why, now),
            None if call.write => election.unwritten(WriteFailure::Unknown, now),
            None => election.unread(now),
        }
        if let Some(until) = election.leads_until() {
            let end = self.when(at, until);
            let begin = self.replicas[at].term.map_or(self.now, |(begin, _)| begin);
            self.replicas[at].term = Some((begin, end));
        }
        self.step(at);
    }

    /// The term ends now at the latest, and its work so much later.
    fn end_term(&mut self, at: usize, now: Micros, stopping: Micros) {
        if let Some((begin, end)) = self.replicas[at].term.take() {
            self.terms.push((at, begin, end.min(now) + stopping));
        }
    }

    fn fault(&mut self) {
        let next = self.now + self.rng.random_range(SECOND / 10..10 * SECOND);
        if next < FAULTS {
            self.at(next, Event::Fault);
        }
        let at = self.rng.random_range(0..self.replicas.len());
        let lasts = self.rng.random_range(SECOND / 10..25 * SECOND).min(FAULTS.saturating_sub(self.now));
        match self.rng.random_range(0..6) {
            0 | 1 => self.replicas[at].stopped_until = self.now + lasts,
            2 => self.out_until = self.now + lasts,
            3 if self.rules.deletion && !self.deleted && self.now > 30 * SECOND => {
                // Not before all of them know that there is one, and once: see the head of `lease`.
                self.deleted = self.replicas.iter().all(|replica| replica.election.seen.is_some());
                if self.deleted {
                    self.lease = None;
                }
            }
            _ if self.rules.deletion => {}
            3 => self.restart(at, lasts),
            _ => {
                self.release(at);
                self.restart(at, lasts);
            }
        }
    }

    fn release(&mut self, at: usize) {
        if self.replicas[at].alive && self.replicas[at].stopped_until <= self.now {
            let wall = self.wall();
            self.end_term(at, self.now, 0);
            if let Some((record, over)) = self.replicas[at].election.give_up(wall) {
                let there = self.delay();
                let request = Request::Write(Some(over), record);
                self.at(self.now + there, Event::Arrives { replica: at, call: 0, request, back: None });
            }
        }
    }

    /// Killed, and started again some time later.
    fn restart(&mut self, at: usize, later: Micros) {
        self.end_term(at, self.now, 0);
        let local = self.local(at);
        let times = self.rules.times;
        let replica = &mut self.replicas[at];
        replica.life += 1;
        replica.call = None;
        replica.stopped_until = 0;
        let wakes = local + Duration::from_micros(later);
        replica.election = ElectionState::new(format!("replica-{at}_{}", replica.life), times, wakes);
        let life = replica.life;
        self.at(self.now + later, Event::Step { replica: at, life });
    }
}

/// The first two terms of different replicas that overlap.
fn overlap(terms: &[(usize, Micros, Micros)]) -> Option<String> {
    let mut terms = terms.to_vec();
    terms.sort_by_key(|(_, begin, _)| *begin);
    let mut last: Option<(usize, Micros, Micros)> = None;
    for term in terms {
        if let Some(last) = last
            && term.0 != last.0
            && term.1 < last.2
        {
            return Some(format!("{last:?} and {term:?}"));
        }
        if last.is_none_or(|last| term.2 >= last.2) {
            last = Some(term);
        }
    }
    None
}

/// Histories in which two led at once, and how many terms there were in all.
fn survey(rules: Rules, histories: u64) -> (Vec<String>, usize) {
    let (mut overlaps, mut count) = (Vec::new(), 0);
    for seed in 0..histories {
        let terms = World::new(rules, seed).run();
        count += terms.len();
        if let Some(found) = overlap(&terms) {
            overlaps.push(format!("seed {seed}: {found}"));
        }
        let leads_at_last = terms.iter().any(|(_, _, end)| *end > FAULTS + CALM);
        assert!(leads_at_last, "seed {seed}: nobody leads when all is well again: {terms:?}");
    }
    (overlaps, count)
}

#[test]
fn two_never_lead_at_once() {
    let (overlaps, terms) = survey(Rules::right(), 2000);
    assert_eq!(overlaps, Vec::<String>::new());
    assert!(terms > 5000, "the histories have terms: {terms}");
}

#[test]
fn a_deleted_lease_makes_no_second_leader() {
    let (overlaps, terms) = survey(Rules { deletion: true, ..Rules::right() }, 1000);
    assert_eq!(overlaps, Vec::<String>::new());
    assert!(terms > 2000, "the histories have terms: {terms}");
}

#[test]
fn the_simulation_sees_what_would_be_wrong() {
    let right = Rules::right();
    let valid = right.times.lease_duration * 11 / 10;
    let wrong = [
        (
            "terms as long as the lease",
            Rules { times: LeaseTimes { renew_deadline: valid, ..right.times }, ..right },
        ),
        ("a stop that takes longer than the margin", Rules { stopping: 3_500_000, ..right }),
        ("no preconditions", Rules { preconditions: false, ..right }),
        ("renewals that look alike", Rules { unsteady_stamps: true, ..right }),
    ];
    for (what, rules) in wrong {
        let mut found = (0..400).filter_map(|seed| overlap(&World::new(rules, seed).run()));
        assert!(found.next().is_some(), "not found: {what}");
    }
}
