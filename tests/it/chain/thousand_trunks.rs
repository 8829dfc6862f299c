//! SIGKILL in the middle of 1,000 trunks, with either store.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Api, Registry, Requester, Settings, kamailio, redis, trunks, users};
use super::observe::{all_refreshed, assert_discreet, one_contact_each};
use crate::support::kamailio::Binding;
use crate::support::redis::Redis;
use crate::support::wait::{PATIENCE, wait_at_pace};

const TRUNKS: usize = 1_000;
/// Long enough for a busy machine to refresh all of them in time, short enough for a test to wait for it:
/// with an interval of 15 s they are refreshed after 12 to 15 s.
const EXPIRES: u32 = 30;
/// Most seconds that a binding has left when its refresh is due.
const LEFT: i64 = 18;
/// REGISTERs in a second, few enough that the middle lasts for some seconds, in which a look finds it however
/// late it comes.
const RATE: &str = "250";
/// Pause between two looks at this number of bindings.
const PACE: Duration = Duration::from_millis(200);
const LONG: Duration = PATIENCE;

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
    let settings = Settings { expires: EXPIRES, interval: 15, rate: RATE, ..Settings::default() };
    let settings = redis.as_ref().map_or(settings.clone(), |redis| settings.redis(redis));
    let mut registry = Registry::start(&settings, &api, &requester);

    let some = async || match kamailio.try_bindings().await?.len() {
        few @ ..300 => Err(format!("{few} bindings")),
        _ => Ok(()),
    };
    wait_at_pace(Duration::from_millis(10), some, LONG, "a good part of the trunks to be registered").await;
    registry.kill().await;
    let held = kamailio.bindings().await;
    assert!((300..TRUNKS).contains(&held.len()), "{} is not the middle", held.len());
    registry.restart();

    // What the first run has registered stays there while the second one does the rest.
    let look = |binding: &Binding| (binding.aor.clone(), (binding.cseq, binding.expires_s, Instant::now()));
    let mut last: HashMap<String, (u64, i64, Instant)> = held.iter().map(look).collect();
    let mut early = HashSet::new();
    let all = async || {
        let result = one_contact_each(&kamailio, &accounts, &registry).await;
        let now = kamailio.try_bindings().await?;
        for old in &held {
            let new = now.iter().find(|new| new.aor == old.aor);
            let kept = new.filter(|new| new.call_id == old.call_id && new.cseq >= old.cseq);
            let new = kept.unwrap_or_else(|| panic!("{old:?} was lost: {new:?}"));
            // What was left of it at the last look, less the time since then: at least so much was left when
            // it was sent again.
            let (aor, seen) = look(new);
            if let Some((cseq, left, looked)) = last.insert(aor, seen)
                && new.cseq > cseq
                && left - 1 - i64::try_from(looked.elapsed().as_secs()).unwrap() > LEFT
            {
                early.insert(new.aor.clone());
            }
        }
        result
    };
    wait_at_pace(PACE, all, LONG, "one contact for each of the trunks").await;
    if redis.is_some() {
        // The last writes before the SIGKILL may be lost.
        let (early, held) = (early.len(), held.len());
        assert!(early * 2 < held, "of {held} bindings {early} were not left alone until their time");
    }
    let all = one_contact_each(&kamailio, &accounts, &registry).await.unwrap();
    // From now on none may be missing at any look, past the expiry of all that the first run registered.
    let again = all_refreshed(&kamailio, &all, &registry, LONG).await;
    all_refreshed(&kamailio, &again, &registry, LONG).await;
    registry.all_registered(TRUNKS, LONG).await;
    assert_discreet(&[&registry], &requester, redis.as_ref(), &accounts[..50]).await;
}
