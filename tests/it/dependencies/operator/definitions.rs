//! A definition that is older or newer than the operator.

use serde_json::{Value, json};

use super::{lines, plain};
use crate::operator::harness::TestRegistry;
use crate::support::control_plane::ControlPlane;
use crate::support::installation::{Installation, PACE, SOON, condition};
use crate::support::wait::wait_at_pace;

/// Changes the schema of the status in the cluster.
async fn change(plane: &ControlPlane, change: impl FnOnce(&mut Value)) {
    let get = ["get", "crd", "registries.routr.io", "--output=json"];
    let mut crd = plane.kubectl(get).await.json();
    change(&mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]);
    crd["metadata"]["managedFields"] = Value::Null;
    plane.kubectl_stdin(["replace", "-f", "-"], &crd.to_string()).await.ok();
}

/// Waits until the API server goes by a changed schema: it takes a moment.
async fn served(cluster: &Installation<'_>, name: &str, passes: impl Fn(&str) -> bool) {
    let look = async || {
        let patch = json!({ "status": { "observedTime": "2026-01-01T00:00:00Z", "trunks": {
            "total": 0, "registered": 0, "atRisk": 0, "failing": 0, "invalid": 0, "pending": 0, "deregistering": 0 } } });
        let patch = patch.to_string();
        let args = [
            "patch",
            "registry",
            name,
            "--subresource=status",
            "--type=merge",
            "--dry-run=server",
            "--output=json",
        ];
        let args: Vec<&str> = args.into_iter().chain(["--patch", &*patch]).collect();
        let answer = cluster.kubectl(&args).await;
        let answer = answer.stdout + &answer.stderr;
        if passes(&answer) { Ok(()) } else { Err(answer) }
    };
    wait_at_pace(PACE, look, SOON, "the changed schema to be in use").await;
}

#[tokio::test]
async fn k5_a_status_is_written_whatever_version_the_definition_has() {
    let plane = ControlPlane::start().await;
    plane.apply_crds().await;
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::on(&plane, "definition", &[]).await;
    cluster.apply("main", &stage, "  suspend: true\n").await;
    // As it was before there was the time of observation, and before failures had a registrar.
    change(&plane, |status| {
        let properties = status["properties"].as_object_mut().unwrap();
        properties.remove("observedTime").expect("a newer field");
        properties.remove("lastSyncTime").expect("another field");
    })
    .await;
    served(&cluster, "main", |answer| answer.contains("unknown field") && !answer.contains("2026-01-01"))
        .await;
    let operator = cluster.start("pod-a");
    cluster.condition("main", "Ready", "False", "Suspended").await;
    cluster.apply("main", &stage, "").await;
    let status = cluster.condition("main", "Ready", "True", "AllRegistered").await;
    assert_eq!(status["trunks"]["registered"], 1, "{status:#}");
    assert!(status.get("observedTime").is_none() && status.get("lastSyncTime").is_none(), "{status:#}");
    let says = |part: &'static str| {
        let operator = &operator;
        async move {
            let look = async || match operator.public("/readyz").await? {
                (200, body) if body.contains(part) => Ok(body),
                (status, body) => Err(format!("{status}: {body}")),
            };
            wait_at_pace(PACE, look, SOON, part).await
        }
    };
    let body = says("does not take status.lastSyncTime, status.observedTime of this operator").await;
    assert!(body.contains("definition degraded"), "{body}");
    let found = lines(&operator, "it is older: upgrade it with routr-registry crd");
    assert!((1..=2).contains(&found.len()), "{found:#?}\n{}", operator.service.output());
    let events = cluster.events("main").await;
    assert!(
        events.iter().any(|(reason, note)| reason == "DefinitionDiffers" && note.contains("upgrade")),
        "{events:?}"
    );

    // One of a later version, which wants a count that this operator does not know.
    change(&plane, |status| {
        let trunks = &mut status["properties"]["trunks"];
        trunks["properties"]["drained"] = json!({ "type": "integer" });
        trunks["required"].as_array_mut().expect("required counts").push(json!("drained"));
    })
    .await;
    served(&cluster, "main", |answer| answer.contains("drained")).await;
    // What did not change since before the definition did is still taken: the counts have to.
    stage.trunks(&["alice", "bob"]);
    let without = |status: &Value| {
        let ready = condition(status, "Ready")["message"].as_str().unwrap_or_default().to_owned();
        status.get("trunks").is_none() && ready.contains("2 trunks")
    };
    cluster.status("main", "a status without counts", without).await;
    says("it is newer: upgrade the operator").await;
    plain(&operator.service.output());
}
