use rand::{SeedableRng, rngs::SmallRng};

use super::*;

const YES: fn(u32, u32) -> bool = |_, _| true;

fn at(host: &str) -> Target {
    Target { host: host.into(), port: 5060 }
}

struct Bench {
    registrars: Registrars,
    rng: SmallRng,
}

impl Bench {
    fn new(rate: Option<f64>) -> Self {
        Self { registrars: Registrars::new(rate), rng: SmallRng::seed_from_u64(1) }
    }

    /// A registrar that has responded.
    fn well(&mut self, host: &str) -> u32 {
        let id = self.registrars.id_of(&at(host), Moment(0));
        self.registrars.heard(id, 5, Moment(0));
        id
    }

    fn next(&mut self, now: Moment) -> Option<(u32, u32)> {
        self.next_that(now, YES)
    }

    fn next_that(&mut self, now: Moment, waits: fn(u32, u32) -> bool) -> Option<(u32, u32)> {
        let admission = Admission { urgent_only: false, probes_each: 4, probes: 100 };
        self.registrars.next(admission, now, waits, &mut self.rng)
    }
}

fn refresh(lapse: u64) -> Urgency {
    (false, Moment(lapse), Class::Refresh)
}

fn later(since: u64, class: Class) -> Urgency {
    (true, Moment(since), class)
}

#[test]
fn refreshes_go_first_then_age_then_retries_before_first_ones() {
    let mut bench = Bench::new(None);
    let now = Moment(1_000);
    let (one, two) = (bench.well("one"), bench.well("two"));
    bench.registrars.wait(one, later(500, Class::First), 1, 0, now);
    bench.registrars.wait(two, later(500, Class::Retry), 2, 0, now);
    bench.registrars.wait(one, later(400, Class::First), 3, 0, now);
    bench.registrars.wait(two, refresh(9_000), 4, 0, now);
    bench.registrars.wait(one, refresh(8_000), 5, 0, now);
    let order: Vec<u32> = std::iter::from_fn(|| bench.next(now).map(|(slot, _)| slot)).collect();
    // Both registrars have had their turn: of the same age then, a retry goes first.
    assert_eq!(order, [5, 4, 2, 3, 1]);
}

