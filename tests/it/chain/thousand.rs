//! SIGKILL in the middle of 1,000 trunks, with either store.

use std::time::Duration;

use super::rig::{
    Api, Registry, Requester, Settings, all_refreshed, assert_discreet, kamailio, one_contact_each_soon,
    redis, trunks, users,
};
use crate::support::kamailio::Kamailio;
use crate::support::redis::Redis;
use crate::support::wait::wait_at_pace;

const TRUNKS: usize = 1_000;
/// Long enough for a loaded machine to refresh all of them in time, short enough for a test to wait for it: with an
/// interval of 1 s they are refreshed after 11.2 to 13 s.
const EXPIRES: u32 = 18;
const LONG: Duration = Duration::from_secs(40);

#[tokio::test]
async fn killed_in_the_middle_of_a_thousand_trunks_with_the_memory_store() {
    killed_in_the_middle(None).await;
}

#[tokio::test]
async fn killed_in_the_middle_of_a_thousand_trunks_with_redis() {
    killed_in_the_middle(Some(redis().await)).await;
}

async fn killed_in_the_middle(redis: Option<Redis>) {
    let accounts = users("many", TRUNKS);
    let kamailio = kamailio(&accounts).await;
    let (api, requester) = (Api::start(trunks(&accounts, &kamailio)).await, Requester::start().await);
    let settings = Settings { expires: EXPIRES, ..Settings::default() };
    let settings = redis.as_ref().map_or(settings.clone(), |redis| settings.redis(redis));
    let mut registry = Registry::start(&settings, &api, &requester);

    let some = async || match kamailio.try_bindings().await?.len() {
        few @ ..300 => Err(format!("{few} bindings")),
        _ => Ok(()),
    };
    wait_at_pace(Duration::from_millis(10), some, LONG, "a good part of the trunks to be registered").await;
    registry.kill().await;
    let killed_at = registered(&kamailio).await;
    assert!((300..TRUNKS - 50).contains(&killed_at), "{killed_at} is not the middle");
    registry.restart();

    let all = one_contact_each_soon(&kamailio, &accounts, &registry, LONG).await;
    // From now on none may be missing at any look, past the expiry of all that the first run registered.
    let again = all_refreshed(&kamailio, &all, &registry, LONG).await;
    all_refreshed(&kamailio, &again, &registry, LONG).await;
    registry.all_registered(TRUNKS, LONG).await;
    assert_discreet(&[&registry], &requester, redis.as_ref(), &accounts[..50]).await;
}

async fn registered(kamailio: &Kamailio) -> usize {
    kamailio.bindings().await.len()
}
