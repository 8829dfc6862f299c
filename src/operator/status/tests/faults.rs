//! Conditions of each fault.

use std::collections::BTreeSet;

use super::*;

/// Name of the fault, status before, situation now, and the seven conditions.
pub(super) type Case = (&'static str, Option<RegistryStatus>, Situation, [&'static str; 7]);

fn with(snapshot: Snapshot, change: impl FnOnce(&mut Summary)) -> Snapshot {
    let mut snapshot = snapshot;
    change(&mut snapshot.summary);
    snapshot
}

fn twenty() -> Snapshot {
    snapshot(counts(20, 0, 0, 0, 0))
}

const FINE: [&str; 7] = [
    "True/AllRegistered",
    "False/Settled",
    "False/NotStalled",
    "True/Reachable",
    "True/Reachable",
    "True/Reachable",
    "True/Accepted",
];

/// Returns the conditions when all is fine, but for these.
fn but<const N: usize>(changes: [(usize, &'static str); N]) -> [&'static str; 7] {
    let mut all = FINE;
    for (position, is) in changes {
        all[position] = is;
    }
    all
}

fn idle(first: &'static str, second: &'static str, third: &'static str) -> [&'static str; 7] {
    let unknown = "Unknown/NotRunning";
    [first, second, third, unknown, unknown, unknown, unknown]
}

fn dependencies() -> Vec<Case> {
    let api = |fault| with(twenty(), |summary| summary.api = broken(fault, "no"));
    let requester = |fault| with(twenty(), |summary| summary.requester = broken(fault, "no"));
    let cache = |fault| with(twenty(), |summary| summary.cache = broken(fault, "no"));
    let lost =
        |reason| but([(0, "False/RequesterUnreachable"), (1, "False/RequesterUnreachable"), (4, reason)]);
    vec![
        ("API down", None, running(api(DependencyFailure::Unreachable)), but([(3, "False/Unreachable")])),
        ("API slow", None, running(api(DependencyFailure::Timeout)), but([(3, "False/Timeout")])),
        ("API refuses", None, running(api(DependencyFailure::Refused)), but([(3, "False/Refused")])),
        ("API sends too much", None, running(api(DependencyFailure::TooMuch)), but([(3, "False/OverLimit")])),
        (
            "API is no API",
            None,
            running(api(DependencyFailure::Malformed)),
            but([(3, "False/MalformedResponse")]),
        ),
        (
            "Requester down",
            None,
            running(requester(DependencyFailure::Unreachable)),
            lost("False/Unreachable"),
        ),
        ("Requester hangs", None, running(requester(DependencyFailure::Timeout)), lost("False/Timeout")),
        ("Requester refuses", None, running(requester(DependencyFailure::Refused)), lost("False/Refused")),
        ("Redis down", None, running(cache(DependencyFailure::Unreachable)), but([(5, "False/Unreachable")])),
        (
            "Redis password",
            None,
            running(cache(DependencyFailure::Unauthorized)),
            but([(5, "False/CredentialsRejected")]),
        ),
        ("Redis full", None, running(cache(DependencyFailure::Refused)), but([(5, "False/Refused")])),
        (
            "another registry with the same keys",
            None,
            running(cache(DependencyFailure::Shared)),
            but([(5, "False/SharedKeys")]),
        ),
        (
            "Redis not asked",
            None,
            running(with(twenty(), |summary| summary.cache = Health::default())),
            but([(5, "Unknown/NotProbed")]),
        ),
        ("no Redis", None, running(Snapshot { durable: false, ..twenty() }), but([(5, "True/InMemory")])),
        (
            "resumed from Redis: nothing had to be sent",
            None,
            running(with(twenty(), |summary| summary.requester = Health::default())),
            but([(4, "Unknown/NotProbed")]),
        ),
    ]
}

fn trunks() -> Vec<Case> {
    let rejected = rejecting(snapshot(counts(18, 0, 0, 0, 0)), &["a", "b"], "CredentialsRejected");
    let unknown = rejecting(snapshot(counts(18, 0, 0, 0, 0)), &["a"], "UnknownAccount");
    let failure = |reason| [(0, "False/TrunksFailing"), (1, "False/TrunksUnhealthy"), (6, reason)];
    let ready = |reason| but([(0, reason)]);
    let waiting = |reason| but([(0, "False/Registering"), (1, reason), (6, "Unknown/AwaitingResponse")]);
    let begun = status(None, &running(snapshot(counts(0, 0, 0, 0, 1))));
    let pending = || running(snapshot(counts(0, 0, 0, 0, 1)));
    vec![
        ("all is well", None, running(twenty()), FINE),
        ("wrong passwords", None, running(rejected), but(failure("False/CredentialsRejected"))),
        ("no such account", None, running(unknown.clone()), but(failure("False/UnknownAccount"))),
        (
            "both",
            None,
            running(rejecting(unknown, &["z"], "CredentialsRejected")),
            but(failure("False/CredentialsRejected")),
        ),
        ("silence", None, running(snapshot(counts(0, 0, 2, 1, 9))), but(failure("Unknown/AwaitingResponse"))),
        (
            "a malformed trunk",
            None,
            running(snapshot(counts(19, 0, 0, 1, 5))),
            but([(0, "False/InvalidTrunks"), (1, "False/TrunksUnhealthy")]),
        ),
        ("first answers awaited", None, pending(), waiting("True/Registering")),
        (
            "awaited for nine minutes",
            Some(begun.clone()),
            later(pending(), 9 * MINUTE),
            waiting("True/Registering"),
        ),
        ("awaited for ten", Some(begun), later(pending(), 10 * MINUTE), waiting("False/TrunksPending")),
        ("refreshes fail", None, running(snapshot(counts(18, 2, 0, 0, 0))), ready("True/TrunksAtRisk")),
        (
            "over budget",
            None,
            running(with(twenty(), |summary| summary.over_budget = vec!["sip.provider.net".to_owned()])),
            ready("True/BudgetTooSmall"),
        ),
        (
            "many gone",
            None,
            running(with(twenty(), |summary| summary.removals_pending_confirmation = 15)),
            ready("True/RemovalsPendingConfirmation"),
        ),
        (
            "no trunk",
            None,
            running(snapshot(Counts::default())),
            but([(0, "True/NoTrunks"), (6, "Unknown/NoTrunks")]),
        ),
    ]
}

fn phases() -> Vec<Case> {
    let untried = "Unknown/NotProbed";
    let reading = |ready, api, credentials| {
        [ready, "True/Syncing", "False/NotStalled", api, untried, untried, credentials]
    };
    let unread =
        with(fresh(), |summary| summary.api = broken(DependencyFailure::Unreachable, "connection refused"));
    let deregistering = |snapshot| situation(Phase::Deregistering { snapshot, deadline_ms: NOW + 30_000 });
    let good = status(None, &running(twenty()));
    let mut cases = vec![
        ("begun", None, situation(Phase::Idle), idle("False/Starting", "True/Starting", "False/NotStalled")),
        (
            "first reading",
            None,
            running(fresh()),
            reading("False/Syncing", untried, "Unknown/AwaitingResponse"),
        ),
        (
            "first reading of the next leader",
            Some(good.clone()),
            running(fresh()),
            // What worked a moment ago is taken to work.
            {
                let was = "True/Reachable";
                let ready = "True/AllRegistered";
                [ready, "True/Syncing", "False/NotStalled", was, was, was, "True/Accepted"]
            },
        ),
        (
            "never read",
            None,
            running(unread.clone()),
            reading("False/APIUnreachable", "False/Unreachable", "Unknown/AwaitingResponse"),
        ),
        ("never read by the next leader", Some(good), running(unread), {
            let (api, was) = ("False/Unreachable", "True/Reachable");
            let ready = "False/APIUnreachable";
            [ready, "True/Syncing", "False/NotStalled", api, was, was, "True/Accepted"]
        }),
        (
            "no room for all trunks",
            None,
            running(with(twenty(), |summary| summary.left_out = 2)),
            but([(0, "False/OverLimit")]),
        ),
        (
            "suspended",
            None,
            situation(Phase::Suspended(twenty())),
            but([(0, "False/Suspended"), (1, "False/Suspended")]),
        ),
        (
            "deleted",
            None,
            deregistering(twenty()),
            but([(0, "False/Deregistering"), (1, "True/Deregistering")]),
        ),
        (
            "deleted while stalled",
            None,
            Situation {
                phase: deregistering(twenty()).phase,
                ..stalled(reasons::ConditionReason::InvalidSpec, Phase::Idle)
            },
            but([(0, "False/Deregistering"), (1, "True/Deregistering")]),
        ),
        (
            "stalled while suspended",
            None,
            stalled(reasons::ConditionReason::InvalidSpec, Phase::Suspended(twenty())),
            but([(0, "False/Suspended"), (1, "False/Stalled"), (2, "True/InvalidSpec")]),
        ),
        (
            "never a good specification",
            None,
            stalled(reasons::ConditionReason::InvalidSpec, Phase::Idle),
            idle("False/InvalidSpec", "False/Stalled", "True/InvalidSpec"),
        ),
    ];
    let wrong = [
        "True/InvalidSpec",
        "True/SecretNotFound",
        "True/SecretUnreadable",
        "True/InstanceIdInUse",
        "True/TooManyRegistries",
        "True/CannotStart",
    ];
    for (reason, wrong) in reasons::STALLS.into_iter().zip(wrong) {
        let now = stalled(reason, Phase::Running(twenty()));
        cases.push((reason.name(), None, now, but([(1, "False/Stalled"), (2, wrong)])));
    }
    cases
}

pub(super) fn cases() -> Vec<Case> {
    [dependencies(), trunks(), phases()].concat()
}

#[test]
fn each_fault_is_told_by_the_conditions_it_concerns() {
    for (what, before, now, expected) in cases() {
        let status = status(before.as_ref(), &now);
        let found: Vec<String> = reasons::CONDITIONS.iter().map(|kind| brief(&status, kind)).collect();
        assert_eq!(found, expected, "{what}");
        let kinds: Vec<&str> = status.conditions.iter().map(|condition| &*condition.type_).collect();
        assert_eq!(kinds, reasons::CONDITIONS, "{what}");
        assert!(status.conditions.iter().all(|c| c.observed_generation == Some(3) && !c.message.is_empty()));
        assert_eq!(status.observed_generation, Some(3));
    }
}

/// No reason is listed, and so documented, that nothing gives, and none is given that is not listed.
#[test]
fn the_list_of_reasons_is_complete_and_has_nothing_else() {
    let given: BTreeSet<String> = cases()
        .iter()
        .flat_map(|(_, before, now, _)| status(before.as_ref(), now).conditions)
        .filter(|condition| !reasons::STALLS.iter().any(|stall| stall.name() == condition.reason))
        .map(|condition| format!("{} {} {}", condition.type_, condition.status, condition.reason))
        .collect();
    let listed: BTreeSet<String> = reasons::REASONS
        .iter()
        .map(|(kind, truth, reason)| format!("{kind} {} {}", truth.name(), reason.name()))
        .collect();
    assert_eq!(given, listed);
    assert_eq!(listed.len(), reasons::REASONS.len());
}

#[test]
fn ready_names_the_trunks_with_since_when_and_why() {
    let refs = ["trunk-07", "trunk-11"];
    let now = running(rejecting(snapshot(counts(18, 0, 0, 0, 0)), &refs, "CredentialsRejected"));
    let found = status(None, &now);
    assert_eq!(
        message(&found, reasons::READY),
        "2 of 20 trunks are not registered: trunk-07 (pbx of trunk-07 at sip.provider.net:5060/UDP) since \
         2026-09-21T14:06:20Z: the registrar responded with 403 Forbidden; check username and password; \
         trunk-11 (pbx of trunk-11 at sip.provider.net:5060/UDP) since 2026-09-21T14:06:20Z: the registrar \
         responded with 403 Forbidden; check username and password"
    );
    assert_eq!(
        message(&found, reasons::CREDENTIALS_ACCEPTED),
        "2 trunks are refused for their user names or passwords: trunk-07 (pbx of trunk-07 at \
         sip.provider.net:5060/UDP), trunk-11 (pbx of trunk-11 at sip.provider.net:5060/UDP); each is \
         retried after 5 minutes to an hour, and immediately when it changes"
    );
    let many: Vec<String> = (0..9).map(|n| format!("t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let found = status(None, &running(rejecting(snapshot(counts(1, 0, 0, 2, 0)), &many, "Timeout")));
    let words = message(&found, reasons::READY);
    assert!(words.starts_with("9 of 12 trunks are not registered: t0 "), "{words}");
    assert!(words.contains("t2 (") && !words.contains("t3 ("), "{words}");
    assert!(words.ends_with("; and 6 more, see status.failures; 2 of 12 trunks are not valid"), "{words}");
}

#[test]
fn ready_mentions_what_else_is_wrong() {
    let mut now = snapshot(counts(18, 2, 0, 0, 0));
    now.summary.api = broken(DependencyFailure::Unreachable, "connection refused");
    now.summary.over_budget = (0..5).map(|n| format!("sip{n}.example")).collect();
    now.summary.removals_pending_confirmation = 15;
    let found = status(None, &stalled(reasons::ConditionReason::InvalidSpec, Phase::Running(now)));
    assert_eq!(
        message(&found, reasons::READY),
        "2 of 20 trunks are registered, but the last refresh failed; the current spec is not applied: see \
         Stalled; changes of trunks are not seen: see APIReachable; the trunks at sip0.example, \
         sip1.example, sip2.example and 2 more are too many for spec.registration.ratePerRegistrar: bindings \
         will expire there; 15 trunks are no longer listed; a second sync has to confirm it before they are \
         deregistered"
    );
    assert_eq!(
        message(&found, reasons::STALLED),
        "spec.edgePorts[0].address: \"a b\" is no address: write host:port; the last valid spec keeps running"
    );
    let words = message(&found, reasons::API_REACHABLE);
    assert_eq!(
        words,
        "connection refused; the trunks of the last sync stay registered, changes are not seen, and the \
         operator retries"
    );
}

#[test]
fn w1_an_edge_port_that_providers_can_hardly_reach_is_named_where_trunks_are_registered() {
    const ADVICE: &str = "Contact names the EdgePort 10.0.0.1, a private address: if providers cannot reach it, set \
                          spec.edgePorts[0].publicAddress";
    let ready = |counts, advice: Option<&str>, change: fn(&mut Summary)| {
        let now = Snapshot { edge_port_advice: advice.map(Into::into), ..with(snapshot(counts), change) };
        message(&status(None, &running(now)), reasons::READY)
    };
    let as_it_is: fn(&mut Summary) = |_| ();
    let well = counts(3, 0, 0, 0, 0);
    assert_eq!(ready(well, Some(ADVICE), as_it_is), format!("all 3 trunks are registered; {ADVICE}"));
    assert_eq!(ready(well, None, as_it_is), "all 3 trunks are registered");
    let at_risk = "3 of 3 trunks are registered, but the last refresh failed";
    assert_eq!(ready(counts(0, 3, 0, 0, 0), Some(ADVICE), as_it_is), format!("{at_risk}; {ADVICE}"));
    // The last one: the end may be cut.
    let more = ready(well, Some(ADVICE), |summary| summary.removals_pending_confirmation = 1);
    assert!(more.ends_with(&format!(" before they are deregistered; {ADVICE}")), "{more}");
    for (counts, change) in [
        (counts(0, 0, 0, 0, 0), as_it_is),
        (counts(2, 0, 1, 0, 0), as_it_is),
        (counts(2, 0, 0, 0, 1), as_it_is),
        (well, |summary: &mut Summary| summary.requester = broken(DependencyFailure::Unreachable, "no")),
    ] {
        assert_eq!(ready(counts, Some(ADVICE), change), ready(counts, None, change), "{counts:?}");
    }
}

#[test]
fn what_is_left_and_until_when_is_said_of_a_deletion_and_a_suspension() {
    let mut left = snapshot(Counts { deregistering: 7, ..Counts::default() });
    left.summary.requester = broken(DependencyFailure::Unreachable, "no");
    let found = status(None, &situation(Phase::Deregistering { snapshot: left, deadline_ms: NOW + 30_000 }));
    assert_eq!(
        message(&found, reasons::READY),
        "the bindings are being removed because the resource is being deleted: 7 left, until 2026-09-21T14:13:50Z at \
         the latest; the Requester does not work: see RequesterReachable"
    );
    let found = status(None, &situation(Phase::Deregistering { snapshot: fresh(), deadline_ms: NOW }));
    assert!(message(&found, reasons::READY).contains("the first sync has to complete"));
    let found = status(None, &situation(Phase::Suspended(snapshot(counts(18, 0, 2, 0, 0)))));
    assert_eq!(
        message(&found, reasons::READY),
        "nothing is sent because spec.suspend is true: bindings expire; 18 of 20 trunks still have one"
    );
}

#[test]
fn one_trunk_is_not_called_trunks() {
    let words = |snapshot| message(&status(None, &running(snapshot)), reasons::READY);
    assert_eq!(words(snapshot(counts(1, 0, 0, 0, 0))), "the only trunk is registered");
    assert_eq!(words(snapshot(counts(0, 0, 1, 0, 0))), "1 of 1 trunk is not registered");
    let one = rejecting(snapshot(counts(4, 0, 0, 0, 0)), &["a"], "UnknownAccount");
    let found = status(None, &running(one));
    assert!(
        message(&found, reasons::CREDENTIALS_ACCEPTED)
            .starts_with("1 trunk has an account that the registrar does not know: a (pbx of a at ")
    );
}

/// While nothing can be sent, what registrars said last still holds.
#[test]
fn an_outage_of_the_requester_does_not_clear_refused_credentials() {
    let refused = rejecting(snapshot(counts(18, 0, 0, 0, 0)), &["a"], "CredentialsRejected");
    let before = status(None, &running(refused.clone()));
    let mut down = snapshot(counts(18, 0, 1, 0, 0));
    down.summary.requester = broken(DependencyFailure::Unreachable, "no");
    down.failures.by_reason.insert("RequesterUnavailable".to_owned(), 1);
    let during = status(Some(&before), &later(running(down.clone()), MINUTE));
    assert_eq!(brief(&during, reasons::CREDENTIALS_ACCEPTED), "False/CredentialsRejected");
    down.summary.requester = healthy();
    let after = status(Some(&during), &later(running(down), 2 * MINUTE));
    assert_eq!(brief(&after, reasons::CREDENTIALS_ACCEPTED), "True/Accepted");
    // That they were accepted is not forgotten when all fail for another reason.
    let failing = status(Some(&after), &later(running(snapshot(counts(0, 0, 19, 0, 0))), 3 * MINUTE));
    assert_eq!(brief(&failing, reasons::CREDENTIALS_ACCEPTED), "True/Accepted");
    let gone = status(Some(&failing), &later(running(snapshot(Counts::default())), 4 * MINUTE));
    assert_eq!(brief(&gone, reasons::CREDENTIALS_ACCEPTED), "Unknown/NoTrunks");
}

#[test]
fn reconciling_ends_even_when_a_trunk_is_pending_for_ever() {
    let pending = || running(snapshot(counts(19, 0, 0, 0, 1)));
    let mut last = status(None, &pending());
    let mut said = vec![brief(&last, reasons::RECONCILING)];
    for minute in 1..60 {
        last = status(Some(&last), &later(pending(), minute * MINUTE));
        let brief = brief(&last, reasons::RECONCILING);
        if said.last() != Some(&brief) {
            said.push(brief);
        }
    }
    assert_eq!(said, ["True/Registering", "False/TrunksPending"]);
    last = status(Some(&last), &later(running(snapshot(counts(20, 0, 0, 0, 0))), 60 * MINUTE));
    assert_eq!(brief(&last, reasons::RECONCILING), "False/Settled");
    last = status(Some(&last), &later(pending(), 61 * MINUTE));
    assert_eq!(brief(&last, reasons::RECONCILING), "True/Registering");
}

#[test]
fn counts_times_and_failures_are_shown() {
    let mut now = rejecting(snapshot(counts(15, 1, 0, 1, 2)), &["a"], "CredentialsRejected");
    (now.summary.counts.deregistering, now.summary.failed_over) = (4, 3);
    let at_risk = trunk("b", TrunkState::AtRisk, "Timeout", "no answer in time");
    now.failures.worst.push(TrunkView { failed_over: true, ..at_risk });
    now.failures.worst.push(trunk("c", TrunkState::Registered, "InvalidTrunk", "its other URIs are used"));
    let status = status(None, &running(now));
    let shown = serde_json::to_value(&status).unwrap();
    assert_eq!(
        shown["trunks"],
        serde_json::json!({
            "total": 20, "registered": 15, "atRisk": 1, "failing": 1, "invalid": 1, "pending": 2, "deregistering": 4,
            "failedOver": 3, "redirected": 0
        })
    );
    assert_eq!(shown["lastSyncTime"], "2026-09-21T14:13:10Z");
    assert_eq!(shown["nextExpiryTime"], "2026-09-21T14:14:02Z");
    assert_eq!(
        shown["failures"],
        serde_json::json!([{
            "ref": "a", "name": "pbx of a", "state": "failing", "registrar": "sip.provider.net:5060/UDP",
            "edgePort": "edge:5060", "code": 403, "reason": "CredentialsRejected", "message": REFUSED,
            "sinceTime": "2026-09-21T14:06:20Z", "nextAttemptTime": "2026-09-21T14:13:50Z"
        }, {
            "ref": "b", "name": "pbx of b", "state": "atRisk", "registrar": "sip.provider.net:5060/UDP",
            "edgePort": "edge:5060", "failedOver": true, "code": 403, "reason": "Timeout", "message": "no answer in time",
            "sinceTime": "2026-09-21T14:06:20Z", "nextAttemptTime": "2026-09-21T14:13:50Z", "expiryTime": "2026-09-21T14:14:50Z"
        }])
    );
}

#[test]
fn a_new_leader_shows_what_the_last_one_knew_until_it_has_read_the_trunks() {
    let before = status(None, &running(rejecting(snapshot(counts(18, 0, 0, 0, 0)), &["a"], "Timeout")));
    let first = status(Some(&before), &later(running(fresh()), 9_000));
    assert_eq!((first.trunks, &first.failures), (before.trunks, &before.failures));
    assert_eq!(
        (&first.last_sync_time, &first.next_expiry_time),
        (&before.last_sync_time, &before.next_expiry_time)
    );
    let mut down = fresh();
    down.summary.api = broken(DependencyFailure::Unreachable, "no");
    let blind = status(Some(&first), &later(running(down), 9_000));
    assert_eq!((blind.trunks, blind.failures.len(), blind.next_expiry_time.is_none()), (None, 0, true));
    assert_eq!(blind.last_sync_time, before.last_sync_time);
}