#[test]
fn a_budget_is_kept_in_every_window() {
    let rate = 20.0;
    let mut bench = Bench::new(Some(rate));
    let id = bench.well("one");
    for slot in 0..1_000 {
        bench.registrars.wait(id, later(0, Class::First), slot, 0, Moment(0));
    }
    let mut sent = Vec::new();
    let mut now = Moment(0);
    while sent.len() < 1_000 {
        while bench.next(now).is_some() {
            sent.push(now.0);
            bench.registrars.ended(id, false, now);
            bench.registrars.heard(id, 5, now);
        }
        if sent.len() < 1_000 {
            now = bench.registrars.next_at().unwrap();
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
    let mut bench = Bench::new(Some(100.0));
    let now = Moment(0);
    let (held, other) = (bench.registrars.id_of(&at("held"), now), bench.registrars.id_of(&at("other"), now));
    bench.registrars.hold(held, Moment(5_000), now);
    bench.registrars.wait(held, refresh(1), 1, 0, now);
    bench.registrars.wait(other, refresh(2), 2, 0, now);
    assert_eq!(bench.next(now), Some((2, other)));
    assert_eq!(bench.next(now), None);
    assert_eq!(bench.registrars.next_at(), Some(Moment(5_000)));
    assert_eq!(bench.registrars.held_until("held"), Moment(5_000));
    assert_eq!(bench.next(Moment(5_000)), Some((1, held)));
}

#[test]
fn whoever_waits_hears_of_a_hold_that_is_worth_a_detour_once() {
    let mut bench = Bench::new(None);
    let id = bench.registrars.id_of(&at("held"), Moment(0));
    let mut hold = |until, now| {
        bench.registrars.wait(id, refresh(1), 1, 7, Moment(now));
        bench.registrars.hold(id, Moment(until), Moment(now))
    };
    assert_eq!(hold(1_000, 0), []);
    // Both that wait by then.
    assert_eq!(hold(60_000, 500), [(1, 7), (1, 7)], "the brief one is not over yet");
    assert_eq!(hold(90_000, 1_000), [], "nobody waits who does not know");
    assert_eq!(hold(200_000, 89_500).len(), 2, "who came at the end of the last one does not");
}

#[test]
fn one_that_has_not_responded_holds_one_place_and_the_next_only_after_a_while() {
    let mut bench = Bench::new(None);
    let now = Moment(0);
    let (dead, well) = (bench.registrars.id_of(&at("dead"), now), bench.well("well"));
    for slot in 0..10 {
        bench.registrars.wait(dead, refresh(1), slot, 0, now);
        bench.registrars.wait(well, later(0, Class::First), 100 + slot, 0, now);
    }
    let sent: Vec<u32> = std::iter::from_fn(|| bench.next(now).map(|(_, id)| id)).collect();
    assert_eq!(sent.iter().filter(|id| **id == dead).count(), 1);
    assert_eq!(sent.iter().filter(|id| **id == well).count(), 10);
    let mut at = Vec::new();
    for moment in (0..20_000).step_by(100).map(Moment) {
        at.extend(bench.next(moment).map(|_| moment.0));
    }
    assert_eq!(at, [1_000, 3_000, 7_000, 15_000]);
    // The first response, and all others go.
    bench.registrars.heard(dead, 20_000, Moment(20_000));
    assert_eq!(std::iter::from_fn(|| bench.next(Moment(20_000))).count(), 5);
}

#[test]
fn no_registrar_has_a_second_place_before_each_has_had_one() {
    let mut bench = Bench::new(None);
    let now = Moment(100);
    let ids: Vec<u32> = (0..5).map(|n| bench.registrars.id_of(&at(&format!("r{n}")), now)).collect();
    for (slot, id) in (0..).zip(ids.iter().flat_map(|id| [*id; 3])) {
        bench.registrars.wait(id, later(0, Class::First), slot, 0, now);
    }
    // One place at a time, as if the Requester took no more; each lasts for a while, and none is responded to.
    let mut turns = Vec::new();
    for turn in 0..5 {
        turns.extend(bench.next(Moment(100 + turn * 1_000)).map(|(_, id)| id));
    }
    turns.sort_unstable();
    assert_eq!(turns, ids);
}

#[test]
fn of_what_can_wait_the_one_whose_turn_was_longest_ago_is_next() {
    let mut bench = Bench::new(None);
    let (many, few) = (bench.well("many"), bench.well("few"));
    (0..100).for_each(|slot| bench.registrars.wait(many, later(0, Class::Retry), slot, 0, Moment(50)));
    assert_eq!(bench.next(Moment(50)).map(|(_, id)| id), Some(many));
    bench.registrars.wait(few, later(40, Class::First), 200, 0, Moment(60));
    assert_eq!(bench.next(Moment(60)).map(|(_, id)| id), Some(few), "it waits for all the trunks of another");
}

#[test]
fn one_that_is_down_gets_a_probe_in_five_to_ten_seconds_until_it_responds() {
    let mut bench = Bench::new(None);
    let id = bench.well("down");
    for slot in 0..3 {
        bench.registrars.wait(id, later(0, Class::Retry), slot, 0, Moment(0));
        assert!(bench.next(Moment(0)).is_some());
        bench.registrars.ended(id, false, Moment(0));
        let row = bench.registrars.failed(id, slot, "503", Moment(0), &mut bench.rng);
        assert_eq!(row, (slot == 2).then(|| vec![0, 1, 2]));
    }
    assert_eq!(bench.registrars.down(&at("down")).map(|(_, why)| why), Some("503"));
    (0..20).for_each(|slot| bench.registrars.wait(id, later(slot.into(), Class::Retry), slot, 0, Moment(0)));
    let mut at = vec![0];
    for moment in (0..60_000).step_by(100).map(Moment) {
        while bench.next(moment).is_some() {
            at.push(moment.0);
            bench.registrars.ended(id, true, moment);
        }
    }
    assert!((6..=12).contains(&(at.len() - 1)), "{at:?}");
    assert!(at.windows(2).all(|pair| (5_000..=10_100).contains(&(pair[1] - pair[0]))), "{at:?}");
    assert!(bench.registrars.over_budget(Moment(60_000), 9).is_empty());
    bench.registrars.heard(id, 5, Moment(60_000));
    assert_eq!(bench.registrars.revived(id, Moment(60_000)), Some(Moment(0)));
    let rest = std::iter::from_fn(|| bench.next(Moment(60_000))).count();
    assert_eq!(rest + at.len() - 1, 20);
}

#[test]
fn a_refresh_at_a_registrar_that_left_the_last_request_unanswered_goes_behind_the_others() {
    let mut bench = Bench::new(None);
    let now = Moment(1_000);
    let (silent, well) = (bench.well("silent"), bench.well("well"));
    bench.registrars.silent(silent, now);
    bench.registrars.wait(silent, refresh(5_000), 1, 0, now);
    bench.registrars.wait(well, refresh(9_000), 2, 0, now);
    bench.registrars.wait(well, later(0, Class::Retry), 3, 0, now);
    let order: Vec<u32> = std::iter::from_fn(|| bench.next(now).map(|(slot, _)| slot)).collect();
    assert_eq!(order, [2, 1, 3], "but before what has no binding to lose");
    bench.registrars.heard(silent, 5, now);
    bench.registrars.wait(silent, refresh(5_000), 4, 0, now);
    bench.registrars.wait(well, refresh(9_000), 5, 0, now);
    assert_eq!(bench.next(now), Some((4, silent)));
}

#[test]
fn probes_that_never_left_the_requester_cost_a_registrar_its_turn_and_its_refreshes_nothing() {
    let mut bench = Bench::new(None);
    let now = Moment(1_000);
    let (failing, other) = (bench.well("failing"), bench.well("other"));
    bench.registrars.wasted(failing);
    assert_eq!([failing, other].map(|id| bench.registrars.fruitless(id, now)), [1, 0]);
    bench.registrars.wait(failing, refresh(5_000), 1, 0, now);
    bench.registrars.wait(other, refresh(9_000), 2, 0, now);
    assert_eq!(bench.next(now), Some((1, failing)));
    bench.registrars.heard(failing, 5, now);
    bench.registrars.ended(failing, false, now);
    assert_eq!(bench.registrars.fruitless(failing, now), 0);
}

#[test]
fn what_no_longer_waits_is_passed_over() {
    let mut bench = Bench::new(None);
    let now = Moment(0);
    let id = bench.registrars.id_of(&at("one"), now);
    bench.registrars.wait(id, refresh(1), 1, 0, now);
    bench.registrars.wait(id, refresh(2), 2, 7, now);
    assert_eq!(bench.next_that(now, |_, stamp| stamp == 7), Some((2, id)));
    assert_eq!(bench.next(now), None);
}

#[test]
fn unused_registrars_are_forgotten() {
    let mut bench = Bench::new(Some(1.0));
    bench.registrars.id_of(&at("old"), Moment(0));
    bench.registrars.forget_unused(Moment(FORGET_AFTER), 1);
    assert_eq!(bench.registrars.by_target.len(), 1);
    bench.registrars.forget_unused(Moment(FORGET_AFTER + 1), 1);
    assert!(bench.registrars.by_host.is_empty());
    let (a, b) = (bench.registrars.id_of(&at("a"), Moment(1)), bench.registrars.id_of(&at("b"), Moment(1)));
    assert_ne!(a, b);
}

#[test]
fn what_another_trunk_registered_counts_until_that_has_left() {
    let mut bench = Bench::new(None);
    let id = bench.well("one");
    bench.registrars.registered(id, 2, Moment(2_000));
    bench.registrars.registered(id, 3, Moment(3_000));
    assert_eq!(bench.registrars.others_registered(id, 3), Some(Moment(2_000)));
    bench.registrars.left_by(&at("one"), 3);
    assert_eq!(bench.registrars.others_registered(id, 1), Some(Moment(2_000)), "2 is there still");
    bench.registrars.left_by(&at("one"), 2);
    assert_eq!(bench.registrars.others_registered(id, 1), None);
}
