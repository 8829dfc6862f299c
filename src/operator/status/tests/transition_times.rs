//! Transition times of conditions, and the degree to which two statuses differ.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

fn twenty() -> Snapshot {
    snapshot(counts(20, 0, 0, 0, 0))
}

fn without_api(since_ms: u64) -> Situation {
    let mut now = twenty();
    now.summary.api = Health { since_ms, ..broken(DependencyFailure::Unreachable, "no") };
    running(now)
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let first = status(None, &running(twenty()));
    assert_eq!(changed(&first, reasons::READY), NOW);
    assert_eq!(changed(&first, reasons::API_REACHABLE), NOW - 60 * MINUTE, "since when it is known to work");
    let second = status(Some(&first), &later(running(snapshot(counts(18, 2, 0, 0, 0))), MINUTE));
    assert_eq!(brief(&second, reasons::READY), "True/TrunksAtRisk");
    assert_eq!(changed(&second, reasons::READY), NOW, "another reason is no other status");
    let third = status(Some(&second), &later(running(snapshot(counts(18, 0, 2, 0, 0))), 2 * MINUTE));
    assert_eq!(changed(&third, reasons::READY), NOW + 2 * MINUTE);
    assert_eq!(changed(&third, reasons::STALLED), NOW);
    let fourth = status(Some(&third), &later(running(twenty()), 3 * MINUTE));
    assert_eq!(changed(&fourth, reasons::READY), NOW + 3 * MINUTE);
}

#[test]
fn a_change_happened_when_the_engine_says_so_where_that_can_be() {
    let before = status(None, &running(twenty()));
    let at =
        |now: Situation| changed(&status(Some(&before), &later(now, 9 * MINUTE)), reasons::API_REACHABLE);
    assert_eq!(at(without_api(NOW + 4 * MINUTE)), NOW + 4 * MINUTE);
    let now = NOW + 9 * MINUTE;
    assert_eq!(at(without_api(now)), now);
    assert_eq!(at(without_api(now + 1)), now, "in the future");
    assert_eq!(at(without_api(0)), now, "not known");
    assert_eq!(at(without_api(NOW - 61 * MINUTE)), now, "before the previous change");
    // Ready follows from the dependency.
    let mut down = twenty();
    down.summary.requester = Health { since_ms: NOW + MINUTE, ..broken(DependencyFailure::Timeout, "no") };
    let down = status(Some(&before), &later(running(down), 2 * MINUTE));
    assert_eq!(changed(&down, reasons::READY), NOW + MINUTE);
    assert_eq!(changed(&down, reasons::REQUESTER_REACHABLE), NOW + MINUTE);
}

#[test]
fn what_is_read_back_from_the_api_server_makes_no_difference() {
    for (what, before, now, _) in super::faults::cases() {
        let written = status(before.as_ref(), &later(now.clone(), 678));
        let json = serde_json::to_string(&written).unwrap();
        let read: RegistryStatus = serde_json::from_str(&json).unwrap();
        assert_eq!(diff(&written, &read), Diff::None, "{what}");
        assert_eq!(diff(&read, &status(Some(&read), &later(now, 678))), Diff::None, "{what}");
    }
}

#[test]
fn only_what_somebody_waits_for_is_a_real_difference() {
    type Edit = fn(&mut RegistryStatus);
    let now = rejecting(snapshot(counts(18, 0, 0, 0, 0)), &["a", "b"], "Timeout");
    let before = status(None, &running(now));
    let slight: [(&str, Edit); 7] = [
        ("last sync", |s| s.last_sync_time = Some(Time(jiff::Timestamp::MAX))),
        ("next expiry", |s| s.next_expiry_time = None),
        ("next try", |s| s.failures[0].next_attempt_time = None),
        ("expires", |s| s.failures[0].expiry_time = s.last_sync_time.clone()),
        ("order of failures", |s| s.failures.reverse()),
        ("words of a failure", |s| s.failures[0].message = "else".to_owned()),
        ("words of a condition", |s| s.conditions[0].message = "else".to_owned()),
    ];
    let real: [(&str, Edit); 8] = [
        ("generation", |s| s.observed_generation = Some(4)),
        ("counts", |s| s.trunks.as_mut().unwrap().registered = 19),
        ("status", |s| s.conditions[0].status = "True".to_owned()),
        ("reason", |s| s.conditions[0].reason = "Else".to_owned()),
        ("a condition gone", |s| drop(s.conditions.pop())),
        ("a failure gone", |s| drop(s.failures.pop())),
        ("another trunk", |s| s.failures[0].reference = "z".to_owned()),
        ("another failure", |s| s.failures[0].reason = "CredentialsRejected".to_owned()),
    ];
    let cases = slight.map(|edit| (edit, Diff::Cosmetic)).into_iter();
    for ((what, edit), expected) in cases.chain(real.map(|edit| (edit, Diff::Significant))) {
        let mut after = before.clone();
        edit(&mut after);
        assert_eq!(diff(&before, &after), expected, "{what}");
    }
    assert_eq!(diff(&before, &before.clone()), Diff::None);
}

/// A refresh of a trunk that is well, and a retry of one that is not, cause no write at once.
#[test]
fn time_that_goes_by_is_a_slight_difference_only() {
    for (what, before, now, _) in super::faults::cases() {
        let first = status(before.as_ref(), &now);
        let mut next = later(now, 20_000);
        if let Phase::Running(snapshot) | Phase::Suspended(snapshot) | Phase::Deregistering { snapshot, .. } =
            &mut next.phase
        {
            snapshot.summary.next_expiry_ms = Some(NOW + 3 * MINUTE);
            snapshot.summary.last_sync_ms = snapshot.summary.last_sync_ms.map(|at| at + 20_000);
            snapshot.summary.in_flight = 3;
            for trunk in &mut snapshot.failures.worst {
                trunk.next_at_ms = Some(NOW + 9 * MINUTE);
                trunk.failures += 1;
            }
        }
        let second = status(Some(&first), &next);
        assert!(diff(&first, &second) <= Diff::Cosmetic, "{what}");
        for kind in reasons::CONDITIONS {
            assert_eq!(conditions::find(&first, kind), conditions::find(&second, kind), "{what}: {kind}");
        }
    }
}
