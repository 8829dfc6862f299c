//! A new configuration for a running service: what it changes, and that it touches nothing else.

use nix::sys::signal::Signal;
use routr_registry::devstack::api::{ApiServer, Rpc};
use tokio_util::sync::CancellationToken;

use super::SOON;
use super::fake::{FakeRequester, header};
use super::test_registry::{TestRegistry, listen, log, tells, told};
use crate::support::ports;
use crate::support::redis::{Options, Redis};
use crate::support::service::Service;
use crate::support::wait::{wait_for, wait_until};

const TOOK_OVER: &str = "applied the new configuration";

/// Writes the new configuration, sends SIGHUP, and waits until it is in use and the trunks were read under
/// it. Returns what the log says has changed.
async fn reload(stage: &TestRegistry, service: &mut Service, config: &str) -> String {
    let times = told(service, TOOK_OVER).len();
    stage.write(config);
    service.signal(Signal::SIGHUP);
    tells(service, TOOK_OVER, times + 1).await;
    let line = log(service).into_iter().rfind(|line| line["message"] == TOOK_OVER).unwrap();
    line["changed"].as_str().unwrap().to_owned()
}

/// Waits for `more` further syncs.
async fn syncs(api: &ApiServer, more: u64) {
    let goal = api.calls(Rpc::FindBy) + more;
    wait_until(async || api.calls(Rpc::FindBy) >= goal, SOON, "the trunks to be read again").await;
}

#[tokio::test]
async fn what_concerns_no_binding_sends_no_register() {
    let stage = TestRegistry::with(&["a", "b", "c"]).await;
    let mut service = stage.run(&[]);
    stage.settles(&[("a", "registered"), ("b", "registered"), ("c", "registered")]).await;
    let before = stage.registrar.counters().registers;
    let fast = stage.config("");
    let edits = [
        (fast.replace("registerInterval: 1s", "registerInterval: 2s"), "spec.registerInterval"),
        (
            fast.clone() + "  registration:\n    ratePerRegistrar: 5\n    maxInFlight: 7\n",
            "spec.registerInterval, spec.registration",
        ),
        (fast.clone() + "  registration:\n    userAgent: Another\n    require: []\n", "spec.registration"),
        (
            fast.clone() + "    - address: 10.0.0.2:5060\n      region: elsewhere\n",
            "spec.edgePorts, spec.registration",
        ),
        (fast.clone() + "  methods: [INVITE]\n", "spec.methods, spec.edgePorts"),
        (fast.clone() + "  requesterTokenFile: token\n", "spec.requesterTokenFile, spec.methods"),
        (fast.replace("name: test", "name: other"), "metadata.name, spec.requesterTokenFile"),
    ];
    std::fs::write(stage.dir.path().join("token"), "0123456789abcdef0123\n").unwrap();
    for (config, changed) in &edits {
        assert_eq!(&reload(&stage, &mut service, config).await, changed);
        syncs(&stage.api, 1).await;
    }
    assert_eq!(stage.registrar.counters().registers, before, "no trunk was concerned");
    assert_eq!(told(&service, "the Call-IDs stay as they are until the next start").len(), 1, "the name");
    let limit = stage.private("/summary").await.unwrap()["inFlightLimit"].as_u64().unwrap();
    assert!(limit <= 1000, "{limit}");
    stage.keeps_secrets(&service).await;
}

