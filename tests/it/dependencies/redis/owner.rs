//! Two installations with one name and the same addresses on one Redis.

use std::time::Duration;

use super::harness::{Registered, SOON, at, config, redis};
use crate::standalone::test_registry::{TestRegistry, tells, told};
use crate::support::http;
use crate::support::ports;
use crate::support::service::Service;
use crate::support::wait::wait_for;

/// Another process with the same configuration, and its port.
fn second(stage: &TestRegistry) -> (Service, u16) {
    let (public, private) = (ports::free(), ports::free());
    let listen = [format!("127.0.0.1:{public}"), format!("127.0.0.1:{private}")];
    let path = stage.path();
    let config = path.to_str().unwrap();
    let args = ["run", "--config", config, "--listen", &listen[0], "--admin-listen", &listen[1]];
    (Service::start(args, &[]), public)
}

async fn readyz(port: u16) -> Result<(u16, String), String> {
    let (status, body) = http::get(&format!("http://127.0.0.1:{port}/readyz")).await?;
    Ok((status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
}

#[tokio::test]
async fn s3_the_second_of_two_names_the_first_sends_nothing_and_takes_over_when_that_is_killed() {
    let redis = redis(&[]).await;
    let mut first = Registered::start(50, &at(redis.port()), Some(&redis)).await;
    let sent = first.stage.registrar.log().len();
    let (second, port) = second(&first.stage);
    tells(&second, "standing by", 1).await;
    let owner = format!("process {} on host ", first.service.pid());
    let stands_by = async || {
        let (status, text) = readyz(port).await?;
        let said = status == 200
            && text.contains(&owner)
            && text.contains("this process stands by and sends nothing until that one ends");
        if said { Ok(()) } else { Err(text) }
    };
    wait_for(stands_by, SOON, "/readyz to name the first process").await;
    // Ten seconds are a check of the store.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(first.stage.registrar.log().len(), sent, "sent without need");
    assert_eq!(told(&first.service, "has lost"), [""; 0]);
    assert_eq!(told(&second, "standing by").len(), 1, "said once");
    assert!(second.output().contains(&owner), "{}", second.output());

    first.service.kill().await;
    tells(&second, "taking over", 1).await;
    let works = async || {
        let (status, text) = readyz(port).await?;
        if status == 200 && text.contains("cache     ok") { Ok(()) } else { Err(text) }
    };
    wait_for(works, SOON, "the second process to act").await;
    assert_eq!(first.stage.registrar.log().len(), sent, "all were valid");
    // The first one comes again, and stands by in its turn.
    first.service.restart();
    tells(&first.service, "standing by", 1).await;
    assert_eq!(first.stage.registrar.log().len(), sent);
    drop(second);
    tells(&first.service, "taking over", 1).await;
    first.nothing_was_sent_and_the_call_ids_are_the_same().await;
}

#[tokio::test]
async fn s3_an_owner_on_another_host_is_waited_for_until_its_lease_has_expired() {
    let redis = redis(&[]).await;
    let stage = TestRegistry::with(&["a"]).await;
    stage.write(&format!("{}  instanceId: fixed\n", config(&stage, &at(redis.port()))));
    let owner = r#"{\"run\":\"r\",\"host\":\"elsewhere\",\"pid\":1,\"namespace\":\"n\",\"started\":5,\"since_ms\":1,\"fence\":1}"#;
    // Without an end, as no process leaves it: it gets one.
    let reply = redis.command(&format!("SET routr-registry:{{fixed}}:owner \"{owner}\"")).await;
    assert_eq!(reply.as_deref(), Ok("+OK"));
    let mut service = stage.run(&[]);
    tells(&service, "standing by", 1).await;
    assert!(service.output().contains("process 1 on host elsewhere"));
    tells(&service, "taking over", 1).await;
    stage.settles(&[("a", "registered")]).await;
    service.terminate(SOON).await;
    let gone = redis.command("EXISTS routr-registry:{fixed}:owner").await;
    assert_eq!(gone.as_deref(), Ok(":0"), "an orderly end leaves the place");
}

#[tokio::test]
async fn s3_what_names_no_owner_stops_no_process() {
    let redis = redis(&[]).await;
    let stage = TestRegistry::with(&["a"]).await;
    stage.write(&format!("{}  instanceId: fixed\n", config(&stage, &at(redis.port()))));
    let reply = redis.command("SET routr-registry:{fixed}:owner garbage").await;
    assert_eq!(reply.as_deref(), Ok("+OK"));
    let mut service = stage.run(&[]);
    stage.settles(&[("a", "registered")]).await;
    // It gets an end, and then an owner.
    let owned = async || {
        // A record is longer than that.
        let length = redis.command("STRLEN routr-registry:{fixed}:owner").await?;
        let bytes = length.trim_start_matches(':').parse::<u32>().unwrap_or_default();
        if bytes > 50 { Ok(()) } else { Err(length) }
    };
    wait_for(owned, SOON, "the process to own the registry").await;
    assert_eq!(told(&service, "standing by"), [""; 0]);
    service.terminate(SOON).await;
}
