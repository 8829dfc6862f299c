//! The dependencies fail: the registrar, the Requester, the API server.

use std::time::Duration;

use routr_registry::devstack::api::{Fault, Rpc};
use tokio::time::Instant;

use super::harness::{Api, Registry, Requester, SOON, Settings, kamailio, trunk, trunks, users};
use super::observe::{all_refreshed, assert_discreet, one_contact_each, one_contact_each_soon};
use crate::support::wait::{wait_at_pace, wait_for, wait_until};

/// Duration of the registrar's outage. By default it is started again while the bindings, had they not been
/// lost, would just be valid: half a minute in all. CHAIN_OUTAGE_SECONDS=120 goes through expires and
/// back-offs, which takes minutes.
fn outage() -> Duration {
    let seconds = std::env::var("CHAIN_OUTAGE_SECONDS").ok().map(|text| text.parse().expect("a number"));
    Duration::from_secs(seconds.unwrap_or(20))
}

#[tokio::test]
async fn the_registrar_is_stopped_for_a_while() {
    let accounts = users("outage", 20);
    let mut kamailio = kamailio(&accounts).await;
    let (api, requester) = (Api::start(trunks(&accounts, &kamailio)).await, Requester::start().await);
    // Refreshed after 16.6 to 19 s.
    let registry = Registry::start(&Settings { expires: 24, ..Settings::default() }, &api, &requester);
    let before = one_contact_each_soon(&kamailio, &accounts, &registry, SOON).await;
    registry.all_registered(accounts.len(), SOON).await;

    kamailio.stop().await;
    let over = Instant::now() + outage();
    wait_until(async || Instant::now() >= over, outage() + SOON, "the outage to be over").await;
    // A closed TCP port is noticed at once.
    registry
        .summary_says("ten trunks in trouble", |summary| {
            summary.counts.at_risk + summary.counts.failing >= 10
        })
        .await;
    // It has forgotten all bindings.
    kamailio.restart().await;

    // The second round without a binding is followed by a wait of up to 120 s, the Requester's silence takes
    // 32 s.
    let began = Instant::now();
    one_contact_each_soon(&kamailio, &accounts, &registry, 2 * SOON).await;
    println!("all registered {:?} after the end of an outage of {:?}", began.elapsed(), outage());
    registry.all_registered(accounts.len(), SOON).await;
    for (user, binding) in one_contact_each(&kamailio, &accounts, &registry).await.unwrap() {
        assert!(binding.cseq > before[&user].cseq, "{binding:?}");
    }
    assert_discreet(&[&registry], &requester, None, &accounts).await;
}

#[tokio::test]
async fn the_registrar_is_silent_for_less_than_the_validity() {
    let accounts = users("pause", 12);
    let mut kamailio = kamailio(&accounts).await;
    let (api, requester) = (Api::start(trunks(&accounts, &kamailio)).await, Requester::start().await);
    let settings = Settings { expires: 30, interval: 15, ..Settings::default() };
    let registry = Registry::start(&settings, &api, &requester);
    let before = one_contact_each_soon(&kamailio, &accounts, &registry, SOON).await;
    registry.all_registered(accounts.len(), SOON).await;
    // Frozen while the refreshes are due, after 12 to 15 s.
    let waits = async || {
        let in_flight = registry.summary().await?.in_flight;
        if in_flight > 0 { Ok(()) } else { Err("no request waits".to_owned()) }
    };
    kamailio.pause();
    wait_for(waits, SOON, "a request to be in flight").await;
    kamailio.resume();
    all_refreshed(&kamailio, &before, &registry, SOON).await;
}

#[tokio::test]
async fn the_requester_is_replaced_by_one_with_another_sip_port() {
    let accounts = users("replaced", 12);
    let kamailio = kamailio(&accounts).await;
    let (api, mut requester) = (Api::start(trunks(&accounts, &kamailio)).await, Requester::start().await);
    // The usual refresh would come after 188 s, when nothing here is waited for any longer.
    let registry = Registry::start(&Settings { expires: 240, ..Settings::default() }, &api, &requester);
    let before = one_contact_each_soon(&kamailio, &accounts, &registry, SOON).await;
    registry.all_registered(accounts.len(), SOON).await;

    requester.replace().await;
    // All of them early, spread over a quarter of what is left. Contact names the EdgePort, so there is one
    // at any time.
    let early = async || {
        one_contact_each(&kamailio, &accounts, &registry).await.expect("no binding is lost or doubled");
        let trunks = registry.trunks().await?;
        let refreshed = |user: &str| u64::from(trunks[&format!("trunk-{user}")].cseq) > before[user].cseq;
        let due = |user: &str| {
            let trunk = &trunks[&format!("trunk-{user}")];
            trunk.expires_at_ms.zip(trunk.next_at_ms).is_some_and(|(end, next)| end - next > 120_000)
        };
        let late: Vec<_> = accounts.iter().filter(|user| !refreshed(user) && !due(user)).collect();
        let done = accounts.iter().filter(|user| refreshed(user)).count();
        if late.is_empty() && done >= 3 { Ok(()) } else { Err(format!("{done} refreshed, late: {late:?}")) }
    };
    wait_at_pace(Duration::from_millis(100), early, SOON, "all to be due early, and some to be refreshed")
        .await;
    assert_discreet(&[&registry], &requester, None, &accounts).await;
}

