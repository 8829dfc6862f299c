//! The registrations themselves, at real registrars, when the leader is killed or handed over again and
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use routr_registration::registration::identity::RegistryId;
use tokio::time::Instant;

use super::harness::{Installation, Operator, RELEASE, SOON};
use super::replicas::{holders, readiness};
use crate::chain::harness::{Api, DOMAIN, Requester, cache, kamailio, kamailio_with, redis, trunks, users};
use crate::chain::observe::contacts;
use crate::support::kamailio::{Binding, Counts, Kamailio, Options};
use crate::support::process::tail;
use crate::support::wait::{wait_at_pace, wait_for};

type Bindings = BTreeMap<String, Binding>;

/// A registrar and who is registered there.
struct Place {
    kamailio: Kamailio,
    users: Vec<String>,
}

impl Place {
    async fn new(prefix: &str, count: usize) -> Self {
        let users = users(prefix, count);
        Self { kamailio: kamailio(&users).await, users }
    }

    /// Grants no more than `max_expires` seconds.
    async fn granting(prefix: &str, count: usize, max_expires: u32) -> Self {
        let users = users(prefix, count);
        let options = Options { max_expires, ..Options::default() };
        Self { kamailio: kamailio_with(&users, options).await, users }
    }

    /// One binding for each user; panics when one is missing, doubled, or has another Call-ID than this
    /// registry derives.
    async fn all_bound(&self, registry: &RegistryId) -> Bindings {
        let call_id = |user: &str| registry.call_id(&format!("trunk-{user}"), DOMAIN, user);
        let found = contacts(&self.kamailio, &self.users, call_id).await;
        found.unwrap_or_else(|problem| panic!("a binding expired or was doubled: {problem}"))
    }

    async fn counts(&self) -> BTreeMap<String, Counts> {
        self.kamailio.register_counts().await
    }
}

/// Returns the number of REGISTERs of each user that were granted since.
fn granted_since(
    before: &BTreeMap<String, Counts>,
    after: &BTreeMap<String, Counts>,
) -> BTreeMap<String, u64> {
    after.iter().map(|(user, counts)| (user.clone(), counts.saved - before[user].saved)).collect()
}

fn manifest(api: &Api, requester: &Requester, interval: &str, more: &str) -> String {
    format!(
        "apiVersion: routr.io/v2beta1\nkind: Registry\nmetadata:\n  name: main\nspec:\n  requesterAddr: 127.0.0.1:{}\n  \
         apiAddr: 127.0.0.1:{}\n  registerInterval: {interval}\n  edgePorts:\n    - address: 198.51.100.7:5060\n{more}",
        requester.port(),
        api.port()
    )
}

async fn identity(cluster: &Installation<'_>) -> RegistryId {
    RegistryId::new(cluster.registry("main").await["metadata"]["uid"].as_str().unwrap())
}

async fn two(cluster: &Installation<'_>) -> (Operator, Operator) {
    let first = cluster.start("pod-a");
    first.answers(200, "leads").await;
    let second = cluster.start("pod-b");
    second.answers(200, "follows pod-a").await;
    (first, second)
}

