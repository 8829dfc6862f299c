//! Events.

use super::*;

/// The events along a row of situations, each ten seconds after the one before; each as `!reason` or
/// `reason`.
fn recorded(row: &[Situation]) -> Vec<Vec<String>> {
    let mut before: Option<RegistryStatus> = None;
    let mut all = Vec::new();
    for (n, now) in row.iter().enumerate() {
        let after = status(before.as_ref(), &later(now.clone(), 10_000 * n as u64));
        let events = events(before.as_ref(), &after);
        for event in &events {
            let known = is_documented(event.reason);
            assert!(known && !event.message.is_empty() && event.message.len() <= 1_024, "{event:?}");
        }
        let brief = |n: &StatusEvent| format!("{}{}", if n.warning { "!" } else { "" }, n.reason);
        all.push(events.iter().map(brief).collect());
        before = Some(after);
    }
    all
}

/// Returns the events of the last situation of a row.
fn last(row: &[Situation]) -> Vec<String> {
    recorded(row).pop().unwrap()
}

fn words(row: &[Situation]) -> String {
    let [before, after] = row else { panic!("two situations") };
    let before = status(None, before);
    let after = status(Some(&before), &later(after.clone(), 10_000));
    events(Some(&before), &after).into_iter().map(|event| event.message).collect::<Vec<_>>().join("\n")
}

fn fine() -> Situation {
    running(snapshot(counts(20, 0, 0, 0, 0)))
}

fn refused(refs: &[&str]) -> Situation {
    let registered = 20 - refs.len() as u64;
    running(rejecting(snapshot(counts(registered, 0, 0, 0, 0)), refs, "CredentialsRejected"))
}

fn silent(n: u64) -> Situation {
    let mut snapshot = snapshot(counts(20 - n, 0, n, 0, 0));
    let silent = |n| trunk(&format!("s{n}"), TrunkState::Failing, "Timeout", "no answer in time");
    snapshot.failures.worst = (0..n.min(50)).map(silent).collect();
    running(snapshot)
}

fn change(change: impl FnOnce(&mut Summary)) -> Situation {
    let mut snapshot = snapshot(counts(20, 0, 0, 0, 0));
    change(&mut snapshot.summary);
    running(snapshot)
}

fn deleted() -> Situation {
    situation(Phase::Deregistering { snapshot: snapshot(counts(20, 0, 0, 0, 0)), deadline_ms: NOW + MINUTE })
}

#[test]
fn a_start_that_goes_well_is_one_event() {
    let pending = |n| running(snapshot(counts(20 - n, 0, 0, 0, n)));
    let row = [situation(Phase::Idle), running(fresh()), pending(20), pending(5), fine(), fine()];
    assert_eq!(recorded(&row).concat(), ["Ready"]);
}

#[test]
fn a_start_that_goes_badly_tells_what_is_wrong_once() {
    let row = [situation(Phase::Idle), running(fresh()), refused(&["a", "b"]), refused(&["a", "b"])];
    assert_eq!(recorded(&row).concat(), ["!TrunksRejected"]);
    assert_eq!(recorded(&[silent(2), silent(3), silent(1), fine()]).concat(), ["!NotReady", "Ready"]);
    let mut unread = fresh();
    unread.summary.api = broken(DependencyFailure::Unreachable, "no");
    assert_eq!(
        recorded(&[running(fresh()), running(unread), fine()]).concat(),
        ["!APIUnreachable", "APIReachable", "Ready"]
    );
}

#[test]
fn trunks_that_are_newly_refused_are_one_event_that_names_three() {
    assert_eq!(last(&[fine(), refused(&["a"])]), ["!TrunksRejected"]);
    assert_eq!(last(&[refused(&["a"]), refused(&["a"])]), Vec::<String>::new());
    assert_eq!(last(&[refused(&["a"]), refused(&["a", "b"])]), ["!TrunksRejected"]);
    assert_eq!(last(&[refused(&["a", "b"]), refused(&["b"])]), Vec::<String>::new());
    let said = words(&[refused(&["a"]), refused(&["a", "b", "c", "d", "e", "f"])]);
    assert!(
        said.starts_with(
            "5 trunks are rejected by the registrar: b (pbx of b at sip.provider.net:5060/UDP): the"
        ),
        "{said}"
    );
    assert!(
        said.contains("; d (")
            && !said.contains("; e (")
            && said.ends_with("; and 2 more, see status.failures"),
        "{said}"
    );
    // With others that fail for another reason, both are reported.
    let Phase::Running(mut mixed) = refused(&["a"]).phase else { panic!() };
    mixed.summary.counts.failing += 1;
    mixed.failures.worst.push(trunk("s", TrunkState::Failing, "Timeout", "no answer in time"));
    assert_eq!(last(&[fine(), running(mixed)]), ["!TrunksRejected", "!NotReady"]);
}

