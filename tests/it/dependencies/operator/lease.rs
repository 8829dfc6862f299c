//! A Lease whose requests take seconds.

use std::time::Duration;

use tokio::time::Instant;

use super::kube_proxy::{Fault, KubeProxy};
use super::start_by;
use crate::operator::stage::Stage;
use crate::support::installation::{Installation, SOON};
use crate::support::wait::{wait_for, wait_until};

#[tokio::test]
async fn k4_lease_requests_that_take_two_seconds_leave_the_leader_in_place() {
    let stage = Stage::with(&["alice"]).await;
    let cluster = Installation::shared("slow-lease").await;
    let proxy = KubeProxy::start(cluster.plane).await;
    proxy.rule(|seen| seen.path.contains("/leases").then_some(Fault::Delay(Duration::from_secs(2))));
    cluster.apply("main", &stage, "").await;
    let operator = start_by(&cluster, &proxy, "pod-a").await;
    let status = cluster.condition("main", "Ready", "True", "AllRegistered").await;
    assert!(status["observedTime"].is_string(), "{status:#}");
    let shown = cluster.kubectl(&["get", "registries"]).await.ok();
    assert!(shown.lines().next().is_some_and(|header| header.contains("OBSERVED")), "{shown}");
    // Longer than two terms.
    let until = Instant::now() + Duration::from_secs(15);
    wait_until(async || Instant::now() >= until, SOON, "two terms to pass").await;
    let output = operator.service.output();
    assert!(!output.contains("lost the lease"), "{output}");
    let leads = async || match operator.public("/readyz").await? {
        (200, body) if body.contains("leads") => Ok(()),
        (status, body) => Err(format!("{status}: {body}")),
    };
    wait_for(leads, SOON, "it to lead still").await;
    // No term allows five seconds: it says both times and the setting.
    proxy.rule(|seen| seen.path.contains("/leases").then_some(Fault::Delay(Duration::from_secs(5))));
    let says = async || {
        let output = operator.service.output();
        let said = output.contains("a lease duration of 10 s leaves 3.5 s for one: raise --lease-duration");
        if said && output.contains("lost the lease") { Ok(()) } else { Err(output) }
    };
    wait_for(says, SOON, "it to say what is too slow, and for what").await;
}
