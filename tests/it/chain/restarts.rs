//! The registry ends and starts again.

use std::collections::BTreeMap;
use std::time::Duration;

use routr_environment::unix_ms;

use super::harness::{Api, Registry, Requester, SOON, Settings, kamailio, redis, trunk, trunks, users};
use super::observe::{all_refreshed, assert_discreet, one_contact_each, one_contact_each_soon};
use crate::support::kamailio::Binding;
use crate::support::redis::Redis;
use crate::support::wait::{wait_for, wait_until};

/// Expiry in seconds: with an interval of 5 s a binding is refreshed after 20 to 25 s. A restart takes far
/// less.
const EXPIRES: u32 = 30;

fn cseqs(bindings: &BTreeMap<String, Binding>) -> Vec<u64> {
    bindings.values().map(|binding| binding.cseq).collect()
}

#[tokio::test]
async fn after_a_restart_with_redis_nothing_is_sent_before_its_time() {
    let accounts = users("restart", 12);
    let kamailio = kamailio(&accounts).await;
    let redis = redis().await;
    let (api, requester) = (Api::start(trunks(&accounts, &kamailio)).await, Requester::start().await);
    let settings = Settings { expires: EXPIRES, interval: 5, ..Settings::default() }.redis(&redis);
    let mut registry = Registry::start(&settings, &api, &requester);
    let before = one_contact_each_soon(&kamailio, &accounts, &registry, SOON).await;
    registry.all_registered(accounts.len(), SOON).await;
    let counts = kamailio.register_counts().await;

    assert_eq!(registry.terminate(SOON).await.code(), Some(0), "{}", registry.output());
    registry.restart();
    registry.all_registered(accounts.len(), SOON).await;
    assert_eq!(kamailio.register_counts().await, counts, "registered again although it was valid");
    let still = one_contact_each(&kamailio, &accounts, &registry).await.unwrap();
    assert_eq!(cseqs(&still), cseqs(&before));

    all_refreshed(&kamailio, &before, &registry, SOON).await;
    assert_discreet(&[&registry], &requester, Some(&redis), &accounts).await;
}

#[tokio::test]
async fn after_a_restart_without_a_cache_the_same_bindings_are_refreshed_at_once() {
    let accounts = users("memory", 12);
    let kamailio = kamailio(&accounts).await;
    let (api, requester) = (Api::start(trunks(&accounts, &kamailio)).await, Requester::start().await);
    // Both runs fall into one second, in which the clock alone gives both the same CSeq numbers.
    wait_until(async || unix_ms() % 1_000 < 100, SOON, "a second to begin").await;
    let mut registry = Registry::start(&Settings::default(), &api, &requester);
    let before = one_contact_each_soon(&kamailio, &accounts, &registry, SOON).await;
    registry.kill().await;
    registry.restart();
    // Nothing was kept: the Call-IDs are derived, and the CSeq numbers must rise all the same.
    all_refreshed(&kamailio, &before, &registry, SOON).await;
}

/// Waits until Redis has a record of every trunk.
async fn all_kept(redis: &Redis, accounts: &[String], deadline: Duration) {
    let probe = async || {
        let dump = redis.dump().await;
        let missing = accounts.iter().find(|user| !dump.contains(&format!("trunk-{user}")));
        missing.map_or(Ok(()), |user| Err(format!("{user} is not there: {dump}")))
    };
    wait_for(probe, deadline, "everything to be written to Redis").await;
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_filled_again() {
    let accounts = users("empty", 12);
    let kamailio = kamailio(&accounts).await;
    let mut redis = redis().await;
    let (api, requester) = (Api::start(trunks(&accounts, &kamailio)).await, Requester::start().await);
    let settings = Settings { expires: 600, ..Settings::default() }.redis(&redis);
    let mut registry = Registry::start(&settings, &api, &requester);
    registry.all_registered(accounts.len(), SOON).await;
    let before = one_contact_each(&kamailio, &accounts, &registry).await.unwrap();
    all_kept(&redis, &accounts, SOON).await;

    redis.kill().await;
    registry.summary_says("the cache to be reported", |summary| summary.cache.ok == Some(false)).await;
    redis.restart().await;
    assert_eq!(redis.dump().await, "");
    all_kept(&redis, &accounts, SOON).await;
    registry.summary_says("the cache to be well", |summary| summary.cache.ok == Some(true)).await;

    let counts = kamailio.register_counts().await;
    registry.kill().await;
    registry.restart();
    registry.all_registered(accounts.len(), SOON).await;
    assert_eq!(kamailio.register_counts().await, counts, "registered again although it was valid");
    let after = one_contact_each(&kamailio, &accounts, &registry).await.unwrap();
    assert_eq!(cseqs(&before), cseqs(&after));
    assert_discreet(&[&registry], &requester, Some(&redis), &accounts).await;
}

#[tokio::test]
async fn sigterm_ends_it_in_time_with_requests_in_flight_and_removes_nothing() {
    let accounts = users("term", 8);
    let kamailio = kamailio(&accounts).await;
    let (api, mut requester) =
        (Api::start(trunks(&accounts[..7], &kamailio)).await, Requester::start().await);
    let settings = Settings { args: &["--grace", "2"], ..Settings::default() };
    let mut registry = Registry::start(&settings, &api, &requester);
    let before = one_contact_each_soon(&kamailio, &accounts[..7], &registry, SOON).await;
    registry.all_registered(7, SOON).await;

    // A response that does not come in time holds nothing up.
    requester.pause();
    let mut list = trunks(&accounts[..7], &kamailio);
    list.push(trunk(&accounts[7], &kamailio, "UDP"));
    api.set_trunks(list);
    registry.summary_says("a request in flight", |summary| summary.in_flight == 1).await;
    let abandoned =
        |registry: &Registry| registry.output().matches("no longer waiting for responses").count();
    let status = registry.terminate(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", registry.output());
    // Its grace has ended it, not the deadline of the request.
    assert_eq!(abandoned(&registry), 1, "{}", registry.output());
    requester.resume();

    // With nothing in flight it ends at once.
    registry.restart();
    registry.all_registered(8, SOON).await;
    assert_eq!(registry.terminate(SOON).await.code(), Some(0), "{}", registry.output());
    assert_eq!(abandoned(&registry), 1, "nothing was to be waited for: {}", registry.output());

    let after = one_contact_each(&kamailio, &accounts, &registry).await.unwrap();
    for (user, binding) in before {
        assert!(after[&user].cseq > binding.cseq, "{user} was not registered again: {binding:?}");
    }
}
