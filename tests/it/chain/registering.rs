//! Registering, deregistering, and what a registrar refuses.

use routr_registration::registration::state::TrunkState;
use routr_registry::proto::trunks::Trunk;

use super::harness::{
    Api, Registry, Requester, SOON, Settings, credentials, kamailio, kamailio_with, password, redis, trunk,
    trunks, users,
};
use super::observe::{all_refreshed, assert_discreet, one_contact_each_soon};
use crate::support::kamailio::{Algorithm, Challenge, Counts, Kamailio, Options, User};
use crate::support::wait::wait_for;

#[tokio::test]
async fn every_kind_of_digest_over_udp_and_tcp() {
    let kinds = [
        Options::default(),
        Options { qop: false, ..Options::default() },
        Options { algorithm: Algorithm::Sha256, ..Options::default() },
        Options { challenge: Challenge::Proxy407, strict: true, ..Options::default() },
    ];
    let (mut kamailios, mut everybody, mut list) = (Vec::new(), Vec::new(), Vec::new());
    for (number, options) in kinds.into_iter().enumerate() {
        let accounts = users(&format!("kind{number}-"), 4);
        let kamailio = kamailio_with(&accounts, options).await;
        list.extend(trunks(&accounts, &kamailio));
        everybody.extend(accounts.clone());
        kamailios.push((kamailio, accounts));
    }
    let (api, requester) = (Api::start(list).await, Requester::start().await);
    let registry = Registry::start(&Settings::default(), &api, &requester);

    registry.all_registered(everybody.len(), SOON).await;
    let shown = registry.trunks().await.unwrap();
    for (kamailio, accounts) in &kamailios {
        let bindings = one_contact_each_soon(kamailio, accounts, &registry, SOON).await;
        for (number, user) in accounts.iter().enumerate() {
            let (binding, shown) = (&bindings[user], &shown[&format!("trunk-{user}")]);
            assert_eq!(shown.call_id, binding.call_id);
            assert_eq!(u64::from(shown.cseq), binding.cseq);
            assert_eq!(shown.aor, binding.aor);
            // Of the 60 s that were asked for: the registrar's own wish is 600.
            assert!((1..=60).contains(&binding.expires_s), "{binding:?}");
            assert!(binding.contact.starts_with(&format!("sip:{user}@198.51.100.7:5060")), "{binding:?}");
            assert_eq!(binding.user_agent, "Routr Connect v2");
            let transport = if number % 2 == 0 { "udp" } else { "tcp" };
            assert_eq!(binding.socket, format!("{transport}:127.0.0.1:{}", kamailio.udp_port()));
        }
    }
    assert_discreet(&[&registry], &requester, None, &everybody).await;
}

