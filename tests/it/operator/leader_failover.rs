//! Two replicas and one Lease: who works, and how the work changes hands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::harness::{Installation, Operator, SOON, TestRegistry, manifest};
use super::replicas::{holders, readiness};
use crate::chain::harness::{Requester, cache, redis};
use crate::support::wait::{wait_for, wait_until};

/// Refreshed after 4 to 5 s: half of it is the lead.
const SHORT: &str = "  registration: { expires: 10s, ratePerRegistrar: unlimited }\n";

/// REGISTERs that the registrar has granted by some moment.
struct Pace {
    since: Duration,
    granted: BTreeMap<String, usize>,
}

impl Pace {
    fn now(stage: &TestRegistry) -> Self {
        Self { since: stage.registrar.elapsed(), granted: stage.granted() }
    }

    /// Waits until each trunk was refreshed `times` times since then. Panics where one was refreshed more
    /// often than one sender does, by the time that has passed: no sooner than after 4 s. Two senders would
    /// do it twice as often.
    async fn refreshes(&self, stage: &TestRegistry, times: usize) {
        let more = async || stage.granted().iter().all(|(user, all)| *all >= self.granted[user] + times);
        wait_until(more, SOON, &format!("all trunks to be refreshed {times} times")).await;
        let granted = stage.granted();
        let most = (stage.registrar.elapsed() - self.since).as_secs() / 4 + 2;
        for (user, all) in granted {
            let times = (all - self.granted[&user]) as u64;
            assert!(
                times <= most,
                "{user} was refreshed {times} times, one sender does it {most} times at most"
            );
        }
    }
}

/// Nothing was deregistered, and no REGISTER met another one of its trunk.
fn assert_one_sender(stage: &TestRegistry, trunks: usize) {
    let counters = stage.registrar.counters();
    assert_eq!((counters.overlapping, counters.cseq_not_rising), (0, 0), "{counters:?}");
    let log = stage.registrar.log();
    assert!(log.iter().all(|seen| seen.expires != Some(0)), "something was de-registered");
    let bindings = stage.registrar.bindings();
    assert_eq!(bindings.len(), trunks, "{bindings:?}");
    for (aor, bindings) in bindings {
        assert_eq!(bindings.len(), 1, "{aor}: {bindings:?}");
    }
    let mut call_ids: BTreeMap<String, String> = BTreeMap::new();
    for seen in log {
        let first = call_ids.entry(seen.user.clone()).or_insert(seen.call_id.clone());
        assert_eq!(*first, seen.call_id, "{}", seen.user);
    }
}

