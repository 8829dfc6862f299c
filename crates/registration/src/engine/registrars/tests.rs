use rand::{SeedableRng, rngs::SmallRng};

use super::*;

const YES: fn(u32, u32) -> bool = |_, _| true;

fn at(host: &str) -> Target {
    Target { host: host.into(), port: 5060 }
}

struct Harness {
    registrars: Registrars,
    rng: SmallRng,
}

impl Harness {
    fn new(rate: Option<f64>) -> Self {
        Self { registrars: Registrars::new(rate), rng: SmallRng::seed_from_u64(1) }
    }

    /// A registrar that has responded.
    fn well(&mut self, host: &str) -> u32 {
        let id = self.registrars.id_of(&at(host), Moment(0));
        self.registrars.responded(id, 5, Moment(0));
        id
    }

    fn next(&mut self, now: Moment) -> Option<(u32, u32)> {
        self.next_that(now, YES)
    }

    fn next_that(&mut self, now: Moment, waits: fn(u32, u32) -> bool) -> Option<(u32, u32)> {
        let limits = SendLimits { urgent_only: false, probes_each: 4, probes: 100 };
        let (slot, id) = self.registrars.peek(limits, now, waits)?;
        self.registrars.take(id, now, &mut self.rng);
        Some((slot, id))
    }
}

fn refresh(expiry: u64) -> Urgency {
    (false, Moment(expiry), Priority::Refresh)
}

fn later(since: u64, class: Priority) -> Urgency {
    (true, Moment(since), class)
}

#[test]
fn refreshes_go_first_then_age_then_retries_before_first_ones() {
    let mut harness = Harness::new(None);
    let now = Moment(1_000);
    let (one, two) = (harness.well("one"), harness.well("two"));
    harness.registrars.wait(one, later(500, Priority::First), 1, 0, now);
    harness.registrars.wait(two, later(500, Priority::Retry), 2, 0, now);
    harness.registrars.wait(one, later(400, Priority::First), 3, 0, now);
    harness.registrars.wait(two, refresh(9_000), 4, 0, now);
    harness.registrars.wait(one, refresh(8_000), 5, 0, now);
    let order: Vec<u32> = std::iter::from_fn(|| harness.next(now).map(|(slot, _)| slot)).collect();
    // Both registrars have had their turn: of the same age then, a retry goes first.
    assert_eq!(order, [5, 4, 2, 3, 1]);
}

#[test]
fn a_budget_is_kept_in_every_window() {
    let rate = 20.0;
    let mut harness = Harness::new(Some(rate));
    let id = harness.well("one");
    for slot in 0..1_000 {
        harness.registrars.wait(id, later(0, Priority::First), slot, 0, Moment(0));
    }
    let mut sent = Vec::new();
    let mut now = Moment(0);
    while sent.len() < 1_000 {
        while harness.next(now).is_some() {
            sent.push(now.0);
            harness.registrars.ended(id, false, now);
            harness.registrars.responded(id, 5, now);
        }
        if sent.len() < 1_000 {
            now = harness.registrars.next_at().unwrap();
        }
    }
    for (first, from) in sent.iter().enumerate() {
        let within = sent[first..].iter().take_while(|at| **at < from + 1_000).count();
        assert!(within <= 20 + 10, "{within} within a second");
    }
    let seconds = now.0 / 1_000;
    assert!((45..=52).contains(&seconds), "1000 at 20/s took {seconds} s");
}

#[test]
fn a_hold_concerns_one_registrar() {
    let mut harness = Harness::new(Some(100.0));
    let now = Moment(0);
    let (held, other) =
        (harness.registrars.id_of(&at("held"), now), harness.registrars.id_of(&at("other"), now));
    harness.registrars.hold(held, Moment(5_000), now);
    harness.registrars.wait(held, refresh(1), 1, 0, now);
    harness.registrars.wait(other, refresh(2), 2, 0, now);
    assert_eq!(harness.next(now), Some((2, other)));
    assert_eq!(harness.next(now), None);
    assert_eq!(harness.registrars.next_at(), Some(Moment(5_000)));
    assert_eq!(harness.registrars.held_until("held"), Moment(5_000));
    assert_eq!(harness.next(Moment(5_000)), Some((1, held)));
}