#[tokio::test]
async fn too_short_an_expiry_and_wrong_passwords() {
    let good = users("good", 3);
    let mut accounts: Vec<User> = good.iter().map(|user| User::new(user, password(user))).collect();
    accounts.push(User::new("patient", password("patient")).min_expires(25));
    accounts.push(User::new("wrong", password("wrong")));
    let kamailio = Kamailio::start(Options::with_users(accounts)).await;
    let patient = trunk("patient", &kamailio, "UDP");
    let mut list = trunks(&good, &kamailio);
    let mut wrong = trunk("wrong", &kamailio, "UDP");
    wrong.outbound_credentials = Some(credentials("wrong", &password("somebody else")));
    list.push(wrong.clone());
    let (api, requester) = (Api::start(list.clone()).await, Requester::start().await);
    let registry = Registry::start(&Settings { expires: 12, ..Settings::default() }, &api, &requester);

    let before = one_contact_each_soon(&kamailio, &good, &registry, SOON).await;
    let rejected = async || {
        let trunk = registry.trunk("wrong").await?;
        let trouble = trunk.failure.clone().ok_or("no trouble yet")?;
        assert_eq!((trunk.state, trouble.reason.as_str()), (TrunkState::Failing, "CredentialsRejected"));
        Ok::<_, String>(trunk)
    };
    let rejected = wait_for(rejected, SOON, "the wrong password to be reported").await;
    let wait_s = rejected.next_at_ms.unwrap().abs_diff(rejected.failure.unwrap().since_ms) / 1_000;
    assert!((300..=330).contains(&wait_s), "the next try comes after {wait_s} s");

    // The good ones go on meanwhile, and nothing more is heard of the wrong one.
    all_refreshed(&kamailio, &before, &registry, SOON).await;
    let once = Counts { received: 2, challenged: 2, saved: 0 };
    assert_eq!(kamailio.register_counts().await["wrong"], once);

    // One that wants more than was asked: 423, then what it wants, which is remembered for the registrar.
    list.push(patient);
    api.set_trunks(list.clone());
    let probe = async || kamailio.bindings_of("patient@127.0.0.1").await.pop().ok_or("no binding");
    let binding = wait_for(probe, SOON, "the one that wants more time to be registered").await;
    // More than the 12 s that were asked for first.
    assert!((13..=25).contains(&binding.expires_s), "{binding:?}");
    assert_eq!(binding.call_id, registry.call_id("patient"));
    let counts = kamailio.register_counts().await["patient"];
    assert_eq!(counts, Counts { received: 3, challenged: 1, saved: 1 }, "one 423, one success");

    // The right password is tried at once.
    list[good.len()].outbound_credentials = Some(credentials("wrong", &password("wrong")));
    api.set_trunks(list);
    registry.all_registered(good.len() + 2, SOON).await;
    let everybody: Vec<String> = good.into_iter().chain(["patient", "wrong"].map(str::to_owned)).collect();
    one_contact_each_soon(&kamailio, &everybody, &registry, SOON).await;
    assert_eq!(kamailio.register_counts().await["wrong"], Counts { received: 4, challenged: 3, saved: 1 });
    assert_discreet(&[&registry], &requester, None, &[everybody, vec!["somebody else".to_owned()]].concat())
        .await;
}

#[tokio::test]
async fn what_is_removed_switched_off_or_renamed_leaves_the_registrar() {
    let all = users("user", 6);
    let renamed = "renamed".to_owned();
    let kamailio = kamailio(&[all.clone(), vec![renamed.clone()]].concat()).await;
    let mut list = trunks(&all, &kamailio);
    let (api, requester) = (Api::start(list.clone()).await, Requester::start().await);
    let registry = Registry::start(&Settings::default(), &api, &requester);
    let before = one_contact_each_soon(&kamailio, &all, &registry, SOON).await;
    let counts = kamailio.register_counts().await;

    // 0 disappears, 1 is switched off, 2 has its only URI disabled, 3 is another user from now on; 4 and 5
    // stay.
    list[1].send_register = false;
    list[2].uris[0].enabled = false;
    list[3].uris[0].user = renamed.clone();
    list[3].outbound_credentials = Some(credentials(&renamed, &password(&renamed)));
    list.remove(0);
    api.set_trunks(list);

    let stay: Vec<String> = all[4..].to_vec();
    let left = async || {
        let bindings = kamailio.bindings().await;
        let aors: Vec<&str> = bindings.iter().map(|binding| &*binding.aor).collect();
        if aors == ["renamed@127.0.0.1", "user4@127.0.0.1", "user5@127.0.0.1"] {
            Ok(bindings)
        } else {
            Err(format!("{aors:?}"))
        }
    };
    let bindings = wait_for(left, SOON, "three bindings to be removed and one to be made").await;
    assert_eq!(
        bindings[0].call_id,
        routr_registration::registration::identity::RegistryId::new("chain").call_id(
            "trunk-user3",
            "127.0.0.1",
            "renamed",
        )
    );
    let now = kamailio.register_counts().await;
    for user in &stay {
        let binding = bindings.iter().find(|binding| binding.aor.starts_with(user.as_str())).unwrap();
        assert_eq!(binding.cseq, before[user].cseq);
        assert_eq!(now[user], counts[user], "{user} was touched");
    }
    // The removal was one REGISTER, with the nonce of before.
    for user in &all[..4] {
        assert_eq!(now[user].received, counts[user].received + 1, "{user}");
        assert_eq!(now[user].saved, counts[user].saved + 1, "{user}");
    }
    // What has left is forgotten; the disabled one is shown with the reason.
    let shown = async || {
        let states: Vec<(String, TrunkState)> =
            registry.trunks().await?.into_values().map(|trunk| (trunk.reference, trunk.state)).collect();
        let expected = [
            ("trunk-user2", TrunkState::Invalid),
            ("trunk-user3", TrunkState::Registered),
            ("trunk-user4", TrunkState::Registered),
            ("trunk-user5", TrunkState::Registered),
        ]
        .map(|(reference, state)| (reference.to_owned(), state));
        if states == expected { Ok(()) } else { Err(format!("{states:?}")) }
    };
    wait_for(shown, SOON, "what has left to be forgotten").await;
    assert_discreet(&[&registry], &requester, None, &all).await;
}

