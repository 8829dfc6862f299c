//! `suspend: true` sends nothing and keeps bindings.

use std::time::Duration;

use routr_registry::devstack::registrar::Behaviour;
use serde_json::json;

use super::harness::{Installation, SOON, TestRegistry, condition};
use super::kube_client::{KubeClient, brief, message, spec, spec_with, starts};
use super::table;
use crate::support::wait::wait_for;

#[tokio::test]
async fn a_suspended_registry_sends_nothing_until_it_goes_on_where_it_was() {
    let stage = TestRegistry::with(&["early", "late"]).await;
    // Refreshes are due after 5 to 6 s, and after some minutes; the registrar itself keeps both for ten
    // minutes.
    stage.registrar.behave("early", Behaviour::ClaimExpires(10));
    let cluster = Installation::shared("suspend").await;
    let kube = KubeClient::on(&cluster).await;
    let operator = cluster.start("pod-a");
    kube.create("main", spec(&stage)).await;
    kube.create("born-suspended", spec_with(&stage, json!({ "suspend": true }))).await;
    kube.conditions("main", &[("Ready", "True", "AllRegistered")]).await;

    kube.follows("main", json!({ "suspend": true })).await;
    let sent = stage.registrar.log().len();
    let status = kube.conditions("main", &[("Ready", "False", "Suspended")]).await;
    assert!(message(&status, "Ready").contains("spec.suspend is true"), "{}", brief(&status));
    assert_eq!(condition(&status, "Reconciling")["status"], "False", "waiting is pointless");
    assert_eq!(condition(&status, "Stalled")["status"], "False");
    assert_eq!(status["trunks"]["total"], 2, "counts are shown: {}", brief(&status));
    table::row("spec.suspend is true", &status);

    // Long past the refresh and the expiry of the early one.
    let began = stage.registrar.elapsed();
    let passes = async || match stage.registrar.elapsed() - began {
        passed if passed > Duration::from_secs(13) => Ok(()),
        passed => Err(format!("{passed:?}")),
    };
    wait_for(passes, SOON, "thirteen seconds to pass").await;
    assert_eq!(stage.registrar.log().len(), sent, "nothing is sent, neither to refresh nor to remove");
    assert!(stage.registrar.bindings().values().all(|bindings| bindings.len() == 1), "bindings stay");
    let expired = |status: &serde_json::Value| {
        let trunks = &status["trunks"];
        trunks["registered"] == 1 && trunks["total"] == 2
    };
    let status = kube.status("main", "what expired to be counted", expired).await;
    assert!(message(&status, "Ready").contains("1 of 2 trunks still has one"), "{}", brief(&status));

    // On it goes, with what is most overdue; what is not due waits for its time.
    kube.follows("main", json!({ "suspend": false })).await;
    kube.conditions("main", &[("Ready", "True", "AllRegistered")]).await;
    let later = stage.registrar.log().split_off(sent);
    assert!(!later.is_empty() && later.iter().all(|seen| seen.user == "early"), "{later:?}");
    let first = stage.registrar.log().into_iter().find(|seen| seen.user == "early").unwrap();
    assert!(later.iter().all(|seen| seen.call_id == first.call_id && seen.cseq > first.cseq));
    let reasons: Vec<String> = kube.events("main").await.into_iter().map(|event| event.0).collect();
    assert!(["Suspended", "Resumed"].iter().all(|reason| reasons.iter().any(|r| r == reason)), "{reasons:?}");
    assert_eq!(starts(&operator.service), 1, "one engine from start to end, and none for the other one");

    // The other one never said a word, and says none when it is deleted.
    let status = kube.now("born-suspended").await;
    assert_eq!(condition(&status, "Ready")["reason"], "Suspended", "{}", brief(&status));
    assert_eq!(status["trunks"]["total"], 2, "{}", brief(&status));
    assert!(stage.registrar.log().iter().all(|seen| seen.call_id == first.call_id || seen.user == "late"));
    let late: Vec<_> = stage.registrar.log().into_iter().filter(|seen| seen.user == "late").collect();
    assert!(late.iter().all(|seen| seen.call_id == late[0].call_id), "{late:?}");
    kube.delete("born-suspended").await;
    kube.gone("born-suspended").await;
    kube.follows("main", json!({ "suspend": true })).await;
    kube.delete("main").await;
    kube.gone("main").await;
    assert!(stage.registrar.log().iter().all(|seen| seen.expires != Some(0)), "nothing was de-registered");
}

