//! Bounds that must hold whatever comes in.

use proptest::prelude::*;

use super::*;
use crate::operator::status::text::clean;

/// Returns the size as the API server stores it: Go's encoder escapes what HTML would take for its own.
fn stored_bytes(status: &RegistryStatus) -> usize {
    let json = serde_json::to_string(status).unwrap();
    json.len() + 5 * json.chars().filter(|c| matches!(c, '<' | '>' | '&')).count()
}

/// Returns whether a text meets the API server's demands on a reason.
fn is_reason(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ',' | ':');
    text.len() <= 1_024
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(inner)
        && !text.ends_with([',', ':'])
}

fn check(before: Option<&RegistryStatus>, now: &Situation) -> Result<RegistryStatus, TestCaseError> {
    let after = status(before, now);
    prop_assert_eq!(&after, &status(before, now), "not deterministic");
    prop_assert_eq!(diff(&after, &after), Diff::None);
    prop_assert!(stored_bytes(&after) < 100 * 1_024, "{} bytes", stored_bytes(&after));
    prop_assert!(after.failures.len() <= MAX_FAILURES);
    let kinds: Vec<&str> = after.conditions.iter().map(|condition| &*condition.type_).collect();
    prop_assert_eq!(kinds, reasons::CONDITIONS);
    for condition in &after.conditions {
        prop_assert!(is_reason(&condition.reason), "{:?}", condition);
        let listed = reasons::REASONS.iter().any(|(kind, truth, reason)| {
            (*kind, truth.name(), reason.name())
                == (&*condition.type_, &*condition.status, &*condition.reason)
        });
        let may_stall = [reasons::READY, reasons::STALLED].contains(&&*condition.type_);
        prop_assert!(
            listed
                || may_stall
                    && reasons::STALLS.map(reasons::ConditionReason::name).contains(&&*condition.reason),
            "{:?}",
            condition
        );
        prop_assert!(!condition.message.is_empty() && condition.message.len() <= 1_024, "{:?}", condition);
        prop_assert!(!condition.message.contains(char::is_control));
        prop_assert!(condition.last_transition_time <= text::time(now.now_ms), "{:?}", condition);
        if let Some(earlier) = before.and_then(|before| conditions::find(before, &condition.type_)) {
            if earlier.status == condition.status {
                prop_assert_eq!(&earlier.last_transition_time, &condition.last_transition_time);
            } else {
                prop_assert!(condition.last_transition_time >= earlier.last_transition_time);
            }
        }
    }
    for event in events(before, &after) {
        prop_assert!(event.message.len() <= 1_024 && !event.message.is_empty());
        prop_assert!(is_documented(event.reason));
    }
    Ok(after)
}

fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z]{1,12}",
        "\\PC{0,400}",
        any::<String>(),
        Just("<&>".repeat(5_000)),
        Just("\"\\\n\u{0}\u{202e}".repeat(5_000)),
        Just("\u{1f4a3}".repeat(5_000)),
        Just(" ".repeat(5_000)),
    ]
}

fn moment() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), NOW - 100_000..NOW + 10_000_000]
}

fn health() -> impl Strategy<Value = Health> {
    let fault = prop::sample::select(vec![
        DependencyFailure::Unreachable,
        DependencyFailure::Timeout,
        DependencyFailure::Refused,
        DependencyFailure::Unauthorized,
        DependencyFailure::Malformed,
    ]);
    (prop::option::of(any::<bool>()), prop::option::of(fault), prop::option::of(nasty()), moment())
        .prop_map(|(ok, reason, message, since_ms)| Health { ok, message, reason, since_ms })
}

fn troubled() -> impl Strategy<Value = TrunkView> {
    let state = prop::sample::select(TrunkState::ALL.to_vec());
    let failure = (nasty(), prop::option::of(any::<u16>()), nasty(), moment())
        .prop_map(|(reason, code, message, since_ms)| TrunkFailure { reason, code, message, since_ms });
    let targets = (nasty(), nasty(), any::<bool>());
    (state, nasty(), nasty(), targets, prop::option::of(moment()), prop::option::of(failure)).prop_map(
        |(state, reference, name, (registrar, edge_port, failed_over), at, failure)| TrunkView {
            reference,
            name,
            registrar,
            edge_port,
            failed_over,
            next_at_ms: at,
            expires_at_ms: at,
            failure,
            ..trunk("", state, "", "")
        },
    )
}

fn outage() -> impl Strategy<Value = Down> {
    let what = prop::sample::select(vec!["registrar", "edgePort", ""]);
    (what, nasty(), moment(), nasty()).prop_map(|(what, name, since_ms, message)| Down {
        what: what.to_owned(),
        name,
        since_ms,
        message,
    })
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 3 => 1..30_u64, 1 => 0..u64::MAX / 8]
}

fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    let numbers = prop::array::uniform6(number()).prop_map(|n| Counts {
        pending: n[0],
        registered: n[1],
        at_risk: n[2],
        failing: n[3],
        invalid: n[4],
        deregistering: n[5],
    });
    let reason = prop::sample::select(vec!["CredentialsRejected", "UnknownAccount", "Timeout", ""]);
    let by_reason = prop::collection::btree_map(reason.prop_map(str::to_owned), 1..9_u64, 0..4);
    let dependencies = (health(), health(), health());
    let rest = (prop::option::of(moment()), prop::option::of(moment()), number(), any::<bool>());
    let over = (prop::collection::vec(nasty(), 0..20), prop::collection::vec(outage(), 0..4), number());
    let worst = prop::collection::vec(troubled(), 0..8);
    (numbers, dependencies, rest, over, worst, by_reason).prop_map(
        |(counts, (api, requester, cache), rest, (over_budget, down, downs), worst, by_reason)| {
            let (last_sync_ms, next_expiry_ms, removals_pending_confirmation, durable) = rest;
            let summary = Summary {
                counts,
                api,
                requester,
                cache,
                last_sync_ms,
                removals_pending_confirmation,
                next_expiry_ms,
                over_budget,
                down,
                registrars_down: downs,
                edge_ports_down: downs,
                ..Summary::default()
            };
            let failures = FailureSummary { worst, by_reason };
            // As long as the configuration makes it.
            let edge_port_advice = durable.then(|| "x".repeat(250).into());
            Snapshot { summary, failures, durable, edge_port_advice }
        },
    )
}

fn any_situation() -> impl Strategy<Value = Situation> {
    let stall = (prop::sample::select(reasons::STALLS.to_vec()), nasty())
        .prop_map(|(reason, message)| Stall { reason, message });
    (any_snapshot(), 0..4_u8, moment(), prop::option::of(stall)).prop_map(
        |(snapshot, phase, deadline_ms, stall)| {
            let phase = match phase {
                0 => Phase::Idle,
                1 => Phase::Suspended(snapshot),
                2 => Phase::Deregistering { snapshot, deadline_ms },
                _ => Phase::Running(snapshot),
            };
            Situation { stall, ..situation(phase) }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_status_is_sound(row in prop::collection::vec((any_situation(), 0..900_000_u64), 1..6)) {
        let mut before: Option<RegistryStatus> = None;
        let mut now_ms = NOW;
        for (situation, after_ms) in row {
            now_ms += after_ms;
            before = Some(check(before.as_ref(), &Situation { now_ms, ..situation })?);
        }
    }

    #[test]
    fn what_is_cleaned_fits_and_is_cut_at_a_character(text in nasty(), most in 9..600_usize) {
        let cleaned = clean(&text, most);
        let json = serde_json::to_string(&cleaned).unwrap();
        let bytes = json.len() - 2 + 5 * cleaned.chars().filter(|c| matches!(c, '<' | '>' | '&')).count();
        prop_assert!(bytes <= most, "{} of {}: {:?}", bytes, most, cleaned);
        let visible = !cleaned.contains(|c: char| c.is_control() || c == '\u{202e}');
        prop_assert!(visible, "{:?}", cleaned);
        if !cleaned.ends_with("... (cut)") {
            prop_assert_eq!(clean(&cleaned, usize::MAX), cleaned);
        }
    }
}

#[test]
fn a_text_is_cut_only_where_it_has_to_be_and_says_so() {
    assert_eq!(clean("exactly ten", 11), "exactly ten");
    assert_eq!(clean("exactly ten.", 11), "ex... (cut)");
    assert_eq!(clean("a\u{1b}[31m\r\n b\t\u{202e}c  ", 99), "a\\u{1b}[31m b \\u{202e}c");
    assert_eq!(clean("\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", 11), "\u{e9}... (cut)");
    assert_eq!(clean("<<", 12), "<<");
    assert_eq!(clean("<<<", 15), "<... (cut)");
}

#[test]
fn ten_thousand_nasty_trunks_fit() {
    let nasty = [
        "<&>".repeat(20_000),
        "\u{1f4a3}".repeat(20_000),
        "\"\\".repeat(20_000),
        "\u{0}\r\n x".repeat(20_000),
        "x".repeat(60_000),
    ];
    for text in &nasty {
        for phase in [Phase::Running, Phase::Suspended] {
            let mut now = snapshot(counts(0, 0, 10_000, 0, 0));
            let view = TrunkView {
                name: text.clone(),
                registrar: text.clone(),
                edge_port: text.clone(),
                failed_over: true,
                ..trunk(text, TrunkState::Failing, text, text)
            };
            now.failures.worst = vec![view; 60];
            now.failures.by_reason.insert("CredentialsRejected".to_owned(), 10_000);
            now.summary.over_budget = vec![text.clone(); 20];
            let down = |what: &str| Down {
                what: what.to_owned(),
                name: text.clone(),
                since_ms: NOW,
                message: text.clone(),
            };
            now.summary.down = vec![down("registrar"), down("edgePort")];
            let wrong = broken(DependencyFailure::Refused, text);
            (now.summary.api, now.summary.cache) = (wrong.clone(), wrong);
            let stall = Some(Stall { reason: reasons::ConditionReason::InvalidSpec, message: text.clone() });
            let now = Situation { stall, ..situation(phase(now)) };
            let after = check(None, &now).unwrap();
            assert_eq!(after.failures.len(), MAX_FAILURES);
            assert!(message(&after, reasons::STALLED).ends_with("; the last valid spec keeps running"));
        }
    }
}
