//! Registries that run nothing.

use serde_json::Value;

use crate::operator::harness::{TestRegistry, condition};
use crate::support::http;
use crate::support::installation::{Installation, PACE, SOON};
use crate::support::service::Service;
use crate::support::wait::wait_at_pace;

#[tokio::test]
async fn k10_a_registry_that_runs_nothing_is_shown_everywhere_as_in_its_status() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::shared("shown").await;
    let operator = cluster.start("pod-a");
    let cache = "  cache:\n    provider: redis\n    parameters: host=127.0.0.1,port=1\n    passwordSecretRef: {name: nowhere, \
                 key: password}\n";
    cluster.apply("no-secret", &stage, cache).await;
    cluster.apply("asleep", &stage, "  suspend: true\n").await;
    cluster.apply("good", &stage, "").await;
    cluster.condition("good", "Ready", "True", "AllRegistered").await;
    let asleep = cluster.condition("asleep", "Ready", "False", "Suspended").await;
    let stalled = cluster.condition("no-secret", "Stalled", "True", "SecretNotFound").await;

    let url = format!("http://127.0.0.1:{}/registries", operator.private);
    let look = async || {
        let (_, body) = http::get(&url).await?;
        let all: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let shown: Vec<(String, String, String)> = all["registries"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| {
                let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
                (text("name"), text("state"), text("reason"))
            })
            .collect();
        let expected = [
            ("asleep", "suspended", "Suspended"),
            ("good", "running", "AllRegistered"),
            ("no-secret", "stalled", "SecretNotFound"),
        ];
        let same = shown.iter().map(|(name, state, reason)| (&**name, &**state, &**reason)).eq(expected);
        if same { Ok(all) } else { Err(format!("{all:#}")) }
    };
    let all = wait_at_pace(PACE, look, SOON, "all three on /registries").await;
    assert_eq!(all["registries"][2]["message"], condition(&stalled, "Stalled")["message"]);
    assert_eq!(all["registries"][0]["message"], condition(&asleep, "Ready")["message"]);

    let (_, ready) = operator.public("/readyz").await.unwrap();
    let namespace = cluster.namespace.name();
    for part in ["running: 1, suspended: 1, stalled: 1", "stalled (SecretNotFound): ", "ok       suspended: "]
    {
        assert!(ready.contains(part), "{part} in {ready}");
    }
    let (_, metrics) = operator.public("/metrics").await.unwrap();
    for (name, state, reason, value) in [
        ("no-secret", "stalled", "SecretNotFound", 0),
        ("asleep", "suspended", "Suspended", 0),
        ("good", "running", "AllRegistered", 1),
    ] {
        let line = format!(
            "routr_registry_ready{{namespace=\"{namespace}\",registry=\"{name}\",state=\"{state}\",reason=\"{reason}\"}} {value}\n"
        );
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let private = format!("http://127.0.0.1:{}", operator.private);
    let mut trunks = Service::start(["trunks"], &[("ROUTR_REGISTRY_URL", &private)]);
    trunks.exit(SOON).await;
    let shown = trunks.output();
    for part in ["/no-secret", "stalled (SecretNotFound)", "/asleep", "suspended: ", "3 registries"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }

    // Deleted, and kept by a finalizer of someone else.
    let patch =
        |finalizers: Value| serde_json::json!({ "metadata": { "finalizers": finalizers } }).to_string();
    let ours =
        cluster.registry("asleep").await["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let both: Vec<Value> = ours.into_iter().chain([Value::from("example.com/other")]).collect();
    let set = async |finalizers: Value| {
        let patch = patch(finalizers);
        cluster.kubectl(&["patch", "registry", "asleep", "--type=merge", "--patch", &patch]).await.ok();
    };
    set(both.into()).await;
    cluster.kubectl(&["delete", "registry", "asleep", "--wait=false"]).await.ok();
    let kept = async || {
        let registry = cluster.registry("asleep").await;
        let alone = registry["metadata"]["finalizers"] == serde_json::json!(["example.com/other"]);
        let (_, body) = http::get(&url).await?;
        let all: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let shown = &all["registries"][0];
        let shows = shown["name"] == "asleep" && shown["state"] == "deregistering";
        if alone && shows { Ok(()) } else { Err(format!("{all:#}")) }
    };
    wait_at_pace(PACE, kept, SOON, "what is kept to be shown").await;
    set(serde_json::json!([])).await;

    // Gone is gone.
    for name in ["no-secret", "good"] {
        cluster.kubectl(&["delete", "registry", name, "--timeout=150s"]).await.ok();
    }
    let look = async || {
        let (_, body) = http::get(&url).await?;
        let all: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        if all["registries"] == serde_json::json!([]) { Ok(()) } else { Err(format!("{all:#}")) }
    };
    wait_at_pace(PACE, look, SOON, "none to be left").await;
}
