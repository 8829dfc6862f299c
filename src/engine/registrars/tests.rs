use super::*;

const YES: fn(u32, u32) -> bool = |_, _| true;

fn refresh(lapse: u64) -> Urgency {
    (false, Moment(lapse), Class::Refresh)
}

fn later(since: u64, class: Class) -> Urgency {
    (true, Moment(since), class)
}

#[test]
fn refreshes_go_first_then_age_then_retries_before_first_ones() {
    let mut registrars = Registrars::new(None);
    let now = Moment(1_000);
    let (one, two) = (registrars.id_of("one", now), registrars.id_of("two", now));
    registrars.wait(one, later(500, Class::First), 1, 0, now);
    registrars.wait(two, later(500, Class::Retry), 2, 0, now);
    registrars.wait(one, later(400, Class::First), 3, 0, now);
    registrars.wait(two, refresh(9_000), 4, 0, now);
    registrars.wait(one, refresh(8_000), 5, 0, now);
    let order: Vec<u32> =
        std::iter::from_fn(|| registrars.next(false, 9, false, now, YES).map(|(slot, _)| slot)).collect();
    assert_eq!(order, [5, 4, 3, 2, 1]);
}

#[test]
fn a_budget_is_kept_in_every_window() {
    let rate = 20.0;
    let mut registrars = Registrars::new(Some(rate));
    let id = registrars.id_of("one", Moment(0));
    for slot in 0..1_000 {
        registrars.wait(id, later(0, Class::First), slot, 0, Moment(0));
    }
    let mut sent = Vec::new();
    let mut now = Moment(0);
    while sent.len() < 1_000 {
        while registrars.next(false, 9, false, now, YES).is_some() {
            sent.push(now.0);
        }
        if sent.len() < 1_000 {
            now = registrars.next_at().unwrap();
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
    let mut registrars = Registrars::new(Some(100.0));
    let now = Moment(0);
    let (held, other) = (registrars.id_of("held", now), registrars.id_of("other", now));
    registrars.hold(held, Moment(5_000), now);
    registrars.wait(held, refresh(1), 1, 0, now);
    registrars.wait(other, refresh(2), 2, 0, now);
    assert_eq!(registrars.next(false, 9, false, now, YES), Some((2, other)));
    assert_eq!(registrars.next(false, 9, false, now, YES), None);
    assert_eq!(registrars.next_at(), Some(Moment(5_000)));
    assert_eq!(registrars.held_until("held"), Moment(5_000));
    assert_eq!(registrars.next(false, 9, false, Moment(5_000), YES), Some((1, held)));
}

#[test]
fn whoever_waits_hears_of_a_hold_that_is_worth_a_detour_once() {
    let mut registrars = Registrars::new(None);
    let id = registrars.id_of("held", Moment(0));
    let mut hold = |until, now| {
        registrars.wait(id, refresh(1), 1, 7, Moment(now));
        registrars.hold(id, Moment(until), Moment(now))
    };
    assert_eq!(hold(1_000, 0), []);
    // Both that wait by then.
    assert_eq!(hold(60_000, 500), [(1, 7), (1, 7)], "the brief one is not over yet");
    assert_eq!(hold(90_000, 1_000), [], "nobody waits who does not know");
    assert_eq!(hold(200_000, 89_500).len(), 2, "who came at the end of the last one does not");
}

#[test]
fn a_silent_registrar_holds_up_nobody() {
    let mut registrars = Registrars::new(None);
    let now = Moment(0);
    let (dead, well) = (registrars.id_of("dead", now), registrars.id_of("well", now));
    for _ in 0..3 {
        registrars.finished(dead, Some(true), now);
    }
    for slot in 0..10 {
        registrars.wait(dead, refresh(1), slot, 0, now);
        registrars.wait(well, refresh(2), 100 + slot, 0, now);
    }
    let sent: Vec<u32> =
        std::iter::from_fn(|| registrars.next(false, 2, false, now, YES).map(|(_, id)| id)).collect();
    assert_eq!(sent.iter().filter(|id| **id == dead).count(), 2);
    assert_eq!(sent.iter().filter(|id| **id == well).count(), 10);
    registrars.finished(dead, Some(true), now);
    assert!(registrars.next(false, 2, false, now, YES).is_some(), "its place is free again");
    registrars.finished(dead, Some(false), now);
    assert_eq!(std::iter::from_fn(|| registrars.next(false, 2, false, now, YES)).count(), 7);
}

#[test]
fn the_last_place_is_not_for_a_silent_registrar_where_its_bindings_have_lapsed() {
    let now = Moment(1_000);
    let first_with = |lapse: u64, urgent_only: bool| {
        let mut registrars = Registrars::new(None);
        let (dead, well) = (registrars.id_of("dead", now), registrars.id_of("well", now));
        for _ in 0..SILENT_FROM {
            registrars.finished(dead, Some(true), now);
        }
        registrars.wait(dead, refresh(lapse), 1, 0, now);
        registrars.wait(well, later(900, Class::First), 2, 0, now);
        registrars.next(urgent_only, 1, true, now, YES).map(|(slot, _)| slot)
    };
    assert_eq!(
        first_with(1_000, false),
        Some(2),
        "a refresh that is too late went before a first registration"
    );
    assert_eq!(first_with(1_001, false), Some(1), "a refresh in time goes before a first registration");
    assert_eq!(first_with(1_000, true), Some(1), "the place is kept for refreshes");
}

#[test]
fn what_no_longer_waits_is_passed_over() {
    let mut registrars = Registrars::new(None);
    let now = Moment(0);
    let id = registrars.id_of("one", now);
    registrars.wait(id, refresh(1), 1, 0, now);
    registrars.wait(id, refresh(2), 2, 7, now);
    assert_eq!(registrars.next(false, 9, false, now, |_, stamp| stamp == 7), Some((2, id)));
    assert_eq!(registrars.next(false, 9, false, now, YES), None);
}

#[test]
fn unused_registrars_are_forgotten() {
    let mut registrars = Registrars::new(Some(1.0));
    registrars.id_of("old", Moment(0));
    registrars.forget_unused(Moment(FORGET_AFTER));
    assert_eq!(registrars.by_host.len(), 1);
    registrars.forget_unused(Moment(FORGET_AFTER + 1));
    assert!(registrars.by_host.is_empty());
    let (a, b) = (registrars.id_of("a", Moment(1)), registrars.id_of("b", Moment(1)));
    assert_ne!(a, b);
}
