//! The operator and a Kubernetes API server under load, or older than itself.

mod definitions;
mod kube_proxy;
mod lease;
mod overloaded;
mod rights;
mod shared_keys;
mod shown;

use serde_json::Value;

use crate::standalone::test_registry::log;
use crate::support::installation::{Installation, Operator};

use self::kube_proxy::KubeProxy;

/// Texts of Rust that no text for people has in it.
const RUST: [&str; 4] = ["Status {", "Some(", "Failure)", "ApiError"];

/// Starts a replica by the wire.
async fn start_by(cluster: &Installation<'_>, proxy: &KubeProxy, pod: &str) -> Operator {
    let kubeconfig = cluster.kubeconfig_by(proxy.port).await;
    cluster.start_as(&kubeconfig, pod, &[])
}

/// Lines of the log whose message has this, from the level WARN on or not.
fn lines(operator: &Operator, part: &str) -> Vec<Value> {
    let all = log(&operator.service).into_iter();
    all.filter(|line| line["message"].as_str().is_some_and(|text| text.contains(part))).collect()
}

/// Fails where a text has Rust values in it.
fn plain(text: &str) {
    for part in RUST {
        assert!(!text.contains(part), "{part} in {text}");
    }
}
