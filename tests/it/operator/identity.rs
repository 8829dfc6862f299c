//! Ownership of Call-IDs, and resources that cannot be read.

use super::harness::{Installation, TestRegistry, condition};

#[tokio::test]
async fn a_uid_cannot_be_taken_by_another_registry_whoever_is_looked_at_first() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::with_short_terms("identity").await;
    let mut operator = cluster.start("pod-a");
    cluster.apply("own", &stage, "").await;
    cluster.condition("own", "Ready", "True", "AllRegistered").await;
    let uid = cluster.kubectl(&["get", "registry", "own", "--output=jsonpath={.metadata.uid}"]).await.ok();
    // Its name comes first in any list.
    cluster.apply("a-thief", &stage, &format!("  instanceId: {uid}\n")).await;
    let status = cluster.condition("a-thief", "Stalled", "True", "InstanceIdInUse").await;
    let message = condition(&status, "Stalled")["message"].clone();
    assert!(message.as_str().unwrap().contains("spec.instanceId"), "{message}");

    let calls = || {
        let granted = stage.registrar.log().into_iter().filter(|seen| seen.code == Some(200));
        granted.map(|seen| seen.call_id).collect::<std::collections::BTreeSet<_>>()
    };
    let before = calls();
    assert_eq!(before.len(), 1, "{before:?}");
    operator.service.kill().await;
    operator.service.restart();
    cluster.condition("own", "Ready", "True", "AllRegistered").await;
    cluster.condition("a-thief", "Stalled", "True", "InstanceIdInUse").await;
    assert_eq!(calls(), before, "the same registration goes on");
}

#[tokio::test]
async fn of_two_with_one_instance_id_the_older_has_it_whoever_leads() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::with_short_terms("older").await;
    let mut operator = cluster.start("pod-a");
    cluster.apply("older", &stage, "  instanceId: both\n").await;
    cluster.condition("older", "Ready", "True", "AllRegistered").await;
    cluster.apply("a-younger", &stage, "  instanceId: both\n").await;
    for round in 0..2 {
        if round > 0 {
            operator.service.kill().await;
            operator.service.restart();
        }
        cluster.condition("a-younger", "Stalled", "True", "InstanceIdInUse").await;
        cluster.condition("older", "Ready", "True", "AllRegistered").await;
        let status = cluster.condition("older", "Stalled", "False", "NotStalled").await;
        assert_eq!(status["trunks"]["registered"], 1, "{status:#}");
    }
}

#[tokio::test]
async fn an_instance_id_stays_what_it_was() {
    let stage = TestRegistry::bare().await;
    let cluster = Installation::shared("instance").await;
    cluster.apply("main", &stage, "  suspend: true\n").await;
    for id in ["one", "two"] {
        let patch = format!("{{\"spec\":{{\"instanceId\":\"{id}\"}}}}");
        let refused =
            cluster.kubectl(&["patch", "registry", "main", "--type=merge", "-p", &patch]).await.refused();
        assert!(
            refused.contains("spec.instanceId: Forbidden: cannot be changed, added or removed"),
            "{refused}"
        );
        assert!(refused.contains("delete the Registry and create it again"), "{refused}");
    }
}

#[tokio::test]
async fn a_status_that_cannot_be_read_hides_no_other_registry_and_is_mended() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::with_short_terms("unreadable").await;
    let mut operator = cluster.start("pod-a");
    cluster.apply("spoilt", &stage, "").await;
    cluster.condition("spoilt", "Ready", "True", "AllRegistered").await;
    operator.service.kill().await;
    // The API server takes it for a time; no clock has it.
    let patch = r#"{"status":{"lastSyncTime":"2026-01-01T00:00:00+99:99"}}"#;
    let args = ["patch", "registry", "spoilt", "--subresource=status", "--type=merge", "-p", patch];
    cluster.kubectl(&args).await.ok();
    cluster.apply("sound", &stage, "").await;
    operator.service.restart();
    cluster.condition("sound", "Ready", "True", "AllRegistered").await;
    let repaired = |status: &serde_json::Value| {
        let told = status["lastSyncTime"].as_str().is_some_and(|at| at.ends_with('Z'));
        told && condition(status, "Ready")["status"] == "True"
    };
    cluster.status("spoilt", "its status to be repaired", repaired).await;
    cluster.kubectl(&["delete", "registry", "--all", "--timeout=150s"]).await.ok();
}
