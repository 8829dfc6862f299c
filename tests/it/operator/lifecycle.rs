//! The life of a Registry, from `kubectl apply` to `kubectl delete`.

use super::harness::{Installation, TestRegistry, condition};

#[tokio::test]
async fn a_registry_is_applied_looked_at_changed_and_deleted() {
    let stage = TestRegistry::with(&["alice", "bob", "carol"]).await;
    let cluster = Installation::shared("life").await;
    let operator = cluster.start("pod-a");
    cluster.apply("main", &stage, "").await;
    let status = cluster.condition("main", "Ready", "True", "AllRegistered").await;
    println!("{status:#}");
    println!("{}", cluster.kubectl(&["get", "registries"]).await.ok());
    println!("{}", cluster.kubectl(&["get", "registries", "-o", "wide"]).await.ok());
    println!("{}", cluster.kubectl(&["describe", "registry", "main"]).await.ok());
    assert_eq!(status["trunks"]["registered"], 3);
    assert_eq!(condition(&status, "Stalled")["status"], "False");
    cluster.kubectl(&["delete", "registry", "main", "--timeout=150s"]).await.ok();
    println!("{}", operator.service.output());
    assert!(stage.registrar.log().iter().filter(|seen| seen.expires == Some(0)).count() >= 3);
}
