//! A Lease whose requests take seconds.

use std::time::Duration;

use super::kube_proxy::{Fault, KubeProxy};
use super::start_by;
use crate::operator::harness::TestRegistry;
use crate::support::control_plane::ControlPlane;
use crate::support::installation::{Installation, SOON};
use crate::support::wait::{wait_for, wait_until};

#[tokio::test]
async fn k4_slow_lease_requests_leave_the_leader_in_place_as_long_as_a_term_allows() {
    let stage = TestRegistry::with(&["alice"]).await;
    // Twice the default: the 7 s that one request may take leave 3 s for a busy machine.
    let values = ["operator.leaseDurationSeconds=20"];
    let cluster = Installation::on(ControlPlane::shared().await, "slow-lease", &values).await;
    let proxy = KubeProxy::start(cluster.plane).await;
    proxy.rule(|seen| seen.path.contains("/leases").then_some(Fault::Delay(Duration::from_secs(4))));
    cluster.apply("main", &stage, "").await;
    let operator = start_by(&cluster, &proxy, "pod-a").await;
    let status = cluster.condition("main", "Ready", "True", "AllRegistered").await;
    assert!(status["observedTime"].is_string(), "{status:#}");
    let shown = cluster.kubectl(&["get", "registries"]).await.ok();
    assert!(shown.lines().next().is_some_and(|header| header.contains("OBSERVED")), "{shown}");
    let renewals =
        || proxy.seen().iter().filter(|seen| seen.method == "PUT" && seen.path.contains("/leases")).count();
    let before = renewals();
    wait_until(async || renewals() >= before + 3, SOON, "three renewals").await;
    let output = operator.service.output();
    assert!(!output.contains("lost the lease"), "{output}");
    let leads = async || match operator.public("/readyz").await? {
        (200, body) if body.contains("leads") => Ok(()),
        (status, body) => Err(format!("{status}: {body}")),
    };
    wait_for(leads, SOON, "it to lead still").await;
    // No term allows ten seconds: it says both times and the setting.
    proxy.rule(|seen| seen.path.contains("/leases").then_some(Fault::Delay(Duration::from_secs(10))));
    let says = async || {
        let output = operator.service.output();
        let said = output.contains("a lease duration of 20 s leaves 7.0 s for one: raise --lease-duration");
        if said && output.contains("lost the lease") { Ok(()) } else { Err(output) }
    };
    wait_for(says, SOON, "it to say what is too slow, and for what").await;
}