#[tokio::test]
async fn a_registry_suspended_from_the_beginning_has_no_engine_until_it_resumes() {
    let stage = TestRegistry::with(&["a", "b"]).await;
    let cluster = Installation::shared("resting").await;
    let kube = KubeClient::on(&cluster).await;
    let mut operator = cluster.start("pod-a");
    kube.create("main", spec_with(&stage, json!({ "suspend": true }))).await;
    kube.status("main", "its trunks to be counted", |status| status["trunks"]["total"] == 2).await;
    kube.conditions("main", &[("Ready", "False", "Suspended"), ("APIReachable", "True", "Reachable")]).await;
    assert_eq!((starts(&operator.service), stage.registrar.log().len()), (0, 0), "nothing runs or is sent");

    kube.follows("main", json!({ "suspend": false })).await;
    kube.conditions("main", &[("Ready", "True", "AllRegistered")]).await;
    kube.follows("main", json!({ "suspend": true })).await;
    kube.conditions("main", &[("Ready", "False", "Suspended")]).await;
    assert_eq!(starts(&operator.service), 1, "an engine that ran is paused, and knows its bindings");
    let sent = stage.registrar.log().len();

    // The next leader needs none.
    operator.service.terminate(SOON).await;
    stage.trunks(&["a", "b", "c"]);
    let next = cluster.start("pod-b");
    kube.status("main", "its trunks to be counted again", |status| status["trunks"]["total"] == 3).await;
    kube.conditions("main", &[("Ready", "False", "Suspended")]).await;
    assert_eq!((starts(&next.service), stage.registrar.log().len()), (0, sent));
}

#[tokio::test]
async fn what_is_most_overdue_goes_first() {
    let refs = ["t0", "t1", "t2", "t3", "t4", "t5"];
    let stage = TestRegistry::with(&refs).await;
    // Against the order of their names.
    for (n, user) in refs.iter().enumerate() {
        stage.registrar.behave(user, Behaviour::ClaimExpires(24 - 3 * n as i64));
    }
    let cluster = Installation::shared("overdue").await;
    let kube = KubeClient::on(&cluster).await;
    let _operator = cluster.start("pod-a");
    kube.create("main", spec(&stage)).await;
    kube.conditions("main", &[("Ready", "True", "AllRegistered")]).await;
    kube.follows("main", json!({ "suspend": true, "registration": { "ratePerRegistrar": 1 } })).await;
    let sent = stage.registrar.log().len();
    let all_expired = |status: &serde_json::Value| status["trunks"]["registered"] == 0;
    kube.status("main", "all bindings to have expired", all_expired).await;
    assert_eq!(stage.registrar.log().len(), sent);
    kube.change("main", json!({ "suspend": false })).await;
    kube.conditions("main", &[("Ready", "True", "AllRegistered")]).await;
    let mut order: Vec<String> = Vec::new();
    for seen in stage.registrar.log().split_off(sent) {
        if !order.contains(&seen.user) {
            order.push(seen.user);
        }
    }
    // By when each binding expired: on a busy machine some are refreshed once more before the suspension.
    let registered = &stage.registrar.log()[..sent];
    let expired = |user: &&str| {
        let last = registered
            .iter()
            .rev()
            .find(|seen| seen.user == *user && seen.authorised)
            .expect("it registered");
        let n = refs.iter().position(|name| name == user).expect("one of them");
        last.at + Duration::from_secs(24 - 3 * n as u64)
    };
    // What arrives within a second may have been sent in another order.
    let expiries: Vec<Duration> = order.iter().map(|user| expired(&user.as_str())).collect();
    let in_order = expiries.windows(2).all(|pair| pair[0] <= pair[1] + Duration::from_secs(1));
    assert!(in_order && order.len() == refs.len(), "{order:?} had expired at {expiries:?}");
}
