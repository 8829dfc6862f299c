//! A restart with 200 trunks while Redis is not well: no REGISTER, and one identity for life.

use std::time::Duration;

use super::harness::{Front, Registered, SOON, at, config, for_a_while, redis};
use crate::standalone::test_registry::{TestRegistry, tells};
use crate::support::redis::Options;
use crate::support::redis::{Redis, major};
use crate::support::wait::wait_for;

const TRUNKS: usize = 200;
/// Duration of the outage.
const WHILE: Duration = Duration::from_secs(4);

/// Ends the registry, does `harm` to Redis, starts the registry, and undoes it after a while.
async fn restarted_during(args: &[&str], harm: &[&str], undo: &[&str]) {
    let redis = redis(args).await;
    let mut registered = Registered::start(TRUNKS, &at(redis.port()), Some(&redis)).await;
    registered.service.terminate(SOON).await;
    all_ok(&redis, harm).await;
    registered.service.restart();
    for_a_while(WHILE).await;
    all_ok(&redis, undo).await;
    registered.nothing_was_sent_and_the_call_ids_are_the_same().await;
    registered.cache_works().await;
    // And once more, with a Redis that is well.
    registered.service.kill().await;
    registered.service.restart();
    registered.all_registered().await;
    registered.next_registers_have_the_same_call_ids().await;
}

async fn all_ok(redis: &Redis, commands: &[&str]) {
    for command in commands {
        let reply = redis.command(command).await.unwrap();
        assert!(reply.starts_with('+'), "{command}: {reply}");
    }
}

#[tokio::test]
async fn s1_a_restart_while_redis_is_late_sends_nothing() {
    let mut redis = redis(&[]).await;
    let mut registered = Registered::start(TRUNKS, &at(redis.port()), Some(&redis)).await;
    registered.service.kill().await;
    redis.stop().await;
    registered.service.restart();
    tells(&registered.service, "nothing is sent until its records can be read", 1).await;
    for_a_while(WHILE).await;
    // The trunks are known meanwhile, and the service says what it waits for.
    assert_eq!(registered.stage.public("/livez").await.unwrap().0, 200);
    assert_eq!(registered.stage.views().await.unwrap().len(), TRUNKS);
    redis.restart().await;
    registered.nothing_was_sent_and_the_call_ids_are_the_same().await;
    registered.cache_works().await;
}

#[tokio::test]
async fn s1_a_restart_while_redis_loads_its_data_sends_nothing() {
    let redis = redis(&[]).await;
    let mut registered = Registered::start(TRUNKS, &at(redis.port()), Some(&redis)).await;
    registered.service.terminate(SOON).await;
    let error = "-LOADING Redis is loading the dataset in memory\r\n";
    let front = Front::start(redis.port(), error, WHILE).await;
    registered.stage.write(&config(&registered.stage, &at(front.port)));
    registered.service.restart();
    registered.nothing_was_sent_and_the_call_ids_are_the_same().await;
    registered.cache_works().await;
}

#[tokio::test]
async fn s1_a_restart_while_redis_is_full_sends_nothing() {
    let policy = ["--maxmemory-policy", "noeviction"];
    restarted_during(&policy, &["CONFIG SET maxmemory 1"], &["CONFIG SET maxmemory 0"]).await;
}

#[tokio::test]
async fn s1_a_restart_while_redis_is_read_only_sends_nothing() {
    restarted_during(&[], &["REPLICAOF 127.0.0.1 1"], &["REPLICAOF NO ONE"]).await;
}

#[tokio::test]
async fn s1_a_restart_while_redis_misses_its_replicas_sends_nothing() {
    let (harm, undo) = (["CONFIG SET min-replicas-to-write 1"], ["CONFIG SET min-replicas-to-write 0"]);
    restarted_during(&[], &harm, &undo).await;
}

