//! Processes of different installations that write the same keys of one Redis: an operator beside another
//! one, and beside a stand-alone registry. No Lease makes them aware of each other.

use crate::chain::harness::{cache, redis};
use crate::operator::harness::TestRegistry;
use crate::standalone::test_registry::told;
use crate::support::installation::{Installation, Operator, SOON};
use crate::support::redis::Redis;
use crate::support::service::Service;
use crate::support::wait::wait_for;

const SAID: &str = "each overwrites what the other one keeps";

fn spec(redis: &Redis) -> String {
    format!("  instanceId: shared\n  cache: {}\n", cache(redis))
}

/// An installation with a Registry, and its operator.
async fn installed(stage: &TestRegistry, redis: &Redis) -> (Installation<'static>, Operator) {
    let cluster = Installation::shared("shared").await;
    let operator = cluster.start("pod-a");
    cluster.apply("main", stage, &spec(redis)).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    (cluster, operator)
}

/// Waits until the log names the other process, once, and no loss of data.
async fn names(service: &Service, other: &Service) {
    let owner = format!("process {} on host ", other.pid());
    let said = async || {
        let log = crate::standalone::test_registry::log(service);
        let lines =
            log.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.contains(SAID)));
        let errors: Vec<&str> = lines.filter_map(|line| line["error"].as_str()).collect();
        match errors[..] {
            [error] if error.contains(&owner) && error.contains(", since 20") => Ok(()),
            _ => Err(format!("{errors:?}: {}", service.output())),
        }
    };
    wait_for(said, SOON, "the other process to be named").await;
    assert_eq!(told(service, "has lost"), [""; 0]);
}

#[tokio::test]
async fn s3_two_operators_with_one_instance_id_name_each_other_and_no_loss() {
    let redis = redis().await;
    let stage = TestRegistry::with(&["alice"]).await;
    let (one, first) = installed(&stage, &redis).await;
    let (two, second) = installed(&stage, &redis).await;
    names(&first.service, &second.service).await;
    names(&second.service, &first.service).await;
    for cluster in [&one, &two] {
        cluster.condition("main", "CacheReachable", "False", "SharedKeys").await;
    }
    // It is over when one of them is.
    drop(second);
    one.condition("main", "CacheReachable", "True", "Reachable").await;
    assert_eq!(told(&first.service, "no longer writes the same keys").len(), 1);
    assert_eq!(told(&first.service, "has lost"), [""; 0]);
}

#[tokio::test]
async fn s3_an_operator_and_a_stand_alone_registry_name_each_other_and_no_loss() {
    let redis = redis().await;
    let stage = TestRegistry::with(&["alice"]).await;
    let (_cluster, operator) = installed(&stage, &redis).await;
    stage.write(&stage.config(&spec(&redis)));
    let alone = stage.run(&[]);
    names(&operator.service, &alone).await;
    names(&alone, &operator.service).await;
    let shown = async || match stage.public("/readyz").await? {
        (_, text) if text.contains("another process writes the same keys") => Ok(()),
        (_, text) => Err(text),
    };
    wait_for(shown, SOON, "/readyz to say so").await;
}
