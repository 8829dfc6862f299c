//! Addresses that Registries may name as API server, Requester and Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;

use crate::support::control_plane::ControlPlane;
use crate::support::installation::{Installation, condition};

/// A listener on every loopback address, and how many connections it has had.
async fn listener() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("[::]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let connections = connections.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                drop(stream);
            }
        }
    });
    (port, connections)
}

fn manifest(name: &str, api: &str, requester: &str, redis: &str) -> String {
    format!(
        "apiVersion: routr.io/v2beta1\nkind: Registry\nmetadata: {{ name: {name} }}\nspec:\n  apiAddr: \"{api}\"\n  \
         requesterAddr: \"{requester}\"\n  edgePorts: [{{ address: \"edge:5060\" }}]\n  registerInterval: 1s\n  \
         cache: {{ provider: redis, parameters: \"{redis}\" }}\n"
    )
}

#[tokio::test]
async fn no_registry_leads_the_operator_to_its_own_machine_or_to_a_metadata_service() {
    let plane = ControlPlane::shared().await;
    let cluster = Installation::on(plane, "addresses", &[]).await;
    let _operator = cluster.start_in("pod-a", &[("ALLOW_ADDRESSES", "203.0.113.0/24")]);
    let (port, connections) = listener().await;
    // As numbers: refused before anything is done, with the field.
    let literal = [
        ("plain", format!("127.0.0.1:{port}"), "spec.apiAddr", "loopback"),
        ("six", format!("[::1]:{port}"), "spec.apiAddr", "loopback"),
        ("zero", format!("0.0.0.0:{port}"), "spec.apiAddr", "0.0.0.0"),
        ("metadata", "169.254.169.254:80".to_owned(), "spec.apiAddr", "metadata"),
    ];
    for (name, api, ..) in &literal {
        let manifest = manifest(name, api, "192.0.2.1:51909", "host=192.0.2.1");
        cluster.apply_manifest(&manifest).await;
    }
    cluster
        .apply_manifest(&manifest(
            "redis",
            "192.0.2.1:51907",
            "192.0.2.1:51909",
            &format!("host=127.0.0.1,port={port}"),
        ))
        .await;
    // As names, and in spellings that only a resolver reads: denied when they have been resolved.
    for (name, api) in [("name", "localhost"), ("hexadecimal", "0x7f000001")] {
        let at = format!("{api}:{port}");
        cluster.apply_manifest(&manifest(name, &at, &at, &format!("host={api},port={port}"))).await;
    }
    for (name, _, field, why) in &literal {
        let status = cluster.condition(name, "Stalled", "True", "InvalidSpec").await;
        let stalled = condition(&status, "Stalled");
        let message = stalled["message"].as_str().unwrap();
        assert!(message.contains(field) && message.contains("denied") && message.contains(why), "{message}");
        assert!(message.contains("--allow-address"), "{message}");
    }
    let status = cluster.condition("redis", "Stalled", "True", "InvalidSpec").await;
    let stalled = condition(&status, "Stalled");
    assert!(stalled["message"].as_str().unwrap().contains("spec.cache.parameters"), "{stalled}");
    for name in ["name", "hexadecimal"] {
        let denied = |status: &serde_json::Value| {
            let conditions = status["conditions"].to_string();
            conditions.matches("is denied: it is in").count() >= 2
        };
        cluster.status(name, "its API server and Redis to be denied", denied).await;
    }
    assert_eq!(connections.load(Ordering::Relaxed), 0, "nobody was connected to");
}
