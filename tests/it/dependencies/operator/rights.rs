//! Rights that the operator lacks, and names of any length.

use serde_json::json;

use super::{lines, plain};
use crate::operator::harness::{TestRegistry, manifest};
use crate::support::installation::{Installation, Operator, PACE, RELEASE, SOON};
use crate::support::wait::wait_at_pace;

/// Takes from the Role of an installation what it grants for this resource.
async fn revoke(cluster: &Installation<'_>, resource: &str) {
    let role = cluster.kubectl(&["get", "role", RELEASE, "--output=json"]).await.json();
    let mut rules = role["rules"].as_array().unwrap().clone();
    let before = rules.len();
    rules.retain(|rule| rule["resources"] != json!([resource]));
    assert_eq!(rules.len() + 1, before, "{role:#}");
    let patch = json!({ "rules": rules }).to_string();
    cluster.kubectl(&["patch", "role", RELEASE, "--type=merge", "--patch", &patch]).await.ok();
}

async fn answers(operator: &Operator, parts: &[&str]) -> String {
    answers_with(operator, 200, parts).await
}

async fn answers_with(operator: &Operator, code: u16, parts: &[&str]) -> String {
    let look = async || match operator.public("/readyz").await? {
        (found, body) if found == code && parts.iter().all(|part| body.contains(part)) => Ok(body),
        (status, body) => Err(format!("{status}: {body}")),
    };
    wait_at_pace(PACE, look, SOON, &format!("/readyz to say {parts:?}")).await
}

#[tokio::test]
async fn k8_without_the_right_to_record_events_it_warns_once_and_goes_on() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::shared("no-events").await;
    revoke(&cluster, "events").await;
    let operator = cluster.start("pod-a");
    cluster.apply("main", &stage, "").await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    let body = answers(&operator, &["events ", "degraded", "403 (Forbidden)", "cannot record events"]).await;
    plain(&body);
    cluster.apply("main", &stage, "  suspend: true\n").await;
    cluster.condition("main", "Ready", "False", "Suspended").await;
    let found = lines(&operator, "cannot record events");
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["level"], "WARN");
    plain(&operator.service.output());
}

#[tokio::test]
async fn k8_without_the_right_to_list_it_warns_once_and_is_not_ready_with_the_reason() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::shared("no-list").await;
    revoke(&cluster, "registries").await;
    cluster.apply("main", &stage, "").await;
    let operator = cluster.start("pod-a");
    let parts = [
        "watch ",
        "failed",
        "cannot list Registries in namespace",
        "403 (Forbidden)",
        "list, watch and patch",
    ];
    plain(&answers_with(&operator, 503, &parts).await);
    // It tries again and again, and says so once.
    let plane = cluster.plane;
    let lists = || {
        let audit = plane.audit_of(cluster.namespace.name(), RELEASE);
        audit.iter().filter(|access| access.verb == "list" && access.code == 403).count()
    };
    let look = async || if lists() >= 3 { Ok(()) } else { Err(format!("{} lists", lists())) };
    wait_at_pace(PACE, look, SOON, "three lists").await;
    assert_eq!(lines(&operator, "cannot list Registries").len(), 1, "{}", operator.service.output());
    plain(&operator.service.output());
}

#[tokio::test]
async fn k8_without_the_right_to_write_statuses_it_warns_once_for_all_registries() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::shared("no-status").await;
    revoke(&cluster, "registries/status").await;
    for name in ["a", "b", "c"] {
        cluster.apply(name, &stage, "").await;
    }
    let operator = cluster.start("pod-a");
    let body = answers(
        &operator,
        &["statuses ", "degraded", "cannot write statuses", "403 (Forbidden)", "running: "],
    )
    .await;
    plain(&body);
    let registered = async || {
        let all = stage.registrar.log();
        if all.iter().any(|seen| seen.code == Some(200)) { Ok(()) } else { Err("nothing is registered") }
    };
    wait_at_pace(PACE, registered, SOON, "registrations without statuses").await;
    assert_eq!(lines(&operator, "cannot write statuses").len(), 1, "{}", operator.service.output());
    assert_eq!(lines(&operator, "cannot write the status;").len(), 0, "{}", operator.service.output());
}

#[tokio::test]
async fn k8_a_registry_with_the_longest_name_has_events() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::shared("long").await;
    let _operator = cluster.start("pod-a");
    for name in ["l".repeat(253), "m".repeat(237)] {
        cluster.apply_manifest(&manifest(&name, &stage, "")).await;
        cluster.condition(&name, "Ready", "True", "AllRegistered").await;
        let look = async || {
            let events = cluster.events(&name).await;
            if events.is_empty() { Err("no event") } else { Ok(()) }
        };
        wait_at_pace(PACE, look, SOON, "an event").await;
        cluster.kubectl(&["delete", "registry", &name, "--timeout=150s"]).await.ok();
    }
}