#[tokio::test]
async fn with_redis_five_hundred_trunks_outlive_the_kill_of_the_leader() {
    // Refreshed after 464 s, and after 24 to 30 s: 30 s of these 60 are the lead.
    let (long, mut short) = (Place::new("long", 460).await, Place::granting("short", 40, 60).await);
    let list = [trunks(&long.users, &long.kamailio), trunks(&short.users, &short.kamailio)].concat();
    let (api, requester, redis) = (Api::start(list).await, Requester::start().await, redis().await);
    let cluster = Installation::with_short_terms("killed").await;
    let (mut first, second) = two(&cluster).await;
    let more = format!(
        "  registration: {{ expires: 600s, ratePerRegistrar: unlimited }}\n  cache: {}\n",
        cache(&redis)
    );
    cluster.apply_manifest(&manifest(&api, &requester, "30s", &more)).await;
    first.all_registered(500).await;
    let registry = identity(&cluster).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    let (ready, holders) = (readiness(&cluster, "main").await, holders(&cluster).await);
    let (long_before, short_before) = (long.all_bound(&registry).await, short.all_bound(&registry).await);
    let (long_counts, short_counts) = (long.counts().await, short.counts().await);

    // The refreshes of the short ones begin, and wait for their registrar.
    short.kamailio.pause();
    let waits = async || match first.summary().await?.in_flight {
        in_flight @ 2.. => Ok(in_flight),
        few => Err(format!("{few} in flight")),
    };
    let in_flight = wait_for(waits, SOON, "REGISTERs in flight").await;
    let killed = Instant::now();
    first.service.signal(Signal::SIGKILL);
    short.kamailio.resume();
    let look = async || {
        long.all_bound(&registry).await;
        short.all_bound(&registry).await;
        let all = holders.all();
        let (at, _) =
            all.iter().find(|(_, holder)| holder.as_deref() == Some("pod-b")).ok_or("not taken over")?;
        Ok::<_, &str>(*at - killed)
    };
    let took = wait_at_pace(Duration::from_millis(250), look, SOON, "pod-b to hold the Lease").await;
    println!("taken over {took:?} after SIGKILL, with {in_flight} REGISTERs in flight of 500 trunks");

    // It goes on: what is due is refreshed, once, and nothing else is sent.
    let refreshed = async || {
        assert_eq!(long.all_bound(&registry).await.len(), 460);
        let now = short.all_bound(&registry).await;
        let old = now.iter().filter(|(user, binding)| binding.cseq <= short_before[*user].cseq).count();
        if old == 0 {
            Ok(())
        } else {
            Err(format!("{old} not refreshed; {}", tail(&second.service.output())))
        }
    };
    wait_at_pace(Duration::from_millis(250), refreshed, SOON, "the short ones to be refreshed").await;
    let granted = granted_since(&short_counts, &short.counts().await);
    // None is due again before its 24 s are over.
    let rounds = 1 + (killed.elapsed().saturating_sub(took).as_secs() / 24);
    println!("all that were due are refreshed {:?} after SIGKILL", killed.elapsed());
    second.all_registered(500).await;
    assert_eq!(long.counts().await, long_counts, "registered again although it was valid");
    let cseqs = |bindings: &Bindings| bindings.values().map(|binding| binding.cseq).collect::<Vec<_>>();
    assert_eq!(cseqs(&long.all_bound(&registry).await), cseqs(&long_before));
    // Those in flight may have been granted to the one that was killed, which did not live to know.
    let twice = granted.values().filter(|times| **times > rounds).count() as u64;
    let few = granted.values().all(|times| *times <= rounds + 1) && twice <= in_flight;
    assert!(few, "{in_flight} in flight, {rounds} rounds, {granted:?}");
    let status = cluster.condition("main", "Ready", "True", "AllRegistered").await;
    assert_eq!(status["trunks"]["registered"], 500);
    ready.stayed_ready();
}