#[test]
fn whoever_waits_hears_of_a_hold_that_is_worth_a_detour_once() {
    let mut harness = Harness::new(None);
    let id = harness.registrars.id_of(&at("held"), Moment(0));
    let mut hold = |until, now| {
        harness.registrars.wait(id, refresh(1), 1, 7, Moment(now));
        harness.registrars.hold(id, Moment(until), Moment(now))
    };
    assert_eq!(hold(1_000, 0), []);
    // Both that wait by then.
    assert_eq!(hold(60_000, 500), [(1, 7), (1, 7)], "the brief one is not over yet");
    assert_eq!(hold(90_000, 1_000), [], "nobody waits who does not know");
    assert_eq!(hold(200_000, 89_500).len(), 2, "who came at the end of the last one does not");
}

#[test]
fn one_that_has_not_responded_holds_one_place_and_the_next_only_after_a_while() {
    let mut harness = Harness::new(None);
    let now = Moment(0);
    let (dead, well) = (harness.registrars.id_of(&at("dead"), now), harness.well("well"));
    for slot in 0..10 {
        harness.registrars.wait(dead, refresh(1), slot, 0, now);
        harness.registrars.wait(well, later(0, Priority::First), 100 + slot, 0, now);
    }
    let sent: Vec<u32> = std::iter::from_fn(|| harness.next(now).map(|(_, id)| id)).collect();
    assert_eq!(sent.iter().filter(|id| **id == dead).count(), 1);
    assert_eq!(sent.iter().filter(|id| **id == well).count(), 10);
    let mut at = Vec::new();
    for moment in (0..20_000).step_by(100).map(Moment) {
        at.extend(harness.next(moment).map(|_| moment.0));
    }
    assert_eq!(at, [1_000, 3_000, 7_000, 15_000]);
    // The first response, and all others go.
    harness.registrars.responded(dead, 20_000, Moment(20_000));
    assert_eq!(std::iter::from_fn(|| harness.next(Moment(20_000))).count(), 5);
}

#[test]
fn no_registrar_has_a_second_place_before_each_has_had_one() {
    let mut harness = Harness::new(None);
    let now = Moment(100);
    let ids: Vec<u32> = (0..5).map(|n| harness.registrars.id_of(&at(&format!("r{n}")), now)).collect();
    for (slot, id) in (0..).zip(ids.iter().flat_map(|id| [*id; 3])) {
        harness.registrars.wait(id, later(0, Priority::First), slot, 0, now);
    }
    // One place at a time, as if the Requester took no more; each lasts for a while, and none is responded
    // to.
    let mut turns = Vec::new();
    for turn in 0..5 {
        turns.extend(harness.next(Moment(100 + turn * 1_000)).map(|(_, id)| id));
    }
    turns.sort_unstable();
    assert_eq!(turns, ids);
}

#[test]
fn of_what_can_wait_the_one_whose_turn_was_longest_ago_is_next() {
    let mut harness = Harness::new(None);
    let (many, few) = (harness.well("many"), harness.well("few"));
    (0..100).for_each(|slot| harness.registrars.wait(many, later(0, Priority::Retry), slot, 0, Moment(50)));
    assert_eq!(harness.next(Moment(50)).map(|(_, id)| id), Some(many));
    harness.registrars.wait(few, later(40, Priority::First), 200, 0, Moment(60));
    assert_eq!(
        harness.next(Moment(60)).map(|(_, id)| id),
        Some(few),
        "it waits for all the trunks of another"
    );
}

#[test]
fn one_that_is_down_gets_a_probe_in_five_to_ten_seconds_until_it_responds() {
    let mut harness = Harness::new(None);
    let id = harness.well("down");
    for slot in 0..3 {
        harness.registrars.wait(id, later(0, Priority::Retry), slot, 0, Moment(0));
        assert!(harness.next(Moment(0)).is_some());
        harness.registrars.ended(id, false, Moment(0));
        let row = harness.registrars.failed(id, slot, "503", Moment(0), &mut harness.rng);
        assert_eq!(row, (slot == 2).then(|| vec![0, 1, 2]));
    }
    assert_eq!(harness.registrars.down(&at("down")).map(|(_, why)| why), Some("503"));
    (0..20).for_each(|slot| {
        harness.registrars.wait(id, later(slot.into(), Priority::Retry), slot, 0, Moment(0))
    });
    let mut at = vec![0];
    for moment in (0..60_000).step_by(100).map(Moment) {
        while harness.next(moment).is_some() {
            at.push(moment.0);
            harness.registrars.ended(id, true, moment);
        }
    }
    assert!((6..=12).contains(&(at.len() - 1)), "{at:?}");
    assert!(at.windows(2).all(|pair| (5_000..=10_100).contains(&(pair[1] - pair[0]))), "{at:?}");
    assert!(harness.registrars.over_budget(Moment(60_000), 9).is_empty());
    harness.registrars.responded(id, 5, Moment(60_000));
    assert_eq!(harness.registrars.recovered(id, Moment(60_000)), Some(Moment(0)));
    let rest = std::iter::from_fn(|| harness.next(Moment(60_000))).count();
    assert_eq!(rest + at.len() - 1, 20);
}

