//! Values that a spec takes from Secrets: read again every fifteen seconds, and shown nowhere.

use serde_json::{Value, json};

use super::harness::{Installation, TestRegistry, condition};
use super::kube_client::{KubeClient, brief, message, spec, spec_with, starts};
use super::table;
use crate::support::redis::{Options, Redis};

/// Mark in every password that Redis has here.
const MARK: &str = "mark-of-redis";

#[tokio::test]
async fn a_password_of_redis_comes_from_a_secret_and_may_change_vanish_and_come_back() {
    let stage = TestRegistry::with(&["a", "b"]).await;
    let redis = Redis::start(Options { password: format!("{MARK}-1"), persistent: false }).await;
    let cluster = Installation::shared("secret").await;
    let kube = KubeClient::on(&cluster).await;
    let operator = cluster.start("pod-a");
    let place = format!("host=127.0.0.1,port={}", redis.port());
    let by_password = json!({ "cache": {
        "provider": "redis", "parameters": place, "passwordSecretRef": { "name": "redis", "key": "password" },
    } });
    let by_parameters = json!({ "cache": {
        "provider": "redis", "parametersSecretRef": { "name": "redis", "key": "parameters" },
    } });
    kube.create("by-password", spec_with(&stage, by_password)).await;
    kube.create("by-parameters", spec_with(&stage, by_parameters)).await;

    kube.create("tampered", spec(&stage)).await;

    // There is none yet.
    let status = kube.conditions("by-password", &[("Stalled", "True", "SecretNotFound")]).await;
    let expected = "spec.cache.passwordSecretRef: there is no Secret \"redis\" in this namespace";
    assert!(message(&status, "Stalled").contains(expected), "{}", brief(&status));
    assert!(message(&status, "Ready").contains(expected), "{}", brief(&status));
    assert_eq!(condition(&status, "Ready")["reason"], "SecretNotFound");
    table::row("a Secret is missing from the start", &status);
    // Anyone who writes into a status where nothing else happens is corrected, too: after a minute, which
    // passes below.
    kube.conditions("tampered", &[("Ready", "True", "AllRegistered")]).await;
    kube.tamper(
        "tampered",
        json!({ "status": { "conditions": [], "trunks": null, "observedGeneration": 77 } }),
    )
    .await;

    // It has another key first.
    kube.secret("redis", json!({ "parameters": format!("{place},password={MARK}-1") })).await;
    let ready = [
        ("Ready", "True", "AllRegistered"),
        ("CacheReachable", "True", "Reachable"),
        ("Stalled", "False", "NotStalled"),
    ];
    kube.conditions("by-parameters", &ready).await;
    let status = kube
        .status("by-password", "the missing key to be told", |status| {
            message(status, "Stalled").contains("has no key \"password\"")
        })
        .await;
    table::row("a Secret lacks the key", &status);

    // All is there.
    kube.secret(
        "redis",
        json!({ "parameters": format!("{place},password={MARK}-1"), "password": format!("{MARK}-1\n") }),
    )
    .await;
    kube.conditions("by-password", &ready).await;

    // Redis gets another password, the Secret does later.
    assert_eq!(redis.command(&format!("CONFIG SET requirepass {MARK}-2")).await.unwrap(), "+OK");
    redis.drop_clients(&format!("{MARK}-2")).await;
    stage.trunks(&["a", "b", "c"]);
    for name in ["by-password", "by-parameters"] {
        let status = kube.conditions(name, &[("CacheReachable", "False", "CredentialsRejected")]).await;
        table::row("Redis refuses the password", &status);
        assert_eq!(condition(&status, "Ready")["status"], "True", "{}", brief(&status));
    }
    let sent = stage.registrar.counters().registers;
    kube.secret(
        "redis",
        json!({ "parameters": format!("{place},password={MARK}-2"), "password": format!("{MARK}-2") }),
    )
    .await;
    for name in ["by-password", "by-parameters"] {
        kube.conditions(name, &ready).await;
        kube.event(name, "CacheUnreachable").await;
        kube.event(name, "CacheReachable").await;
    }
    assert_eq!(stage.registrar.counters().registers, sent, "no trunk notices");

    // The Secret goes: the last good specification is followed.
    kube.delete_secret("redis").await;
    for name in ["by-password", "by-parameters"] {
        let status = kube
            .conditions(name, &[("Stalled", "True", "SecretNotFound"), ("Ready", "True", "AllRegistered")])
            .await;
        assert!(message(&status, "Ready").contains("see Stalled"), "{}", brief(&status));
        assert_eq!(condition(&status, "CacheReachable")["status"], "True", "{}", brief(&status));
        table::row("a Secret vanishes under a running Registry", &status);
    }
    stage.trunks(&["a", "b", "c", "d"]);
    kube.status("by-password", "a new trunk", |status| status["trunks"]["registered"] == 4).await;
    // It comes back with nonsense, which is reported without being shown.
    kube.secret("redis", json!({ "parameters": format!("host=127.0.0.1,pasword={MARK}-3,port=nonsense"), "password": format!("{MARK}-2") })).await;
    kube.conditions("by-password", &ready).await;
    let status = kube.conditions("by-parameters", &[("Stalled", "True", "InvalidSpec")]).await;
    assert!(message(&status, "Stalled").contains("spec.cache.parametersSecretRef"), "{}", brief(&status));
    kube.secret("redis", json!({ "parameters": format!("{place},password={MARK}-2") })).await;
    kube.conditions("by-parameters", &ready).await;

    assert_eq!(starts(&operator.service), 3, "one engine each, from start to end");
    let repaired = |status: &Value| status["observedGeneration"] == 1 && status["trunks"]["registered"] == 4;
    let status = kube.status("tampered", "the status to be repaired", repaired).await;
    assert_eq!(status["conditions"].as_array().map(Vec::len), Some(7), "{}", brief(&status));
    let mut shown = vec![operator.service.output(), kube.dump().await];
    for path in ["/metrics", "/readyz", "/healthz"] {
        shown.push(operator.public(path).await.unwrap().1);
    }
    shown.push(cluster.kubectl(&["describe", "registries"]).await.ok());
    for text in shown {
        assert!(!text.contains(MARK), "a password is shown:\n{text}");
    }
    kube.follows("by-password", spec(&stage)).await;
}