#[tokio::test]
async fn s1_a_restart_while_redis_cannot_save_sends_nothing() {
    let gone = tempfile::tempdir().unwrap().keep();
    // Redis 6 protects none, and does not know the option.
    let allowed: &[&str] = if major() < 7 { &[] } else { &["--enable-protected-configs", "local"] };
    let redis = redis(allowed).await;
    let mut registered = Registered::start(TRUNKS, &at(redis.port()), Some(&redis)).await;
    registered.service.terminate(SOON).await;
    let dir = format!("CONFIG SET dir {}", gone.display());
    all_ok(&redis, &[&dir, "CONFIG SET save '3600 1'"]).await;
    std::fs::remove_dir(&gone).unwrap();
    redis.command("BGSAVE").await.unwrap();
    let misconf = async || {
        let reply = redis.command("SET x y").await?;
        if reply.starts_with("-MISCONF") { Ok(()) } else { Err(reply) }
    };
    wait_for(misconf, SOON, "Redis to refuse writes").await;
    registered.service.restart();
    registered.nothing_was_sent_and_the_call_ids_are_the_same().await;
    all_ok(&redis, &["CONFIG SET stop-writes-on-bgsave-error no"]).await;
    registered.cache_works().await;
}

#[tokio::test]
async fn s1_a_restart_while_set_is_forbidden_sends_nothing() {
    restarted_during(&[], &["ACL SETUSER default -set"], &["ACL SETUSER default +set"]).await;
}

#[tokio::test]
async fn s1_a_restart_while_redis_hangs_sends_nothing() {
    let mut redis = redis(&[]).await;
    let mut registered = Registered::start(TRUNKS, &at(redis.port()), Some(&redis)).await;
    registered.service.kill().await;
    redis.pause();
    registered.service.restart();
    for_a_while(WHILE).await;
    redis.resume();
    registered.nothing_was_sent_and_the_call_ids_are_the_same().await;
    registered.cache_works().await;
}

#[tokio::test]
async fn s1_a_redis_that_comes_after_the_registry_has_gone_on_without_it_changes_no_call_id() {
    let mut redis = redis(&[]).await;
    let mut registered = Registered::start(20, &at(redis.port()), Some(&redis)).await;
    registered.service.kill().await;
    redis.stop().await;
    registered.service.restart();
    tells(&registered.service, "nothing is sent until its records can be read", 1).await;
    let sent = async || {
        let granted: usize = registered.stage.granted().values().sum();
        if granted == 40 { Ok(()) } else { Err(granted.to_string()) }
    };
    wait_for(sent, SOON, "the registry to go on without Redis").await;
    redis.restart().await;
    registered.cache_works().await;
    registered.next_registers_have_the_same_call_ids().await;
    registered.service.terminate(SOON).await;
    registered.service.restart();
    registered.all_registered().await;
    registered.next_registers_have_the_same_call_ids().await;
}

#[tokio::test]
async fn s4_credentials_that_are_right_again_are_noticed_within_a_minute() {
    let redis = Redis::start(Options { password: "one".to_owned(), ..Options::default() }).await;
    let stage = TestRegistry::with(&["a"]).await;
    let parameters = format!("{},password=one", at(redis.port()));
    stage.write(&config(&stage, &parameters));
    let service = stage.run(&[]);
    let ok = async |wanted: bool| {
        let look = async || {
            let summary = stage.private("/summary").await?;
            if summary["cache"]["ok"] == wanted { Ok(()) } else { Err(summary["cache"].to_string()) }
        };
        wait_for(look, SOON, "the cache to fail, or work").await;
    };
    ok(true).await;
    redis.command("ACL SETUSER default resetpass >two").await.unwrap();
    redis.drop_clients("two").await;
    ok(false).await;
    redis.command("AUTH two").await.unwrap();
    crate::support::redis::command(redis.port(), "two", "ACL SETUSER default resetpass >one").await.unwrap();
    ok(true).await;
    service.assert_never_said("two");
}