/// SIGTERM to `leader`; returns when `next` holds the Lease, how long that took, and sees the end of the old
/// process.
async fn hand_over(cluster: &Installation<'_>, leader: &mut Operator, next: &str) -> Duration {
    let holders = holders(cluster).await;
    holders.first(holders.began, "the Lease to be seen", Option::is_some).await;
    let began = Instant::now();
    leader.service.signal(Signal::SIGTERM);
    let took = holders.handed_to(next, began).await;
    let status = leader.service.exit(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", leader.service.output());
    took
}

#[tokio::test]
async fn one_of_two_replicas_works_and_hands_over_at_sigterm() {
    let stage = TestRegistry::with(&["a", "b", "c", "d"]).await;
    let cluster = Installation::shared("ha").await;
    let mut first = cluster.start("pod-a");
    first.answers(200, "leads").await;
    let second = cluster.start("pod-b");
    second.answers(200, "follows pod-a, ready to take over").await;
    cluster.apply("main", &stage, SHORT).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    let ready = readiness(&cluster, "main").await;

    // The other one has nothing, sends nothing, writes nothing.
    let pace = Pace::now(&stage);
    pace.refreshes(&stage, 3).await;
    assert!(second.summary().await.unwrap_err().contains("404"), "the follower has an engine");
    let (_, metrics) = second.public("/metrics").await.unwrap();
    let (_, of_leader) = first.public("/metrics").await.unwrap();
    for series in ["main", "status_writes_total{"] {
        assert!(of_leader.contains(series), "{series} is no part of the leader's metrics: {of_leader}");
        let line = metrics.lines().find(|line| line.contains(series) && !line.ends_with(" 0"));
        assert_eq!(line, None, "the follower works");
    }

    let took = hand_over(&cluster, &mut first, "pod-b").await;
    println!("handed over {took:?} after SIGTERM");
    second.all_registered(4).await;
    second.answers(200, "leads").await;
    let third = cluster.start("pod-a");
    third.answers(200, "follows pod-b, ready to take over").await;
    let status = cluster.condition("main", "Ready", "True", "AllRegistered").await;
    assert_eq!(status["trunks"]["registered"], 4);
    assert_one_sender(&stage, 4);
    // Who remembers nothing says so, where it has not known better for some time. With Redis it stays ready
    // all the while.
    let reasons: BTreeSet<String> =
        ready.all().into_iter().filter_map(|(_, ready)| Some(ready?.reason)).collect();
    assert!(
        reasons.iter().all(|reason| ["AllRegistered", "Registering"].contains(&&**reason)),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn dependencies_that_hang_do_not_delay_the_hand_over() {
    let (mut requester, mut redis) = (Requester::start().await, redis().await);
    let mut stage = TestRegistry::bare().await;
    stage.start_api().await;
    stage.requester_port = requester.port();
    let refs = ["a", "b", "c", "d", "e", "f", "g", "h"];
    stage.trunks(&refs);
    let cluster = Installation::shared("hang").await;
    let mut leader = cluster.start("pod-0");
    leader.answers(200, "leads").await;
    let cached = format!("{SHORT}  cache: {}\n", cache(&redis));
    cluster.apply_manifest(&manifest("main", &stage, &cached)).await;
    leader.all_registered(8).await;

    for (round, what) in ["the Requester", "Redis", "both"].into_iter().enumerate() {
        let name = format!("pod-{}", round + 1);
        let next = cluster.start(&name);
        next.answers(200, "ready to take over").await;
        if what != "Redis" {
            requester.pause();
            let waits = async || match leader.summary().await?.in_flight {
                0 => Err("nothing is in flight".to_owned()),
                _ => Ok(()),
            };
            wait_for(waits, SOON, "a REGISTER to be in flight").await;
        }
        if what != "the Requester" {
            redis.pause();
            let refreshed = stage.registrar.counters().registers;
            let more = async || what == "both" || stage.registrar.counters().registers > refreshed;
            wait_until(more, SOON, "something to be written that Redis does not take").await;
        }
        let took = hand_over(&cluster, &mut leader, &name).await;
        println!("handed over {took:?} after SIGTERM while {what} hung");
        requester.resume();
        redis.resume();
        next.all_registered(8).await;
        leader = next;
    }
    let left = stage.registrar.log().into_iter().filter(|seen| seen.expires == Some(0)).count();
    assert_eq!(left, 0, "something was de-registered");
}

#[tokio::test]
async fn a_leader_that_was_frozen_is_a_follower_when_it_goes_on() {
    let redis = redis().await;
    let refs = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let stage = TestRegistry::with(&refs).await;
    let cluster = Installation::with_short_terms("frozen").await;
    let mut first = cluster.start("pod-a");
    first.answers(200, "leads").await;
    let mut second = cluster.start("pod-b");
    second.answers(200, "follows pod-a").await;
    let cached = format!("{SHORT}  cache: {}\n", cache(&redis));
    cluster.apply("main", &stage, &cached).await;
    first.all_registered(8).await;
    let holders = holders(&cluster).await;

    let frozen = Instant::now();
    first.service.pause();
    let took = holders.held_by("pod-b", frozen).await;
    println!("taken over {took:?} after SIGSTOP");
    second.all_registered(8).await;
    // By now everything that the frozen one knows of is long due.
    let resumed = Pace::now(&stage);
    first.service.resume();
    first.says("lost the lease").await;
    first.answers(200, "follows pod-b, ready to take over").await;
    assert!(first.summary().await.unwrap_err().contains("404"), "it has an engine still");
    // REGISTERs of two would be twice as many.
    resumed.refreshes(&stage, 3).await;

    // What the new leader wrote is what Redis has: the old one goes on from there.
    let handed = Pace::now(&stage);
    hand_over(&cluster, &mut second, "pod-a").await;
    handed.refreshes(&stage, 2).await;
    assert_one_sender(&stage, 8);
}

#[tokio::test]
async fn a_deletion_under_way_is_finished_by_the_next_leader() {
    let mut requester = Requester::start().await;
    let mut stage = TestRegistry::bare().await;
    stage.start_api().await;
    stage.requester_port = requester.port();
    stage.trunks(&["a", "b", "c", "d"]);
    let cluster = Installation::shared("parting").await;
    let mut leader = cluster.start("pod-a");
    leader.answers(200, "leads").await;
    let next = cluster.start("pod-b");
    next.answers(200, "follows pod-a").await;
    let long = "  registration: { expires: 600s }\n";
    cluster.apply_manifest(&manifest("main", &stage, long)).await;
    // From the status the next leader knows that there may be bindings.
    cluster.condition("main", "Ready", "True", "AllRegistered").await;

    requester.pause();
    cluster.kubectl(&["delete", "registry", "main", "--wait=false"]).await.ok();
    let leaves = async || match leader.summary().await?.counts.deregistering {
        4 => Ok(()),
        some => Err(format!("{some} are being deregistered")),
    };
    wait_for(leaves, SOON, "the trunks to be leaving").await;
    hand_over(&cluster, &mut leader, "pod-b").await;
    // The one that gives up leaves the rest to the other one.
    let registry = cluster.registry("main").await;
    assert_eq!(registry["metadata"]["finalizers"][0], "routr.io/deregister", "{registry:#}");
    assert_eq!(stage.registrar.bindings().len(), 4);
    requester.resume();
    cluster.kubectl(&["wait", "--for=delete", "registry/main", "--timeout=120s"]).await.ok();
    assert_eq!(stage.registrar.bindings().len(), 0);
    assert!(next.service.output().contains("all trunks are deregistered"), "{}", next.service.output());
}
