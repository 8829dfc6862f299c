//! Several Registries keep their state in one Redis.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::harness::{Installation, SOON, TestRegistry, condition, manifest};
use crate::chain::harness::{cache, redis};
use crate::support::control_plane::ControlPlane;
use crate::support::redis::Redis;
use crate::support::wait::{wait_at_pace, wait_for};

const REFS: [&str; 3] = ["a", "b", "c"];

/// Returns the number of registrations that Redis keeps for each of these UIDs.
async fn kept(redis: &Redis, uids: &[String]) -> Vec<usize> {
    let dump = redis.dump().await;
    let of = |uid: &String| {
        let hash = format!("routr-registry:{{{uid}}}:regs:");
        dump.lines().filter(|line| line.starts_with(&hash)).count()
    };
    uids.iter().map(of).collect()
}

#[tokio::test]
async fn registries_on_one_redis_leave_each_other_alone() {
    let redis = redis().await;
    // The same refs and users, at a registrar of their own each.
    let stages =
        [TestRegistry::with(&REFS).await, TestRegistry::with(&REFS).await, TestRegistry::with(&REFS).await];
    let plane = ControlPlane::shared().await;
    let (here, there) = (plane.namespace("redis").await, plane.namespace("redis").await);
    let watch = format!("watchNamespaces={{{},{}}}", here.name(), there.name());
    let names = [here.name().to_owned(), here.name().to_owned(), there.name().to_owned()];
    let cluster = Installation::install(plane, here, &["crds.install=false".to_owned(), watch]).await;
    let mut operator = cluster.start("pod-a");
    operator.answers(200, "leads").await;
    let more = format!("  registration: {{ expires: 600s }}\n  cache: {}\n", cache(&redis));
    let registries = [("main", &names[0]), ("twin", &names[1]), ("main", &names[2])];
    for ((name, namespace), stage) in registries.into_iter().zip(&stages) {
        let args = ["apply", "--server-side", "--namespace", namespace, "-f", "-"];
        plane.kubectl_stdin(args, &manifest(name, stage, &more)).await.ok();
    }
    let get = async |name: &str, namespace: &str| -> Value {
        plane.kubectl(["get", "registry", name, "--namespace", namespace, "--output=json"]).await.json()
    };
    let mut uids = Vec::new();
    for (name, namespace) in registries {
        let ready = async || {
            let registry = get(name, namespace).await;
            let ready = condition(&registry["status"], "Ready");
            if ready["reason"] == "AllRegistered" { Ok(registry) } else { Err(ready.to_string()) }
        };
        let registry = wait_at_pace(Duration::from_millis(250), ready, SOON, "all to be registered").await;
        uids.push(registry["metadata"]["uid"].as_str().unwrap().to_owned());
    }
    let all = async |expected: [usize; 3]| {
        let look = async || {
            let kept = kept(&redis, &uids).await;
            if kept == expected { Ok(()) } else { Err(format!("{kept:?}: {}", redis.dump().await)) }
        };
        wait_for(look, SOON, &format!("Redis to keep {expected:?}")).await;
    };
    // Three refs, each in a hash of its own.
    all([3, 3, 3]).await;
    let granted: Vec<BTreeMap<String, usize>> = stages.iter().map(TestRegistry::granted).collect();

    // One goes, with what it kept.
    let before = redis.dump().await;
    cluster.kubectl(&["delete", "registry", "main", "--timeout=150s"]).await.ok();
    assert_eq!(stages[0].registrar.bindings().len(), 0);
    all([0, 3, 3]).await;
    for stage in &stages[1..] {
        assert_eq!(stage.registrar.bindings().len(), 3);
        assert!(stage.registrar.log().iter().all(|seen| seen.expires != Some(0)), "de-registered");
    }
    // But for the count by which each says from time to time that it is alive.
    let others = |dump: &str| {
        let theirs = dump.lines().filter(|line| !line.contains(&uids[0]) && !line.contains(":alive "));
        let mut lines: Vec<String> = theirs.map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(others(&before), others(&redis.dump().await), "it touched what others keep");

    // The others go on where they were, after a kill of the leader too.
    operator.service.signal(Signal::SIGTERM);
    assert_eq!(operator.service.exit(SOON).await.code(), Some(0));
    let next = cluster.start("pod-b");
    next.answers(200, "running: 2").await;
    next.says("resuming from the state in the cache").await;
    let look = async || match next.public("/readyz").await? {
        (200, body) if !body.contains("unhealthy") => Ok(()),
        (_, body) => Err(body),
    };
    wait_for(look, SOON, "the next one to be at work").await;
    for (stage, granted) in stages.iter().zip(&granted).skip(1) {
        assert_eq!(stage.granted(), *granted, "registered again although it was valid");
    }
}
