//! Health on paused time.

use std::time::Duration;

use kube::core::Status;

use super::{
    failure::{LOG_PERIOD, QUIET_PERIOD, REMIND_EVERY},
    *,
};

fn error(code: u16) -> ApiError {
    ApiError::of_status(&Status::failure("as it says", "Reason").with_code(code))
}

fn severities(health: &Health) -> Vec<(&'static str, CheckState)> {
    health.findings().iter().map(|finding| (finding.check, finding.severity)).collect()
}

#[tokio::test(start_paused = true)]
async fn k1_it_is_not_ready_before_the_first_list_and_degraded_afterwards() {
    let health = Health::default();
    assert_eq!(severities(&health), [], "who does not lead lists nothing");
    health.begin(&[]);
    assert_eq!(severities(&health), [("watch", CheckState::Failed)]);
    health.watch_failed(None, &error(503));
    assert_eq!(severities(&health), [("watch", CheckState::Failed)]);
    assert!(health.findings()[0].message.contains("503 (Reason): as it says"), "{:?}", health.findings());
    health.listed(None);
    health.watching_path("/apis/routr.io/v2beta1/registries");
    assert_eq!(severities(&health), [("watch", CheckState::Ok)]);
    health.watch_failed(None, &error(503));
    assert_eq!(severities(&health), [("watch", CheckState::Degraded)]);
    health.end();
    assert_eq!(severities(&health), []);
}

#[tokio::test(start_paused = true)]
async fn k8_a_namespace_without_the_right_to_list_is_named_and_leaves_the_others_alone() {
    let health = Health::default();
    health.begin(&["a".to_owned(), "b".to_owned(), "c".to_owned()]);
    for namespace in ["a", "c"] {
        health.listed(Some(namespace));
        health.watching_path(&format!("/apis/routr.io/v2beta1/namespaces/{namespace}/registries"));
    }
    health.watch_failed(Some("b"), &error(403));
    let findings = health.findings();
    assert_eq!(findings.iter().filter(|finding| finding.severity == CheckState::Ok).count(), 2);
    let b = findings.iter().find(|finding| finding.severity == CheckState::Degraded).unwrap();
    assert!(
        b.message.contains("namespace b") && b.message.contains("list, watch and patch on"),
        "{}",
        b.message
    );
    health.listed(Some("b"));
    health.watching(Some("b"));
    assert_eq!(severities(&health), [("watch", CheckState::Ok)], "one line for all");
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_a_line_when_it_begins_or_changes() {
    let mut failure = Failure::default();
    assert!(failure.begin(&error(429)) && !failure.begin(&error(429)));
    assert!(!failure.begin(&error(503)), "it takes turns");
    tokio::time::advance(LOG_PERIOD).await;
    assert!(failure.begin(&error(503)) && !failure.begin(&error(503)));
    // What goes on is said again every so often.
    tokio::time::advance(REMIND_EVERY - Duration::from_millis(1)).await;
    assert!(!failure.begin(&error(503)));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(failure.begin(&error(503)) && !failure.begin(&error(503)));
    assert!(failure.end().is_some() && failure.end().is_none());
    assert!(failure.begin(&error(503)), "it begins again");
}

#[tokio::test(start_paused = true)]
async fn a_failure_among_successes_is_over_after_a_calm() {
    let health = Health::default();
    assert!(!health.failed(Area::Statuses, Some("a"), &error(422)), "that is the object's own");
    assert!(health.failed(Area::Statuses, Some("a"), &error(503)));
    health.succeeded(Area::Statuses, Some("b"));
    assert_eq!(severities(&health), [("requests", CheckState::Degraded)]);
    tokio::time::advance(QUIET_PERIOD).await;
    health.succeeded(Area::Finalizers, Some("b"));
    assert_eq!(severities(&health), []);
}

#[tokio::test(start_paused = true)]
async fn k8_a_right_that_is_missing_in_one_namespace_is_named_until_it_is_there() {
    let health = Health::default();
    assert!(health.failed(Area::Statuses, Some("a"), &error(403)));
    assert!(health.failed(Area::Events, Some("a"), &error(403)));
    tokio::time::advance(QUIET_PERIOD).await;
    health.succeeded(Area::Statuses, Some("b"));
    assert_eq!(severities(&health), [("statuses", CheckState::Degraded), ("events", CheckState::Degraded)]);
    assert!(
        health.findings()[0].message.contains("in namespace a: the Kubernetes"),
        "{:?}",
        health.findings()
    );
    health.succeeded(Area::Statuses, Some("a"));
    assert_eq!(severities(&health), [("events", CheckState::Degraded)]);
}
