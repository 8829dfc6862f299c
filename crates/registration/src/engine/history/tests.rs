use super::*;

fn attempt(registrar: &str, reason: Option<&'static str>, message: &str) -> HistoryEvent {
    HistoryEvent::Attempt(HistoryAttempt {
        registrar: registrar.into(),
        edge_port: "edge:5060".into(),
        failed_over: false,
        probe: false,
        reason: reason.map(Cow::Borrowed),
        code: None,
        message: message.into(),
        next_at_ms: None,
    })
}

fn failed(registrar: &str) -> HistoryEvent {
    attempt(registrar, Some("Timeout"), "no response")
}

fn state(from: TrunkState, to: TrunkState) -> HistoryEvent {
    HistoryEvent::State { from, to, failed_over: false }
}

/// Registrars or words of a history, with the number of times.
fn shown(histories: &Histories, slot: u32) -> Vec<String> {
    let (entries, _) = histories.get(slot);
    let shown = entries.into_iter().map(|entry| match entry.event {
        HistoryEvent::State { to, .. } => to.name().to_owned(),
        HistoryEvent::Attempt(attempt) => format!("{} x{}", attempt.registrar, entry.times),
        HistoryEvent::Wait { waited_for } => format!("{waited_for} x{}", entry.times),
    });
    shown.collect()
}

/// Counts everything again.
fn check(histories: &Histories) {
    let entries: usize = histories.trunks.values().map(|history| history.entries.len()).sum();
    let bytes: usize = histories
        .trunks
        .values()
        .map(|history| size_of::<History>() + history.entries.iter().map(HistoryEntry::bytes).sum::<usize>())
        .sum();
    assert_eq!((histories.entries, histories.bytes), (entries, bytes));
    assert!(entries <= MAX_ENTRIES && bytes <= MAX_BYTES, "{entries} entries, {bytes} bytes");
    let well = histories.trunks.values().filter(|history| history.well.is_some()).count();
    assert_eq!(histories.well.len(), well);
}

#[test]
fn targets_that_fail_in_turn_are_one_entry_each_until_the_state_changes() {
    let mut histories = Histories::default();
    for round in 0..50 {
        histories.add(7, failed("a"), 1_000 + round * 100);
        histories.add(7, failed("b"), 1_050 + round * 100);
    }
    assert_eq!(shown(&histories, 7), ["a x50", "b x50"]);
    let (entries, omitted) = histories.get(7);
    assert_eq!((entries[0].first_ms, entries[0].last_ms, omitted), (1_000, 5_900, 0));
    histories.add(7, state(TrunkState::AtRisk, TrunkState::Failing), 7_000);
    histories.add(7, failed("a"), 7_100);
    assert_eq!(shown(&histories, 7), ["a x50", "b x50", "failing", "a x1"]);
    check(&histories);
}

#[test]
fn another_outcome_is_another_entry_and_other_words_are_not() {
    let mut histories = Histories::default();
    histories.add(0, attempt("a", Some("Timeout"), "no response for 3 s"), 1);
    histories.add(0, attempt("a", Some("Timeout"), "no response for 4 s"), 2);
    histories.add(0, attempt("a", Some("Unreachable"), "refused"), 3);
    histories.add(0, attempt("a", None, ""), 4);
    assert_eq!(shown(&histories, 0), ["a x2", "a x1", "a x1"]);
    let HistoryEvent::Attempt(first) = &histories.get(0).0[0].event else { panic!("an attempt") };
    assert_eq!(&*first.message, "no response for 4 s");
    check(&histories);
}

#[test]
fn a_wait_that_goes_on_is_one_and_after_a_probe_it_is_another() {
    let mut histories = Histories::default();
    let wait = || HistoryEvent::Wait { waited_for: "registrar a".into() };
    for at in 0..3 {
        histories.add(0, wait(), at);
    }
    assert_eq!(shown(&histories, 0), ["registrar a x1"]);
    histories.add(0, failed("a"), 10);
    histories.add(0, wait(), 11);
    assert_eq!(shown(&histories, 0), ["a x1", "registrar a x2"]);
    check(&histories);
}

#[test]
fn the_next_attempt_is_noted_at_the_last_one() {
    let mut histories = Histories::default();
    histories.set_next(0, Some(1));
    assert!(!histories.is_kept(0), "it begins nothing");
    histories.add(0, failed("a"), 10);
    histories.add(0, failed("b"), 20);
    histories.add(0, state(TrunkState::Pending, TrunkState::Failing), 20);
    histories.set_next(0, Some(99));
    let next: Vec<Option<u64>> = histories
        .get(0)
        .0
        .into_iter()
        .map(|entry| match entry.event {
            HistoryEvent::Attempt(attempt) => attempt.next_at_ms,
            _ => None,
        })
        .collect();
    assert_eq!(next, [None, Some(99), None]);
}

#[test]
fn one_keeps_its_last_entries_and_the_number_of_the_others() {
    let mut histories = Histories::default();
    for n in 0..40_u64 {
        histories.add(0, failed(&format!("r{n}")), n);
    }
    let (entries, omitted) = histories.get(0);
    assert_eq!((entries.len(), omitted), (16, 24));
    assert_eq!((entries[0].first_ms, entries[15].first_ms), (24, 39));
    check(&histories);
}

#[test]
fn where_room_is_short_those_that_are_well_for_longest_lose_theirs() {
    let mut histories = Histories::default();
    let mut slot = 0;
    while histories.entries < MAX_ENTRIES && histories.bytes + 1_000 < MAX_BYTES {
        histories.add(slot, failed("a"), 1);
        slot += 1;
    }
    for well in [5, 3, 4] {
        histories.set_well(well, true);
    }
    histories.set_well(3, false);
    let kept = |histories: &Histories| [3, 4, 5].map(|slot| histories.is_kept(slot));
    while histories.is_kept(5) {
        histories.add(slot, failed("a"), 2);
        slot += 1;
        check(&histories);
    }
    assert_eq!(kept(&histories), [true, true, false]);
    while histories.is_kept(4) {
        histories.add(slot, failed("a"), 2);
        slot += 1;
        check(&histories);
    }
    // None is well any more: no history makes room for a newcomer, and each trunk keeps its own last entries.
    let newcomer = slot + 10;
    for _ in 0..100 {
        histories.add(newcomer, failed("a"), 3);
    }
    histories.add(3, failed("b"), 4);
    assert!((0..4).all(|slot| histories.is_kept(slot)));
    assert!(histories.is_kept(3) && shown(&histories, 3).contains(&"b x1".to_owned()));
    check(&histories);
}

#[test]
fn no_message_takes_more_than_its_part_or_harms_a_terminal() {
    let mut histories = Histories::default();
    histories.add(0, attempt("a", Some("Refused"), &format!("\u{1b}[2J{}", "x".repeat(100_000))), 1);
    let (entries, _) = histories.get(0);
    let HistoryEvent::Attempt(attempt) = &entries[0].event else { panic!("an attempt") };
    assert!(attempt.message.len() <= MAX_MESSAGE_BYTES && !attempt.message.contains('\u{1b}'));
    assert!(attempt.message.ends_with(text::CUT));
}

#[test]
fn what_is_removed_leaves_nothing() {
    let mut histories = Histories::default();
    histories.add(1, failed("a"), 1);
    histories.set_well(1, true);
    histories.set_well(1, true);
    histories.remove(1);
    histories.remove(1);
    assert_eq!((histories.entries, histories.bytes, histories.well.len()), (0, 0, 0));
}