#[tokio::test]
async fn only_trunks_whose_edge_port_goes_away_are_registered_anew() {
    let stage = TestRegistry::bare().await;
    stage.trunks(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    let mut stage = stage;
    stage.start_api().await;
    // An early refresh comes within 12 s (a quarter of what is left), the usual one after 35 s.
    let fake = FakeRequester::granting(stage.requester_port, 48).await;
    let config = |edges: &[&str]| {
        let edges: String = edges.iter().map(|edge| format!("    - address: {edge}:5060\n")).collect();
        stage.config("").replace("    - address: 10.0.0.1:5060\n", &edges)
    };
    stage.write(&config(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
    let mut service = stage.run(&[]);
    let registered = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|reference| (reference, "registered"));
    stage.settles(&registered).await;
    let edge_of = |view: &serde_json::Value| view["edgePort"].as_str().unwrap().to_owned();
    let before = stage.views().await.unwrap();
    let gone: Vec<&String> =
        before.iter().filter(|(_, view)| edge_of(view) == "10.0.0.3:5060").map(|(r, _)| r).collect();
    assert!(!gone.is_empty() && gone.len() < before.len(), "{gone:?}: choose other refs for this test");
    reload(&stage, &mut service, &config(&["10.0.0.1", "10.0.0.2"])).await;
    let moved = async || {
        let again: Vec<String> =
            before.keys().filter(|reference| fake.of(reference).len() > 1).cloned().collect();
        if gone.iter().all(|r| again.contains(r)) { Ok(again) } else { Err(format!("{again:?} of {gone:?}")) }
    };
    let again = wait_for(moved, SOON, "the trunks of the lost EdgePort to move").await;
    assert_eq!(again.iter().collect::<Vec<_>>(), gone, "and no other");
    for reference in &gone {
        stage.rests(reference).await;
    }
    for (reference, view) in stage.views().await.unwrap() {
        assert_ne!(edge_of(&view), "10.0.0.3:5060");
        if !gone.contains(&&reference) {
            assert_eq!(edge_of(&view), edge_of(&before[&reference]), "{reference}");
        }
    }
}

#[tokio::test]
async fn words_and_option_tags_are_used_from_the_next_register_on() {
    let mut stage = TestRegistry::bare().await;
    stage.trunks(&["a"]);
    stage.start_api().await;
    let fake = FakeRequester::granting(stage.requester_port, 600).await;
    let mut service = stage.run(&[]);
    stage.settles(&[("a", "registered")]).await;
    let first = &fake.seen()[0];
    assert_eq!(header(first, "User-Agent"), ["Routr Connect v2"]);
    assert_eq!((header(first, "Require"), header(first, "Allow")), (vec!["gin".to_owned()], vec![]));
    let config = stage.config(
        "  methods: [INVITE, MESSAGE]\n  registration:\n    userAgent: Another/1\n    require: [outbound]\n    expires: 20m\n",
    );
    reload(&stage, &mut service, &config).await;
    assert_eq!(fake.seen().len(), 1);
    stage.refresh("a").await.unwrap();
    wait_until(async || fake.seen().len() == 2, SOON, "the refresh").await;
    let second = &fake.seen()[1];
    assert_eq!(header(second, "User-Agent"), ["Another/1"]);
    assert_eq!(header(second, "Require"), ["outbound"]);
    assert_eq!(header(second, "Allow"), ["INVITE", "MESSAGE"]);
    let message = second.message.clone().unwrap();
    assert_eq!(message.expires.unwrap().expires, 1200);
    assert_eq!(message.call_id, first.message.clone().unwrap().call_id, "the same registration");
}

#[tokio::test]
async fn a_higher_rate_lets_waiting_trunks_go_at_once() {
    let stage = TestRegistry::with(&["a", "b", "c"]).await;
    stage.write(&stage.config("  registration:\n    ratePerRegistrar: 0.001\n"));
    let mut service = stage.run(&[]);
    let some = async || match stage.private("/summary").await? {
        summary if summary["counts"]["registered"] == 1 && summary["waiting"] == 2 => Ok(()),
        summary => Err(summary.to_string()),
    };
    wait_for(some, SOON, "one trunk to be registered and two to wait").await;
    reload(&stage, &mut service, &stage.config("  registration:\n    ratePerRegistrar: unlimited\n")).await;
    stage.settles(&[("a", "registered"), ("b", "registered"), ("c", "registered")]).await;
    assert_eq!(stage.granted().values().sum::<usize>(), 3);
}

#[tokio::test]
async fn another_interval_is_used_at_once() {
    let stage = TestRegistry::with(&["a"]).await;
    let slow = stage.config("").replace("registerInterval: 1s", "registerInterval: 1h");
    stage.write(&slow);
    let mut service = stage.run(&[]);
    stage.settles(&[("a", "registered")]).await;
    assert_eq!(stage.api.calls(Rpc::FindBy), 1);
    reload(&stage, &mut service, &stage.config("")).await;
    syncs(&stage.api, 2).await;
}

#[tokio::test]
async fn another_requester_registers_every_trunk_anew_another_api_server_only_what_differs() {
    let mut stage = TestRegistry::bare().await;
    stage.trunks(&["a", "b"]);
    stage.start_api().await;
    let first = FakeRequester::granting(stage.requester_port, 600).await;
    let mut service = stage.run(&[]);
    stage.settles(&[("a", "registered"), ("b", "registered")]).await;

    // Its Contact is another one: both are due within a quarter of the ten minutes, and not in the last
    // quarter as usual.
    stage.requester_port = ports::free();
    let second = FakeRequester::granting(stage.requester_port, 600).await;
    assert_eq!(reload(&stage, &mut service, &stage.config("")).await, "spec.requesterAddr");
    let early = async || {
        let views = stage.views().await?;
        let due = |view: &serde_json::Value| {
            let (end, next) = (view["expiresAtMs"].as_u64(), view["nextAtMs"].as_u64());
            end.zip(next).is_some_and(|(end, next)| end - next > 300_000)
        };
        let early = views.iter().all(|(reference, view)| due(view) || !second.of(reference).is_empty());
        if early { Ok(()) } else { Err(format!("{views:?}")) }
    };
    wait_for(early, SOON, "both trunks to be due early").await;
    for reference in ["a", "b"] {
        if second.of(reference).is_empty() {
            stage.refresh(reference).await.unwrap();
        }
    }
    let moved = async || second.of("a").len() == 1 && second.of("b").len() == 1;
    wait_until(moved, SOON, "both trunks to be registered through the other Requester").await;
    assert_eq!(first.seen().len(), 2);
    drop(first);

    // Another API server: «a» is the same there, «b» is not, «c» is new.
    let other = ApiServer::from_trunks(vec![stage.trunk("a"), stage.trunk("c")]);
    stage.api_port = ports::free();
    let end = CancellationToken::new();
    let (listener, served) = (listen(stage.api_port).await, other.clone());
    tokio::spawn({
        let end = end.clone();
        async move { served.serve(listener, end).await }
    });
    let asked = stage.api.calls(Rpc::FindBy);
    assert_eq!(reload(&stage, &mut service, &stage.config("")).await, "spec.apiAddr");
    stage.settles(&[("a", "registered"), ("c", "registered")]).await;
    syncs(&other, 1).await;
    assert!(stage.api.calls(Rpc::FindBy) <= asked + 1, "the old one is left alone");
    let expires = |user: &str| -> Vec<i32> {
        let requests = second.of(user);
        requests.iter().map(|r| r.message.clone().unwrap().expires.unwrap().expires).collect()
    };
    assert_eq!((expires("a"), expires("b"), expires("c")), (vec![600], vec![600, 0], vec![600]));
    stage.keeps_secrets(&service).await;
    end.cancel();
}

#[tokio::test]
async fn another_cache_gets_everything_and_no_trunk_notices() {
    let stage = TestRegistry::with(&["a", "b"]).await;
    let redis = Redis::start(Options { password: "only-for-redis".to_owned(), persistent: false }).await;
    let mut service = stage.run(&[]);
    stage.settles(&[("a", "registered"), ("b", "registered")]).await;
    let before = stage.registrar.counters().registers;
    let cache = format!(
        "  cache:\n    provider: redis\n    parameters: host=127.0.0.1,port={},password=only-for-redis\n",
        redis.port()
    );
    assert_eq!(reload(&stage, &mut service, &stage.config(&cache)).await, "spec.cache");
    let kept = async || match redis.command("DBSIZE").await {
        Ok(size) if size[1..].parse::<u32>().is_ok_and(|size| size >= 3) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(kept, SOON, "both registrations and the instance id to be in Redis").await;
    let calls: Vec<_> =
        stage.views().await.unwrap().into_values().map(|view| view["callId"].clone()).collect();

    // The next start goes on from there: the same Call-IDs, and nothing is sent again.
    assert!(service.terminate(SOON).await.success());
    service.restart();
    stage.settles(&[("a", "registered"), ("b", "registered")]).await;
    let after: Vec<_> =
        stage.views().await.unwrap().into_values().map(|view| view["callId"].clone()).collect();
    assert_eq!(calls, after);
    assert_eq!(stage.registrar.counters().registers, before);

    // Away from Redis again.
    reload(&stage, &mut service, &stage.config("")).await;
    syncs(&stage.api, 1).await;
    assert_eq!(stage.registrar.counters().registers, before);
    service.assert_never_said("only-for-redis");
    stage.keeps_secrets(&service).await;
}