#[test]
fn a_refresh_at_a_registrar_that_left_the_last_request_unanswered_goes_behind_the_others() {
    let mut harness = Harness::new(None);
    let now = Moment(1_000);
    let (silent, well) = (harness.well("silent"), harness.well("well"));
    harness.registrars.silent(silent, now);
    harness.registrars.wait(silent, refresh(5_000), 1, 0, now);
    harness.registrars.wait(well, refresh(9_000), 2, 0, now);
    harness.registrars.wait(well, later(0, Priority::Retry), 3, 0, now);
    let order: Vec<u32> = std::iter::from_fn(|| harness.next(now).map(|(slot, _)| slot)).collect();
    assert_eq!(order, [2, 1, 3], "but before what has no binding to lose");
    harness.registrars.responded(silent, 5, now);
    harness.registrars.wait(silent, refresh(5_000), 4, 0, now);
    harness.registrars.wait(well, refresh(9_000), 5, 0, now);
    assert_eq!(harness.next(now), Some((4, silent)));
}

#[test]
fn two_probes_that_never_left_the_requester_cost_a_registrar_its_turn_and_its_refreshes_nothing() {
    let mut harness = Harness::new(None);
    let now = Moment(1_000);
    let (failing, other) = (harness.well("failing"), harness.well("other"));
    for fruitless in [1, 2, 2, 3] {
        harness.registrars.wasted(failing);
        let tries = |id, failed| harness.registrars.fruitless(id, failed, now);
        assert_eq!([tries(failing, true), tries(other, true)], [fruitless, 1]);
        assert_eq!(tries(failing, false), 0, "the calls of others may succeed");
    }
    harness.registrars.wait(failing, refresh(5_000), 1, 0, now);
    harness.registrars.wait(other, refresh(9_000), 2, 0, now);
    assert_eq!(harness.next(now), Some((1, failing)));
    harness.registrars.responded(failing, 5, now);
    harness.registrars.ended(failing, false, now);
    assert_eq!(harness.registrars.fruitless(failing, true, now), 1);
}

#[test]
fn what_no_longer_waits_is_passed_over() {
    let mut harness = Harness::new(None);
    let now = Moment(0);
    let id = harness.registrars.id_of(&at("one"), now);
    harness.registrars.wait(id, refresh(1), 1, 0, now);
    harness.registrars.wait(id, refresh(2), 2, 7, now);
    assert_eq!(harness.next_that(now, |_, stamp| stamp == 7), Some((2, id)));
    assert_eq!(harness.next(now), None);
}

#[test]
fn unused_registrars_are_forgotten() {
    let mut harness = Harness::new(Some(1.0));
    harness.registrars.id_of(&at("old"), Moment(0));
    harness.registrars.forget_unused(Moment(FORGET_AFTER_MS), 1);
    assert_eq!(harness.registrars.by_target.len(), 1);
    harness.registrars.forget_unused(Moment(FORGET_AFTER_MS + 1), 1);
    assert!(harness.registrars.by_host.is_empty());
    let (a, b) =
        (harness.registrars.id_of(&at("a"), Moment(1)), harness.registrars.id_of(&at("b"), Moment(1)));
    assert_ne!(a, b);
}

#[test]
fn what_another_trunk_registered_counts_until_that_has_left() {
    let mut harness = Harness::new(None);
    let id = harness.well("one");
    harness.registrars.registered(id, 2, Moment(2_000));
    harness.registrars.registered(id, 3, Moment(3_000));
    assert_eq!(harness.registrars.others_registered(id, 3), Some(Moment(2_000)));
    harness.registrars.stop_use_by(&at("one"), 3);
    assert_eq!(harness.registrars.others_registered(id, 1), Some(Moment(2_000)), "2 is there still");
    harness.registrars.stop_use_by(&at("one"), 2);
    assert_eq!(harness.registrars.others_registered(id, 1), None);
}
