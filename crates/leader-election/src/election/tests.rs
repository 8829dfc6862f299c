use super::*;

const D: Duration = Duration::from_secs(10);

fn lease(holder: &str, seconds: Option<i32>, renewed: i64, version: &str) -> Observed {
    let record = LeaseRecord {
        holder: holder.into(),
        seconds,
        acquired: Some(1),
        renewed: Some(renewed),
        transitions: 3,
    };
    Observed { record, version: version.into() }
}

/// An election at its begin, and the moment of it.
fn begin() -> (ElectionState, Instant) {
    let start = Instant::now();
    (ElectionState::new("me_1".into(), LeaseTimes::of(D), start), start)
}

fn over(version: &str) -> ElectionAction {
    ElectionAction::Write { over: Some(version.into()) }
}

#[test]
fn the_times_leave_a_margin_for_every_duration() {
    for millis in [0, 1, 2999, 3000, 10_000, 60_000, 300_000, 9_000_000] {
        let times = LeaseTimes::of(Duration::from_millis(millis));
        assert_eq!(times.lease_duration.subsec_nanos(), 0);
        assert!((1..=300).contains(&times.seconds()));
        assert!(times.renew_deadline + times.lease_duration * 3 / 10 <= times.lease_duration);
        // Even without any response, a renewal is sent four times, and of slow ones two fit into a term.
        assert!(times.renew_period + times.hedge_delay * 3 < times.renew_deadline);
        assert!(times.request_timeout * 2 <= times.renew_deadline);
    }
    assert_eq!(LeaseTimes::of(Duration::from_millis(3001)).seconds(), 4);
}

#[test]
fn a_foreign_record_counts_from_when_it_was_first_seen() {
    let (mut me, start) = begin();
    assert_eq!(me.next(start), ElectionAction::Read);
    // The clock of its holder is decades behind, and says nothing.
    me.read(Some(lease("other_1", Some(10), 0, "7")), start);
    assert_eq!(me.next(start), ElectionAction::Wait(start + Duration::from_millis(500)));
    assert_eq!(me.leader(), Some("other_1"));
    let later = start + Duration::from_millis(9800);
    assert_eq!(me.next(later), ElectionAction::Read);
    // Someone touched the object; the holder did not renew.
    me.read(Some(lease("other_1", Some(10), 0, "8")), later);
    assert_eq!(me.next(later), ElectionAction::Wait(start + D), "not a whole half second more");
    assert_eq!(me.next(start + D), ElectionAction::Read);
    me.read(Some(lease("other_1", Some(10), 0, "9")), start + D);
    assert_eq!(me.next(start + D), over("9"));
    // A renewal, be it with a time of the past, begins it again.
    let (mut me, start) = begin();
    me.read(Some(lease("other_1", Some(10), 50, "7")), start);
    me.read(Some(lease("other_1", Some(10), 40, "8")), start + D);
    assert_eq!(me.next(start + D), ElectionAction::Wait(start + D + Duration::from_millis(500)));
}

#[test]
fn the_duration_of_the_holder_is_believed_within_bounds() {
    for (seconds, counts) in [
        (Some(1), 1),
        (Some(30), 30),
        (Some(300), 300),
        (Some(301), 10),
        (Some(0), 10),
        (Some(-5), 10),
        (None, 10),
    ] {
        let (mut me, start) = begin();
        me.read(Some(lease("other_1", seconds, 5, "7")), start);
        let dead = start + Duration::from_secs(counts);
        let before = dead - Duration::from_millis(1);
        me.read(Some(lease("other_1", seconds, 5, "7")), before);
        assert_eq!(me.next(before), ElectionAction::Wait(dead), "{seconds:?}");
        me.read(Some(lease("other_1", seconds, 5, "7")), dead);
        assert_eq!(me.next(dead), over("7"), "{seconds:?}");
    }
}

#[test]
fn a_released_lease_is_taken_at_once_and_counts_a_transition() {
    let (mut me, start) = begin();
    me.read(Some(lease("", Some(1), 5, "7")), start);
    assert_eq!(me.next(start), over("7"));
    let record = me.acquire_or_renew(1000);
    assert_eq!((record.holder.as_str(), record.seconds, record.transitions), ("me_1", Some(10), 4));
    assert_eq!((record.acquired, record.renewed), (Some(1000), Some(1000)));
    me.wrote(Observed { record, version: "8".into() }, start, start + Duration::from_millis(30));
    assert_eq!(me.leads_until(), Some(start + Duration::from_secs(7)), "from the moment of sending");
    // The wall clock goes back: the renewal still looks like one, and the begin of the term stays.
    let again = me.acquire_or_renew(3);
    assert_eq!((again.acquired, again.renewed, again.transitions), (Some(1000), Some(1001), 4));
    let (released, version) = me.give_up(2).expect("it holds the Lease");
    assert_eq!((released.holder.as_str(), released.seconds, version.as_str()), ("", Some(1), "8"));
}

#[test]
fn a_conflict_is_looked_into_and_means_nothing_by_itself() {
    let (mut me, start) = begin();
    me.read(None, start);
    assert_eq!(me.next(start), ElectionAction::Write { over: None });
    let record = me.acquire_or_renew(1000);
    me.wrote(Observed { record: record.clone(), version: "1".into() }, start, start);
    let later = start + LeaseTimes::of(D).renew_period;
    assert_eq!(me.next(later), over("1"));
    me.unwritten(WriteFailure::Conflict, later);
    assert_eq!(me.next(later), ElectionAction::Read);
    me.read(Some(Observed { record, version: "2".into() }), later);
    assert_eq!(me.next(later), over("2"), "its own renewal, whose answer was lost");
    me.unwritten(WriteFailure::Conflict, later);
    assert_eq!(
        me.next(later),
        ElectionAction::Wait(later + LeaseTimes::of(D).retry_period),
        "no loop without a pause"
    );
    me.read(Some(lease("other_1", Some(10), 5, "3")), later);
    assert_eq!(me.next(later), ElectionAction::Lose(LostReason::Taken { holder: "other_1".into() }));
    assert_eq!(me.leads_until(), None);
}

#[test]
fn an_answer_that_comes_too_late_makes_no_leader() {
    let (mut me, start) = begin();
    me.read(None, start);
    let record = me.acquire_or_renew(1000);
    let late = start + Duration::from_secs(7);
    me.wrote(Observed { record, version: "1".into() }, start, late);
    assert_eq!(me.leads_until(), None);
    assert_eq!(me.next(late), over("1"));
}
