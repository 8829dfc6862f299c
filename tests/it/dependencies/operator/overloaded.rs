//! 429, 503 and 504 from the API server, with and without `Retry-After`.

use super::kube_proxy::{Fault, KubeProxy};
use super::{lines, plain, start_by};
use crate::operator::harness::TestRegistry;
use crate::support::installation::{Installation, PACE, SOON};
use crate::support::wait::wait_at_pace;

/// More than any test waits. Were it obeyed, or kube's own retries at work, nothing here would come in time;
/// the pauses of our own are some seconds.
const RETRY_AFTER: &str = "900";

#[tokio::test]
async fn k1_errors_at_the_start_are_said_and_engines_run_within_seconds_of_their_end() {
    let stage = TestRegistry::with(&["alice", "bob"]).await;
    let cluster = Installation::shared("overloaded").await;
    let proxy = KubeProxy::start(cluster.plane).await;
    cluster.apply("main", &stage, "").await;
    let mut turn = 0;
    proxy.rule(move |seen| {
        turn += usize::from(!seen.path.contains("/leases"));
        let faults = [
            Fault::Status(429, Some(RETRY_AFTER)),
            Fault::Status(503, None),
            Fault::Status(504, None),
            Fault::Status(429, Some("1")),
        ];
        (!seen.path.contains("/leases")).then(|| faults[turn % faults.len()].clone())
    });
    let operator = start_by(&cluster, &proxy, "pod-a").await;
    let answers = async |code: u16, parts: &[&str]| {
        let look = async || match operator.public("/readyz").await? {
            (status, body) if status == code && parts.iter().all(|part| body.contains(part)) => Ok(body),
            (status, body) => Err(format!("{status}: {body}")),
        };
        wait_at_pace(PACE, look, SOON, &format!("{code} {parts:?}")).await
    };
    let body =
        answers(503, &["watch ", "failed", "cannot list Registries", "which are no Status of Kubernetes"])
            .await;
    plain(&body);
    // Four lists, each refused.
    let lists =
        || proxy.seen().iter().filter(|seen| seen.path.ends_with("/registries") && !seen.watch).count();
    let look = async || if lists() >= 4 { Ok(()) } else { Err(format!("{} lists", lists())) };
    wait_at_pace(PACE, look, SOON, "the list to be tried again and again").await;
    let failing = lines(&operator, "cannot list Registries");
    assert!((1..=4).contains(&failing.len()), "{failing:#?}");
    proxy.rule(|_| None);
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    answers(200, &["watch ", "are listed and watched", "running: 1"]).await;
    assert_eq!(lines(&operator, "can be listed").len(), 1, "{}", operator.service.output());

    // One request of a deletion is refused.
    let mut left = 2;
    proxy.rule(move |seen| {
        let refuse = seen.method == "PATCH" && seen.path.ends_with("/registries/main") && left > 0;
        left -= usize::from(refuse);
        refuse.then_some(Fault::Status(429, Some(RETRY_AFTER)))
    });
    cluster.kubectl(&["delete", "registry", "main", "--timeout=120s"]).await.ok();
    let refused = proxy.seen().iter().filter(|seen| seen.fault.is_some() && seen.method == "PATCH").count();
    assert!(refused > 0, "nothing was refused");
    let said = lines(&operator, "requests to the Kubernetes API server fail");
    assert!(!said.is_empty(), "{}", operator.service.output());
    assert!(said[0]["error"].as_str().unwrap().contains("429"), "{said:#?}");
    plain(&operator.service.output());
}

#[tokio::test]
async fn k1_45_seconds_of_errors_at_the_start_are_outlived_and_what_it_waits_for_is_said_every_20_seconds() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::shared("outage").await;
    let proxy = KubeProxy::start(cluster.plane).await;
    cluster.apply("main", &stage, "").await;
    let mut turn = 0;
    // Leases too.
    proxy.rule(move |_| {
        turn += 1;
        Some(Fault::Status(if turn % 2 == 0 { 503 } else { 429 }, None))
    });
    let operator = start_by(&cluster, &proxy, "pod-a").await;
    let waits = async || {
        let lines = lines(&operator, "none of them runs until that succeeds");
        let failing = lines.iter().filter_map(|line| line["failing_s"].as_u64()).max();
        if failing >= Some(38) { Ok(lines.len()) } else { Err(format!("{lines:?}")) }
    };
    let said = wait_at_pace(PACE, waits, SOON, "a line after 40 s of errors").await;
    // Each 10 s where the errors take turns.
    assert!((3..=12).contains(&said), "{said} lines");
    let (code, body) = operator.public("/readyz").await.unwrap();
    assert_eq!(code, 503);
    assert!(body.contains("cannot list Registries"), "{body}");
    proxy.rule(|_| None);
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    assert_eq!(lines(&operator, "can be listed").len(), 1, "{}", operator.service.output());
}

#[tokio::test]
async fn k9_every_request_names_the_program_and_no_text_has_rust_in_it() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::shared("agent").await;
    let proxy = KubeProxy::start(cluster.plane).await;
    // Each status is refused for a reason of its own.
    proxy.rule(|seen| seen.path.ends_with("/status").then_some(Fault::Status(418, None)));
    let operator = start_by(&cluster, &proxy, "pod-a").await;
    cluster.apply("main", &stage, "").await;
    let look = async || {
        let found = lines(&operator, "cannot write the status");
        if found.is_empty() { Err(operator.service.output()) } else { Ok(found) }
    };
    let found = wait_at_pace(PACE, look, SOON, "the refusal to be said").await;
    let error = found[0]["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("the Kubernetes API server responds 418"), "{error}");
    assert!(error.contains("29 bytes of no known type") && !error.contains("refused with"), "{error}");
    proxy.rule(|_| None);
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    let agent = concat!("routr-registry/", env!("CARGO_PKG_VERSION"));
    let seen = proxy.seen();
    for part in ["/leases", "/registries", "/status", "/events"] {
        assert!(seen.iter().any(|request| request.path.contains(part)), "no request for {part}");
    }
    for request in seen {
        assert_eq!(request.agent, agent, "{request:?}");
    }
    plain(&operator.service.output());
}

#[tokio::test]
async fn k1_a_request_without_a_response_is_given_up_said_and_sent_again() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::shared("silent").await;
    let proxy = KubeProxy::start(cluster.plane).await;
    let mut left = 1;
    proxy.rule(move |seen| {
        let silent = left > 0 && seen.path.ends_with("/status");
        left -= usize::from(silent);
        silent.then_some(Fault::Silence)
    });
    let operator = start_by(&cluster, &proxy, "pod-a").await;
    cluster.apply("main", &stage, "").await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    let said = lines(&operator, "requests to the Kubernetes API server fail");
    assert_eq!(said.len(), 1, "{}", operator.service.output());
    let error = said[0]["error"].as_str().unwrap();
    assert_eq!(error, "cannot reach the Kubernetes API server: no complete response within 10 s");
}
