//! Trunks that cannot be registered, each for another reason.

use routr_registry::devstack::registrar::Behaviour;
use serde_json::json;

use super::{Case, Expected, SIX};
use crate::operator::harness::{Installation, TestRegistry};
use crate::operator::kube_client::KubeClient;

fn trunks(credentials: Expected, part: &'static str) -> Vec<Expected> {
    vec![
        ("Ready", "False", "TrunksFailing", part),
        ("Reconciling", "False", "TrunksUnhealthy", ""),
        ("Stalled", "False", "NotStalled", ""),
        ("RequesterReachable", "True", "Reachable", ""),
        credentials,
    ]
}

/// The registrar responds with this to a new trunk, until the trunk and its account are another's.
async fn refused(
    kube: &KubeClient,
    name: &'static str,
    title: &'static str,
    answer: Behaviour,
    expected: &[Expected],
) {
    let case = Case::new(kube, name, title, &["good"]).await;
    let told =
        if condition_of(expected, "CredentialsAccepted") == "False" { "TrunksRejected" } else { "NotReady" };
    let inject = async |stage: &mut TestRegistry| {
        stage.registrar.behave("bad", answer);
        stage.trunks(&["good", "bad"]);
    };
    let repair = async |stage: &mut TestRegistry| {
        stage.registrar.behave_as_others("bad");
        stage.trunks(&["good", "other"]);
    };
    case.run(inject, expected, repair, &[told, "Ready"]).await;
}

fn condition_of(expected: &[Expected], kind: &str) -> &'static str {
    expected.iter().find(|expected| expected.0 == kind).map_or("", |expected| expected.1)
}

fn code(code: u16, phrase: &str) -> Behaviour {
    Behaviour::Code { code, phrase: phrase.to_owned(), headers: Vec::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trunks_that_fail_are_told() {
    let cluster = Installation::shared("trunks").await;
    let kube = KubeClient::on(&cluster).await;
    let _operator = cluster.start("pod-a");
    let accepted = ("CredentialsAccepted", "True", "Accepted", "");
    let unknown = ("CredentialsAccepted", "False", "UnknownAccount", "bad (Trunk bad at 127.0.0.1");
    let failing = "1 of 2 trunks is not registered: bad (Trunk bad at 127.0.0.1";
    let unavailable = Behaviour::Unavailable { retry_after: None };
    let nobody = trunks(unknown, failing);
    // A 403 to a REGISTER that carried no credentials says nothing of them.
    let failed = trunks(accepted, failing);
    tokio::join!(
        refused(&kube, "answer-403", "the registrar answers 403", code(403, "Not You"), &failed),
        refused(&kube, "answer-404", "the registrar answers 404", code(404, "Nobody"), &nobody),
        refused(&kube, "answer-503", "the registrar answers 503", unavailable, &failed),
        refused(&kube, "silence", "the registrar is silent", Behaviour::Silence, &failed),
        wrong_password(&kube),
        malformed(&kube),
        at_risk(&kube),
        budget(&kube),
    );
}

async fn wrong_password(kube: &KubeClient) {
    let case = Case::new(kube, "password", "a trunk's password is wrong", &["good"]).await;
    let expected =
        trunks(("CredentialsAccepted", "False", "CredentialsRejected", "bad (Trunk bad"), "1 of 2 trunks");
    let inject = async |stage: &mut TestRegistry| {
        let trunk = stage.trunk("bad");
        stage.registrar.set_password("bad", "another");
        stage.api.set_trunks(vec![stage.trunk("good"), trunk]);
    };
    let repair = async |stage: &mut TestRegistry| {
        let mut trunk = stage.trunk("bad");
        stage.registrar.set_password("bad", "the-third");
        trunk.outbound_credentials.as_mut().unwrap().password = "the-third".to_owned();
        stage.api.set_trunks(vec![stage.trunk("good"), trunk]);
    };
    case.run(inject, &expected, repair, &["TrunksRejected", "Ready"]).await;
}

async fn malformed(kube: &KubeClient) {
    let case = Case::new(kube, "malformed", "a trunk is malformed", &["good"]).await;
    let expected = [
        ("Ready", "False", "InvalidTrunks", "1 of 2 trunks is not valid: bad"),
        ("Reconciling", "False", "TrunksUnhealthy", ""),
        ("Stalled", "False", "NotStalled", ""),
        ("CredentialsAccepted", "True", "Accepted", ""),
    ];
    let inject = async |stage: &mut TestRegistry| {
        let mut trunk = stage.trunk("bad");
        trunk.uris[0].port = 70_000;
        stage.api.set_trunks(vec![stage.trunk("good"), trunk]);
    };
    let repair = async |stage: &mut TestRegistry| stage.trunks(&["good", "bad"]);
    case.run(inject, &expected, repair, &["NotReady", "Ready"]).await;
}

async fn at_risk(kube: &KubeClient) {
    let case = Case::new(kube, "at-risk", "refreshes fail, bindings hold", &["a", "b"]).await;
    case.stage.registrar.behave_all(Behaviour::ClaimExpires(30));
    let expected = [
        ("Ready", "True", "TrunksAtRisk", "but the last refresh failed"),
        ("Stalled", "False", "NotStalled", ""),
        ("RequesterReachable", "True", "Reachable", ""),
    ];
    let inject = async |stage: &mut TestRegistry| {
        stage.registrar.behave_all(Behaviour::Unavailable { retry_after: None })
    };
    let repair = async |stage: &mut TestRegistry| stage.registrar.behave_all(Behaviour::Normal);
    case.run(inject, &expected, repair, &["Ready"]).await;
}

async fn budget(kube: &KubeClient) {
    let case = Case::new(kube, "budget", "the budget is too small", &SIX).await;
    case.stage.registrar.behave_all(Behaviour::ClaimExpires(30));
    let expected = [
        ("Ready", "True", "BudgetTooSmall", "127.0.0.1 are too many for spec.registration.ratePerRegistrar"),
        ("Stalled", "False", "NotStalled", ""),
    ];
    let inject = async |_: &mut TestRegistry| {
        kube.change("budget", json!({ "registration": { "ratePerRegistrar": "0.001" } })).await;
    };
    let repair = async |_: &mut TestRegistry| {
        kube.change("budget", json!({ "registration": { "ratePerRegistrar": 20 } })).await;
    };
    case.run(inject, &expected, repair, &["BudgetTooSmall"]).await;
}
