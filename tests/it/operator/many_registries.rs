//! Many Registries side by side in several namespaces.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use routr_registry::devstack::registrar::Behaviour;
use serde_json::json;
use tokio::time::Instant;

use super::harness::{Installation, RELEASE, TestRegistry, condition};
use super::kube_client::{KubeClient, brief, spec_with};
use crate::support::control_plane::ControlPlane;
use crate::support::ports;
use crate::support::wait::{PATIENCE, wait_for};

const MANY: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_become_ready_beside_three_that_are_broken_and_then_the_api_server_has_rest() {
    let plane = ControlPlane::shared().await;
    let (here, there) = (plane.namespace("many").await, plane.namespace("many").await);
    let (first, second) = (here.name().to_owned(), there.name().to_owned());
    let values = ["crds.install=false".to_owned(), format!("watchNamespaces={{{first},{second}}}")];
    let cluster = Installation::install(plane, here, &values).await;
    let kube =
        [KubeClient::in_namespace(plane, &first).await, KubeClient::in_namespace(plane, &second).await];
    let _operator = cluster.start("pod-a");

    let broken = TestRegistry::with(&["x"]).await;
    let hanging = crate::standalone::test_registry::listen(ports::free()).await;
    let hangs = format!("127.0.0.1:{}", hanging.local_addr().unwrap().port());
    let dead = format!("127.0.0.1:{}", ports::free());
    let no_redis =
        json!({ "provider": "redis", "parameters": format!("host=127.0.0.1,port={}", ports::free()) });
    kube[0].create("api-hangs", spec_with(&broken, json!({ "apiAddr": hangs }))).await;
    kube[1].create("requester-dead", spec_with(&broken, json!({ "requesterAddr": dead }))).await;
    kube[0].create("redis-down", spec_with(&broken, json!({ "cache": no_redis }))).await;
    kube[1].conditions("requester-dead", &[("Ready", "False", "RequesterUnreachable")]).await;

    let stage = TestRegistry::with(&["a", "b"]).await;
    stage.registrar.behave_all(Behaviour::ClaimExpires(20));
    let unlimited = json!({ "registration": { "ratePerRegistrar": "unlimited" }, "registerInterval": "5s" });
    let names: Vec<String> = (0..MANY).map(|n| format!("r{n}")).collect();
    let began = Instant::now();
    // The broken ones stay broken all the while: anyone who waited for them would wait in vain.
    join_all(
        names
            .iter()
            .enumerate()
            .map(|(n, name)| kube[n % 2].create(name, spec_with(&stage, unlimited.clone()))),
    )
    .await;
    let ready = async || {
        let mut left = Vec::new();
        for kube in &kube {
            for (name, registry) in kube.all().await {
                if name.starts_with('r')
                    && name != "redis-down"
                    && !name.starts_with("requester")
                    && condition(&registry["status"], "Ready")["reason"] != "AllRegistered"
                {
                    left.push(name);
                }
            }
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    };
    wait_for(ready, PATIENCE, "all to be ready").await;
    println!("{MANY} were ready after {:?}", began.elapsed());
    for (kube, name) in [(&kube[0], "api-hangs"), (&kube[1], "requester-dead")] {
        let status = kube.now(name).await;
        assert_ne!(condition(&status, "Ready")["status"], "True", "{name}: {}", brief(&status));
    }
    kube[0]
        .conditions(
            "redis-down",
            &[("Ready", "True", "AllRegistered"), ("CacheReachable", "False", "Unreachable")],
        )
        .await;

    // From now on, for 15 s: each is refreshed, and hardly anything is written.
    let account = plane.audit_of(&first, RELEASE).len();
    let (seen, start) = (stage.registrar.log().len(), stage.registrar.elapsed());
    let refreshed = async || {
        let mut count: BTreeMap<String, u32> = BTreeMap::new();
        stage
            .registrar
            .log()
            .split_off(seen)
            .into_iter()
            .for_each(|seen| *count.entry(seen.call_id).or_default() += 1);
        let passed = stage.registrar.elapsed() - start;
        if count.len() == 2 * MANY && passed > Duration::from_secs(15) {
            Ok(())
        } else {
            Err(format!("{} after {passed:?}", count.len()))
        }
    };
    wait_for(refreshed, PATIENCE, "every trunk of every Registry to be refreshed").await;
    let asked = plane.audit_of(&first, RELEASE).split_off(account);
    let mut writes: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for access in asked.iter().filter(|access| access.verb == "patch" && access.subresource == "status") {
        *writes.entry((&access.namespace, &access.name)).or_default() += 1;
    }
    println!("{} requests, of which {writes:?} wrote a status", asked.len());
    // Once a minute the times in a status are brought up to date.
    let most = 1 + u32::try_from((stage.registrar.elapsed() - start).as_secs() / 60).unwrap();
    assert!(writes.values().all(|times| *times <= most), "{most} at most: {writes:?}");
    let others: Vec<_> = asked
        .iter()
        .filter(|access| access.resource != "leases" && access.subresource != "status")
        .filter(|access| access.resource != "events")
        .collect();
    // Were there one for each Registry and reading of its trunks, there would be hundreds.
    assert!(others.len() < MANY / 2, "{others:#?}");
    assert!(stage.registrar.log().iter().all(|seen| seen.expires != Some(0)), "nothing is de-registered");
    drop(there);
}