#[tokio::test]
async fn two_registries_with_the_same_accounts_and_one_redis() {
    let accounts = users("shared", 10);
    let kamailio = kamailio(&accounts).await;
    let redis = redis().await;
    let list: Vec<Trunk> = trunks(&accounts, &kamailio);
    let (api_a, api_b) = (Api::start(list.clone()).await, Api::start(list.clone()).await);
    let requester = Requester::start().await;
    // Different EdgePorts: Kamailio distinguishes bindings by their Contacts.
    let settings = |instance, edge_port| {
        Settings { instance, edge_port, expires: 600, ..Settings::default() }.redis(&redis)
    };
    let mut a = Registry::start(&settings("first", "198.51.100.1:5060"), &api_a, &requester);
    let b = Registry::start(&settings("second", "198.51.100.2:5060"), &api_b, &requester);
    a.all_registered(accounts.len(), SOON).await;
    b.all_registered(accounts.len(), SOON).await;
    for user in &accounts {
        let bindings = kamailio.bindings_of(&format!("{user}@127.0.0.1")).await;
        let mut call_ids: Vec<&str> = bindings.iter().map(|binding| &*binding.call_id).collect();
        call_ids.sort_unstable();
        let (one, other) = (a.call_id(user), b.call_id(user));
        assert_ne!(one, other);
        let mut expected = [one.as_str(), other.as_str()];
        expected.sort_unstable();
        assert_eq!(call_ids, expected, "{bindings:?}");
    }

    // One of them starts again, and finds its own state.
    let received = async || -> u64 { kamailio.register_counts().await.values().map(|c| c.received).sum() };
    let before = (received().await, a.trunks().await.unwrap());
    a.kill().await;
    a.restart();
    a.all_registered(accounts.len(), SOON).await;
    let after = (received().await, a.trunks().await.unwrap());
    assert_eq!(before.0, after.0, "registered again");
    for (reference, trunk) in &before.1 {
        assert_eq!(trunk.cseq, after.1[reference].cseq);
        assert!(trunk.expires_at_ms.unwrap().abs_diff(after.1[reference].expires_at_ms.unwrap()) < 1_500);
    }

    // What leaves one registry stays with the other.
    api_a.set_trunks(list[..4].to_vec());
    let gone = async || {
        let bindings = kamailio.bindings().await;
        if bindings.len() == accounts.len() + 4 { Ok(bindings) } else { Err(format!("{}", bindings.len())) }
    };
    let bindings = wait_for(gone, SOON, "six bindings of the first registry to be removed").await;
    for user in &accounts {
        assert!(bindings.iter().any(|binding| binding.call_id == b.call_id(user)), "{user} was removed");
    }
    let kept = redis.dump().await;
    assert!(kept.contains("{first}") && kept.contains("{second}"), "{kept}");
    assert_discreet(&[&a, &b], &requester, Some(&redis), &accounts).await;
}