#[tokio::test]
async fn the_requester_is_gone_for_a_while() {
    let accounts = users("gone", 12);
    let kamailio = kamailio(&accounts).await;
    let (api, mut requester) = (Api::start(trunks(&accounts, &kamailio)).await, Requester::start().await);
    let settings = Settings { expires: 16, interval: 8, ..Settings::default() };
    let registry = Registry::start(&settings, &api, &requester);
    one_contact_each_soon(&kamailio, &accounts, &registry, SOON).await;

    requester.kill().await;
    let expired = async || kamailio.bindings().await.is_empty();
    wait_until(expired, SOON, "all bindings to expire").await;
    registry
        .summary_says("the Requester to be reported", |summary| summary.requester.ok == Some(false))
        .await;
    // The trunks are not to blame.
    for trunk in registry.trunks().await.unwrap().into_values() {
        assert_eq!(trunk.failures, 0, "{trunk:?}");
    }
    requester.start_another().await;
    // The breaker probes every 5 s at most.
    let bindings = one_contact_each_soon(&kamailio, &accounts, &registry, SOON).await;
    registry.all_registered(accounts.len(), SOON).await;
    all_refreshed(&kamailio, &bindings, &registry, SOON).await;
    assert_discreet(&[&registry], &requester, None, &accounts).await;
}

#[tokio::test]
async fn the_requester_hangs_for_some_seconds() {
    let accounts = users("hangs", 12);
    let kamailio = kamailio(&accounts).await;
    let (api, mut requester) = (Api::start(trunks(&accounts, &kamailio)).await, Requester::start().await);
    let settings = Settings { expires: 30, interval: 15, ..Settings::default() };
    let registry = Registry::start(&settings, &api, &requester);
    let before = one_contact_each_soon(&kamailio, &accounts, &registry, SOON).await;
    registry.all_registered(accounts.len(), SOON).await;
    requester.pause();
    registry.summary_says("requests to wait for the Requester", |summary| summary.in_flight > 1).await;
    let received = kamailio.register_counts().await;
    requester.resume();
    let after = all_refreshed(&kamailio, &before, &registry, SOON).await;
    // Each refreshed once, however long it took.
    for (user, counts) in kamailio.register_counts().await {
        assert_eq!(
            (counts.received, counts.saved),
            (received[&user].received + 1, received[&user].saved + 1),
            "{user}"
        );
    }
    registry.all_registered(after.len(), SOON).await;
    assert!(registry.trunks().await.unwrap().values().all(|trunk| trunk.failures == 0));
}

#[tokio::test]
async fn the_api_server_fails_in_three_ways_while_refreshes_go_on() {
    let accounts = users("api", 12);
    let kamailio = kamailio(&accounts).await;
    let list = trunks(&accounts[..11], &kamailio);
    let (mut api, requester) = (Api::start(list.clone()).await, Requester::start().await);
    let registry = Registry::start(&Settings { expires: 10, ..Settings::default() }, &api, &requester);
    let mut bindings = one_contact_each_soon(&kamailio, &accounts[..11], &registry, SOON).await;
    let ailing = async |why: &str| {
        let what = format!("the API server to be reported as {why}");
        registry.summary_says(&what, |summary| summary.api.ok == Some(false)).await;
    };

    for fault in [Fault::Unavailable, Fault::Hang] {
        api.set_fault(Rpc::FindBy, Some(fault.clone()));
        ailing(&format!("{fault:?}")).await;
        bindings = all_refreshed(&kamailio, &bindings, &registry, SOON).await;
        api.set_fault(Rpc::FindBy, None);
        registry
            .summary_says("the API server to be well again", |summary| summary.api.ok == Some(true))
            .await;
    }
    api.stop().await;
    ailing("gone").await;
    all_refreshed(&kamailio, &bindings, &registry, SOON).await;

    // It comes back with one trunk more.
    api.set_trunks([list, vec![trunk(&accounts[11], &kamailio, "UDP")]].concat());
    api.start_again().await;
    registry.all_registered(accounts.len(), SOON).await;
    one_contact_each(&kamailio, &accounts, &registry).await.unwrap();
    assert_discreet(&[&registry], &requester, None, &accounts).await;
}