#[tokio::test]
async fn with_the_memory_store_all_are_registered_again_within_their_budget() {
    let place = Place::new("forgotten", 500).await;
    let (api, requester) =
        (Api::start(trunks(&place.users, &place.kamailio)).await, Requester::start().await);
    let cluster = Installation::with_short_terms("forgetful").await;
    let (mut first, second) = two(&cluster).await;
    let more = "  registration: { expires: 600s, ratePerRegistrar: 100 }\n";
    cluster.apply_manifest(&manifest(&api, &requester, "20s", more)).await;
    first.all_registered(500).await;
    let registry = identity(&cluster).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    let (ready, holders) = (readiness(&cluster, "main").await, holders(&cluster).await);
    let (before, counts) = (place.all_bound(&registry).await, place.counts().await);

    let killed = Instant::now();
    first.service.signal(Signal::SIGKILL);
    let took = holders.held_by("pod-b", killed).await;
    println!("taken over {took:?} after SIGKILL");
    let refreshed = async || {
        let now = place.all_bound(&registry).await;
        let old = now.iter().filter(|(user, binding)| binding.cseq <= before[*user].cseq).count();
        if old == 0 {
            Ok(())
        } else {
            Err(format!("{old} not registered again; {}", tail(&second.service.output())))
        }
    };
    wait_at_pace(Duration::from_millis(100), refreshed, SOON, "all to be registered again").await;
    // By the clocks of this machine, and from when the new leader asked for the Lease: what comes late makes
    // it longer.
    let lease = cluster.kubectl(&["get", "lease", RELEASE, "--output=json"]).await.json();
    let acquired: Timestamp = lease["spec"]["acquireTime"].as_str().unwrap().parse().unwrap();
    let again = Timestamp::now().duration_since(acquired);
    println!("500 registered again in {again:?} at 100 per second");
    // The budget is kept: the bucket holds half a second's worth.
    assert!(again >= SignedDuration::from_millis(4_400), "{again:?}");
    second.all_registered(500).await;
    let granted = granted_since(&counts, &place.counts().await);
    assert!(granted.values().all(|times| *times == 1), "{granted:?}");
    // Who remembers nothing says so, until it knows.
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    let reasons: BTreeSet<String> =
        ready.all().into_iter().filter_map(|(_, ready)| Some(ready?.reason)).collect();
    assert!(
        reasons.iter().all(|reason| ["AllRegistered", "Registering"].contains(&&**reason)),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn five_hand_overs_in_a_row_go_unnoticed() {
    // Refreshed after 468 s, and after 12 to 15 s, with as much to spare.
    let (long, short) = (Place::new("calm", 38).await, Place::granting("brisk", 12, 30).await);
    let list = [trunks(&long.users, &long.kamailio), trunks(&short.users, &short.kamailio)].concat();
    let (api, requester, redis) = (Api::start(list).await, Requester::start().await, redis().await);
    let cluster = Installation::shared("rounds").await;
    let (first, second) = two(&cluster).await;
    let more = format!(
        "  registration: {{ expires: 600s, ratePerRegistrar: unlimited }}\n  cache: {}\n",
        cache(&redis)
    );
    cluster.apply_manifest(&manifest(&api, &requester, "15s", &more)).await;
    first.all_registered(50).await;
    let registry = identity(&cluster).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    let (ready, holders) = (readiness(&cluster, "main").await, holders(&cluster).await);
    let (before, counts) = (long.all_bound(&registry).await, long.counts().await);
    let (began, short_counts) = (Instant::now(), short.counts().await);
    let events = cluster.events("main").await;

    let mut replicas = [("pod-a", first), ("pod-b", second)];
    for round in 1..=5 {
        let [(old, leader), (name, next)] = &mut replicas;
        let sent = Instant::now();
        leader.service.signal(Signal::SIGTERM);
        let took = holders.handed_to(name, sent).await;
        println!("round {round}: {name} leads {took:?} after the SIGTERM to {old}");
        assert_eq!(leader.service.exit(SOON).await.code(), Some(0), "{}", leader.service.output());
        leader.service.restart();
        next.all_registered(50).await;
        leader.answers(200, &format!("follows {name}, ready to take over")).await;
        long.all_bound(&registry).await;
        short.all_bound(&registry).await;
        replicas.reverse();
    }
    replicas[0].1.all_registered(50).await;
    assert_eq!(long.counts().await, counts, "registered again although it was valid");
    let cseqs = |bindings: &Bindings| bindings.values().map(|binding| binding.cseq).collect::<Vec<_>>();
    assert_eq!(cseqs(&long.all_bound(&registry).await), cseqs(&before));
    // Each was refreshed no more often than its 12 s allow, and may have been close to its turn at the begin.
    let granted = granted_since(&short_counts, &short.counts().await);
    let took = began.elapsed();
    let most = took.as_secs() / 12 + 1;
    assert!(granted.values().all(|times| *times <= most), "{most} in {took:?}: {granted:?}");
    ready.stayed_ready();
    assert_eq!(cluster.events("main").await, events, "an event without a reason");
}