/// Of 10,000 that are refused, fifty are shown: when one of these recovers, the next one in the list is no
/// news.
#[test]
fn a_trunk_that_comes_into_a_full_list_is_not_news() {
    let of = |from: u64| {
        let mut snapshot = snapshot(counts(0, 0, 10_000 - from, 0, 0));
        snapshot.failures.by_reason.insert("CredentialsRejected".to_owned(), 10_000 - from);
        let refused = |n: u64| {
            let mut view = trunk(&format!("t{n}"), TrunkState::Failing, "CredentialsRejected", REFUSED);
            view.failure.as_mut().unwrap().since_ms = NOW - 600_000 + n * 1_000;
            view
        };
        snapshot.failures.worst = (from..from + 50).map(refused).collect();
        running(snapshot)
    };
    assert_eq!(last(&[of(0), of(0)]), Vec::<String>::new());
    let news = last(&[of(0), of(3)]);
    assert_eq!(news, ["!TrunksRejected"], "later than all that were shown: it may be new");
    let mut old = of(3);
    let Phase::Running(snapshot) = &mut old.phase else { panic!() };
    for trunk in &mut snapshot.failures.worst {
        trunk.failure.as_mut().unwrap().since_ms = NOW - 600_000;
    }
    assert_eq!(last(&[of(0), old]), Vec::<String>::new());
}

#[test]
fn a_dependency_that_is_lost_and_found_is_one_event_each() {
    let api = || change(|s| s.api = broken(DependencyFailure::Timeout, "timed out"));
    let requester = || change(|s| s.requester = broken(DependencyFailure::Unreachable, "refused"));
    let cache = || change(|s| s.cache = broken(DependencyFailure::Unauthorized, "WRONGPASS"));
    assert_eq!(recorded(&[fine(), api(), api(), fine()])[1..].concat(), ["!APIUnreachable", "APIReachable"]);
    assert_eq!(
        recorded(&[fine(), cache(), cache(), fine()])[1..].concat(),
        ["!CacheUnreachable", "CacheReachable"]
    );
    assert_eq!(
        recorded(&[fine(), requester(), requester(), silent(20), fine()])[1..].concat(),
        ["!RequesterUnreachable", "RequesterReachable", "Ready"]
    );
    assert!(words(&[fine(), cache()]).starts_with("WRONGPASS; registrations continue from memory"));
    // Not asked yet is neither lost nor found.
    let untried = || change(|s| s.requester = Health::default());
    assert_eq!(recorded(&[fine(), untried(), fine()])[1..].concat(), Vec::<String>::new());
}

#[test]
fn a_configuration_that_is_invalid_and_good_again_is_one_event_each() {
    let bad =
        || stalled(reasons::ConditionReason::InvalidSpec, Phase::Running(snapshot(counts(20, 0, 0, 0, 0))));
    assert_eq!(recorded(&[fine(), bad(), bad(), fine()])[1..].concat(), ["!InvalidSpec", "SpecAccepted"]);
    let other = Situation {
        generation: 4,
        stall: Some(Stall {
            reason: reasons::ConditionReason::InvalidSpec,
            message: "spec.apiAddr: another".to_owned(),
        }),
        ..bad()
    };
    assert_eq!(last(&[bad(), other]), ["!InvalidSpec"], "another mistake");
    let still = Situation { generation: 4, ..bad() };
    assert_eq!(last(&[bad(), still]), Vec::<String>::new());
    let secret = stalled(reasons::ConditionReason::SecretNotFound, Phase::Idle);
    assert_eq!(
        recorded(&[secret.clone(), secret, fine()]).concat(),
        ["!SecretNotFound", "SpecAccepted", "Ready"]
    );
}

#[test]
fn suspension_and_deletion_are_told_and_what_follows_from_them_is_not() {
    let suspended = || situation(Phase::Suspended(snapshot(counts(20, 0, 0, 0, 0))));
    assert_eq!(
        recorded(&[fine(), suspended(), suspended(), fine()])[1..].concat(),
        ["Suspended", "Resumed", "Ready"]
    );
    assert_eq!(recorded(&[fine(), deleted(), deleted()])[1..].concat(), ["Deregistering"]);
    assert_eq!(last(&[suspended(), deleted()]), ["Deregistering"]);
    let bad =
        stalled(reasons::ConditionReason::InvalidSpec, Phase::Running(snapshot(counts(20, 0, 0, 0, 0))));
    assert_eq!(last(&[bad, deleted()]), ["Deregistering"]);
}

#[test]
fn a_hand_over_to_another_replica_is_no_event() {
    assert_eq!(recorded(&[fine(), running(fresh()), fine()])[1..].concat(), Vec::<String>::new());
    assert_eq!(
        recorded(&[refused(&["a"]), running(fresh()), refused(&["a"])])[1..].concat(),
        Vec::<String>::new()
    );
}

#[test]
fn what_needs_a_person_though_all_are_registered_is_told_once() {
    let held = || change(|s| s.removals_pending_confirmation = 15);
    assert_eq!(recorded(&[fine(), held(), held(), fine()])[1..].concat(), ["!RemovalsPendingConfirmation"]);
    let over = || change(|s| s.over_budget = vec!["sip.provider.net".to_owned()]);
    assert_eq!(recorded(&[fine(), over(), over(), fine()])[1..].concat(), ["!BudgetTooSmall"]);
}

#[test]
fn the_end_of_a_deletion_is_told_by_its_own_words() {
    assert_eq!(deregistered(0).message, "no binding had to be removed");
    assert_eq!(deregistered(1).message, "the bindings of 1 trunk were removed");
    let late = not_deregistered(3, "the Requester does not answer");
    assert_eq!((late.warning, late.reason), (true, "NotDeregistered"));
    assert_eq!(
        late.message,
        "3 bindings are left at the registrars, and will expire: the Requester does not answer"
    );
}
