//! Electors on a small API server in memory, on paused time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, to_bytes},
    http::{Method, Request, Response, StatusCode},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::*;

/// Fate of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// Done, as usual.
    Done,
    /// Done, but the response never arrives.
    AnswerLost,
    /// It never arrives.
    Lost,
    /// The connection is refused.
    NoConnection,
    /// Refused with this status, and not done.
    Answer(StatusCode),
    /// Done, after this many milliseconds there and as many back.
    Slow(u64),
}

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    no_namespace: bool,
    /// Fates of the next requests of a method, in turn.
    planned: VecDeque<(Method, Fate)>,
    /// Fate of all requests of these methods.
    rule: Option<(Vec<Method>, Fate)>,
    log: Vec<Method>,
}

/// An API server that knows one Lease.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/voice/leases";

fn status(code: StatusCode, reason: &str, message: &str, kind: &str) -> (StatusCode, Value) {
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": message, "details": { "name": "routr-registry", "kind": kind } });
    (code, body)
}

impl State {
    fn fate(&mut self, method: &Method) -> Fate {
        self.log.push(method.clone());
        if let Some(at) = self.planned.iter().position(|(of, _)| of == method)
            && let Some((_, fate)) = self.planned.remove(at)
        {
            return fate;
        }
        match &self.rule {
            Some((methods, fate)) if methods.contains(method) => *fate,
            _ => Fate::Done,
        }
    }

    fn handle(&mut self, method: &Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let named = format!("{PATH}/routr-registry");
        match (method, &self.lease) {
            (&Method::GET, Some(lease)) if path == named => (StatusCode::OK, lease.clone()),
            (&Method::GET, None) if path == named => {
                status(StatusCode::NOT_FOUND, "NotFound", "leases \"routr-registry\" not found", "leases")
            }
            (&Method::POST, _) if self.no_namespace => {
                status(StatusCode::NOT_FOUND, "NotFound", "namespaces \"voice\" not found", "namespaces")
            }
            (&Method::POST, None) if path == PATH => {
                assert_eq!(body["metadata"]["name"], "routr-registry");
                (StatusCode::CREATED, self.store(body))
            }
            (&Method::POST, Some(_)) => {
                status(StatusCode::CONFLICT, "AlreadyExists", "it already exists", "leases")
            }
            (&Method::PUT, Some(lease)) if path == named => {
                let over = body["metadata"]["resourceVersion"].as_str().expect("a precondition");
                if lease["metadata"]["resourceVersion"] != over {
                    return status(
                        StatusCode::CONFLICT,
                        "Conflict",
                        "the object has been modified",
                        "leases",
                    );
                }
                (StatusCode::OK, self.store(body))
            }
            (&Method::PUT, None) => status(StatusCode::NOT_FOUND, "NotFound", "not found", "leases"),
            _ => panic!("unexpected request: {method} {path}"),
        }
    }

    fn store(&mut self, body: &Value) -> Value {
        self.version += 1;
        let mut lease = body.clone();
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease.insert(lease).clone()
    }
}

impl Fake {
    fn client(&self) -> Client {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let fake = fake.clone();
            async move { fake.answer(request).await }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Result<Response<Body>, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await.expect("a body");
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let fate = self.0.lock().unwrap().fate(&head.method);
        let way = if let Fate::Slow(millis) = fate { millis } else { 0 };
        sleep(Duration::from_millis(way)).await;
        let (fate, answer) = {
            let mut state = self.0.lock().unwrap();
            let answer = match fate {
                Fate::Done | Fate::AnswerLost | Fate::Slow(_) => {
                    Some(state.handle(&head.method, head.uri.path(), &body))
                }
                Fate::Answer(code) => Some(status(code, "", "so it was planned", "leases")),
                Fate::Lost | Fate::NoConnection => None,
            };
            (fate, answer)
        };
        sleep(Duration::from_millis(5 + way)).await;
        match (fate, answer) {
            (Fate::NoConnection, _) => Err(std::io::Error::other("connection refused")),
            (Fate::AnswerLost | Fate::Lost, _) | (_, None) => std::future::pending().await,
            (_, Some((code, body))) => {
                let response = Response::builder().status(code).header("content-type", "application/json");
                Ok(response.body(Body::from(body.to_string())).expect("a response"))
            }
        }
    }

    fn plan(&self, method: Method, fates: &[Fate]) {
        let planned = fates.iter().map(|fate| (method.clone(), *fate));
        self.0.lock().unwrap().planned.extend(planned);
    }

    /// Sets the rule from now on; `None`: all well again.
    fn rule(&self, rule: Option<(&[Method], Fate)>) {
        self.0.lock().unwrap().rule = rule.map(|(methods, fate)| (methods.to_vec(), fate));
    }

    fn spec(&self, field: &str) -> Value {
        self.0.lock().unwrap().lease.as_ref().map_or(Value::Null, |lease| lease["spec"][field].clone())
    }

    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let mut state = self.0.lock().unwrap();
        let mut lease = state.lease.clone().expect("a Lease");
        edit(&mut lease);
        state.store(&lease);
    }
}

struct Replica {
    elector: LeaderElector,
    standing: watch::Sender<LeadershipStatus>,
    shutdown: CancellationToken,
}

impl Replica {
    fn new(fake: &Fake, identity: &str) -> Self {
        let settings = LeaseSettings {
            namespace: "voice".into(),
            name: "routr-registry".into(),
            identity: identity.into(),
            duration: Duration::from_secs(10),
        };
        let elector = LeaderElector::new(fake.client(), &settings);
        Self { elector, standing: watch::Sender::default(), shutdown: CancellationToken::new() }
    }

    /// Fails when it does not lead within that time.
    async fn leads_within(&mut self, seconds: f64) -> Leadership {
        let term = self.elector.acquire(&self.shutdown, &self.standing);
        let term = timeout(Duration::from_secs_f64(seconds), term).await;
        term.expect("leads in time").expect("no shutdown")
    }

    /// Follows for that time.
    async fn follows_for(&mut self, seconds: f64) {
        let term = self.elector.acquire(&self.shutdown, &self.standing);
        let term = timeout(Duration::from_secs_f64(seconds), term).await;
        assert!(term.is_err(), "must not lead: {:?}", self.standing.borrow());
    }

    fn stands(&self) -> LeadershipStatus {
        self.standing.borrow().clone()
    }
}

const ALL: [Method; 3] = [Method::GET, Method::POST, Method::PUT];

async fn lost_within(term: &Leadership, seconds: f64) {
    timeout(Duration::from_secs_f64(seconds), term.lost.cancelled()).await.expect("lost in time");
    assert!(!term.fence().holds());
}

#[tokio::test(start_paused = true)]
async fn the_first_one_leads_at_once_and_goes_on() {
    let fake = Fake::default();
    let mut a = Replica::new(&fake, "registry-0");
    let term = a.leads_within(0.1).await;
    assert_eq!(a.stands(), LeadershipStatus::Leading);
    assert_eq!(fake.spec("holderIdentity"), a.elector.holder());
    assert!(a.elector.holder().starts_with("registry-0_"));
    assert_eq!(fake.spec("leaseDurationSeconds"), 10);
    let first = fake.spec("renewTime");
    sleep(Duration::from_secs(60)).await;
    assert!(term.fence().holds() && !term.lost.is_cancelled());
    assert_ne!(fake.spec("renewTime"), first);
    assert_eq!(fake.spec("leaseTransitions"), 0);
    let log = fake.0.lock().unwrap().log.clone();
    assert_eq!(log[..2], [Method::GET, Method::POST]);
    assert!(log[2..].iter().all(|method| *method == Method::PUT), "{log:?}");
    assert!((39..=41).contains(&(log.len() - 2)), "one renewal each 1.5 s: {}", log.len());
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_within_two_seconds() {
    let fake = Fake::default();
    let mut a = Replica::new(&fake, "registry-0");
    let mut b = Replica::new(&fake, "registry-1");
    let term = a.leads_within(0.1).await;
    b.follows_for(20.0).await;
    assert_eq!(b.stands(), LeadershipStatus::Following { leader: Some("registry-0".into()) });
    let (fence, lost) = (term.fence(), term.lost.clone());
    let waits = tokio::spawn(async move { b.leads_within(2.0).await });
    sleep(Duration::from_millis(300)).await;
    term.release().await;
    assert!(!fence.holds() && lost.is_cancelled());
    assert_eq!((fake.spec("holderIdentity"), fake.spec("leaseDurationSeconds")), (json!(""), json!(1)));
    let term = waits.await.expect("leads");
    assert!(term.fence().holds());
    assert_eq!(fake.spec("leaseTransitions"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_followed_when_its_time_is_over() {
    let fake = Fake::default();
    let mut a = Replica::new(&fake, "registry-0");
    let mut b = Replica::new(&fake, "registry-1");
    let term = a.leads_within(0.1).await;
    b.follows_for(5.0).await;
    drop(term);
    // The last renewal may have been seen just now, or nearly two seconds ago.
    b.follows_for(7.9).await;
    b.leads_within(3.2).await;
    // One that comes back under the same pod name is no exception.
    let mut again = Replica::new(&fake, "registry-1");
    again.follows_for(9.0).await;
}

#[tokio::test(start_paused = true)]
async fn who_cannot_renew_stops_three_seconds_before_another_could_start() {
    for fate in [Fate::Lost, Fate::AnswerLost, Fate::NoConnection, Fate::Answer(StatusCode::FORBIDDEN)] {
        let fake = Fake::default();
        let mut a = Replica::new(&fake, "registry-0");
        let term = a.leads_within(0.1).await;
        sleep(Duration::from_millis(20_900)).await;
        let before = Instant::now();
        // Written last 19.5 s after the begin.
        fake.rule(Some((&ALL, fate)));
        timeout(Duration::from_secs(7), term.lost.cancelled()).await.expect("lost");
        let kept = before.elapsed().as_secs_f64();
        assert!((5.55..=5.75).contains(&kept), "{fate:?}: {kept}");
        assert!(!term.fence().holds());
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_some_seconds_loses_nothing() {
    for fate in
        [Fate::Lost, Fate::AnswerLost, Fate::NoConnection, Fate::Answer(StatusCode::SERVICE_UNAVAILABLE)]
    {
        let fake = Fake::default();
        let mut a = Replica::new(&fake, "registry-0");
        let term = a.leads_within(0.1).await;
        for _ in 0..20 {
            fake.rule(Some((&ALL, fate)));
            sleep(Duration::from_millis(4500)).await;
            fake.rule(None);
            // Each time at another moment between two renewals.
            sleep(Duration::from_millis(4130)).await;
            assert!(term.fence().holds(), "{fate:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_is_lost_is_made_good() {
    let fake = Fake::default();
    fake.plan(Method::POST, &[Fate::AnswerLost]);
    let mut a = Replica::new(&fake, "registry-0");
    let term = a.leads_within(4.0).await;
    assert_eq!(fake.spec("leaseTransitions"), 0);
    // The same for a renewal: a conflict with itself is none.
    fake.plan(Method::PUT, &[Fate::AnswerLost]);
    sleep(Duration::from_secs(30)).await;
    assert!(term.fence().holds());
}

#[tokio::test(start_paused = true)]
async fn another_holder_ends_the_term_at_once() {
    let fake = Fake::default();
    let mut a = Replica::new(&fake, "registry-0");
    let term = a.leads_within(0.1).await;
    fake.edit(|lease| lease["spec"]["holderIdentity"] = json!("someone_else"));
    lost_within(&term, 2.1).await;
    // A release changes nothing that belongs to another.
    term.release().await;
    assert_eq!(fake.spec("holderIdentity"), "someone_else");
    // A note of a third party is neither a reason to stop nor lost.
    a.follows_for(9.9).await;
    let term = a.leads_within(1.2).await;
    fake.edit(|lease| lease["metadata"]["labels"] = json!({ "team": "voice" }));
    sleep(Duration::from_secs(20)).await;
    assert!(term.fence().holds());
    let state = fake.0.lock().unwrap();
    assert_eq!(state.lease.as_ref().unwrap()["metadata"]["labels"]["team"], "voice");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_comes_back_with_its_leader() {
    let fake = Fake::default();
    let mut a = Replica::new(&fake, "registry-0");
    let mut b = Replica::new(&fake, "registry-1");
    let term = a.leads_within(0.1).await;
    b.follows_for(3.5).await;
    fake.0.lock().unwrap().lease = None;
    b.follows_for(30.0).await;
    assert!(term.fence().holds());
    assert_eq!(fake.spec("holderIdentity"), a.elector.holder());
    drop(term);
    fake.0.lock().unwrap().lease = None;
    b.follows_for(9.9).await;
    b.leads_within(1.3).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_is_said_with_the_rule_that_is_missing() {
    let fake = Fake::default();
    let cases = [
        (Method::GET, "reading the Lease voice/routr-registry is forbidden", "verbs [get, update]"),
        (Method::POST, "creating the Lease voice/routr-registry is forbidden", "verbs [create], without"),
    ];
    for (method, does, rule) in cases {
        let mut a = Replica::new(&fake, "registry-0");
        fake.rule(Some((&[method], Fate::Answer(StatusCode::FORBIDDEN))));
        a.follows_for(1.5).await;
        assert_eq!(a.stands(), LeadershipStatus::Starting, "not at once");
        a.follows_for(5.0).await;
        let LeadershipStatus::LeaseUnavailable { problem } = a.stands() else { panic!("{:?}", a.stands()) };
        assert!(problem.starts_with(does) && problem.contains(rule), "{problem}");
        assert!(problem.contains("needs a Role in voice with: apiGroups [coordination.k8s.io]"), "{problem}");
        fake.rule(None);
    }
    let mut a = Replica::new(&fake, "registry-0");
    let term = a.leads_within(0.1).await;
    let mut b = Replica::new(&fake, "registry-1");
    fake.rule(Some((&[Method::PUT], Fate::Answer(StatusCode::FORBIDDEN))));
    b.follows_for(5.0).await;
    assert_eq!(b.stands(), LeadershipStatus::Following { leader: Some("registry-0".into()) });
    drop(term);
    b.follows_for(15.0).await;
    let LeadershipStatus::LeaseUnavailable { problem } = b.stands() else { panic!("{:?}", b.stands()) };
    assert!(problem.starts_with("updating the Lease"), "{problem}");
    fake.rule(None);
    b.leads_within(1.2).await;
    assert_eq!(b.stands(), LeadershipStatus::Leading);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_not_there_is_named() {
    let fake = Fake::default();
    fake.0.lock().unwrap().no_namespace = true;
    let mut a = Replica::new(&fake, "registry-0");
    a.follows_for(5.0).await;
    let problem = "there is no namespace voice to keep the Lease routr-registry in".to_owned();
    assert_eq!(a.stands(), LeadershipStatus::LeaseUnavailable { problem });
    fake.0.lock().unwrap().no_namespace = false;
    a.leads_within(1.2).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_silent_or_gone_makes_a_follower_blind() {
    let fake = Fake::default();
    let mut a = Replica::new(&fake, "registry-0");
    let _term = a.leads_within(0.1).await;
    let mut b = Replica::new(&fake, "registry-1");
    for (fate, says) in [
        (
            Fate::Lost,
            "no response to a request for the Lease voice/routr-registry within 3.5 s; a lease duration of 10 s leaves",
        ),
        (Fate::NoConnection, "cannot reach the Kubernetes API server: connection refused"),
        (
            Fate::Answer(StatusCode::SERVICE_UNAVAILABLE),
            "the Kubernetes API server responds 503: so it was planned",
        ),
        (Fate::Answer(StatusCode::UNAUTHORIZED), "the API server does not accept the credentials (401)"),
    ] {
        b.follows_for(1.5).await;
        assert_eq!(b.stands(), LeadershipStatus::Following { leader: Some("registry-0".into()) });
        fake.rule(Some((&[Method::GET], fate)));
        b.follows_for(8.0).await;
        let LeadershipStatus::LeaseUnavailable { problem } = b.stands() else { panic!("{:?}", b.stands()) };
        assert!(problem.starts_with(says), "{problem}");
        fake.rule(None);
    }
}

#[tokio::test(start_paused = true)]
async fn k4_requests_that_take_seconds_cost_no_term() {
    for way in [850, 1_000, 1_500, 1_700] {
        let fake = Fake::default();
        fake.rule(Some((&ALL, Fate::Slow(way))));
        let mut a = Replica::new(&fake, "registry-0");
        let term = a.leads_within(12.0).await;
        sleep(Duration::from_secs(120)).await;
        assert!(term.fence().holds(), "{way} ms each way");
        let mut b = Replica::new(&fake, "registry-1");
        b.follows_for(20.0).await;
        assert_eq!(b.stands(), LeadershipStatus::Following { leader: Some("registry-0".into()) });
        term.release().await;
        let term = b.leads_within(25.0).await;
        // Slower than any term allows: it says so, with the setting.
        fake.rule(Some((&ALL, Fate::Slow(4_000))));
        timeout(Duration::from_secs(10), term.lost.cancelled()).await.expect("lost");
        drop(term);
        b.follows_for(12.0).await;
        let LeadershipStatus::LeaseUnavailable { problem } = b.stands() else { panic!("{:?}", b.stands()) };
        assert!(problem.contains("within 3.5 s; a lease duration of 10 s leaves 3.5 s"), "{problem}");
        assert!(problem.contains("--lease-duration (operator.leaseDurationSeconds"), "{problem}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_waiting_and_leaves_no_claim_behind() {
    let fake = Fake::default();
    let mut a = Replica::new(&fake, "registry-0");
    let term = a.leads_within(0.1).await;
    let mut b = Replica::new(&fake, "registry-1");
    let shutdown = b.shutdown.clone();
    let waits = tokio::spawn(async move { b.elector.acquire(&b.shutdown, &b.standing).await.is_none() });
    sleep(Duration::from_secs(3)).await;
    shutdown.cancel();
    assert!(timeout(Duration::from_millis(10), waits).await.expect("at once").expect("ends"));
    term.release().await;

    // In the very moment in which it takes the Lease; the response arrives, or it does not.
    for fate in [Fate::Done, Fate::AnswerLost] {
        let mut c = Replica::new(&fake, "registry-2");
        fake.plan(Method::PUT, &[fate]);
        let (shutdown, holder) = (c.shutdown.clone(), c.elector.holder().to_owned());
        let waits = tokio::spawn(async move { c.elector.acquire(&c.shutdown, &c.standing).await.is_none() });
        while fake.spec("holderIdentity") != holder {
            sleep(Duration::from_millis(1)).await;
        }
        shutdown.cancel();
        assert!(timeout(Duration::from_secs(4), waits).await.expect("in time").expect("ends"));
        assert_eq!(fake.spec("holderIdentity"), "", "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_amid_a_renewal_and_one_that_fails() {
    let fake = Fake::default();
    let mut a = Replica::new(&fake, "registry-0");
    let term = a.leads_within(0.1).await;
    // The renewal is done, its response is under way for ever: the release meets a conflict and looks again.
    fake.plan(Method::PUT, &[Fate::AnswerLost]);
    sleep(Duration::from_millis(2500)).await;
    term.release().await;
    assert_eq!(fake.spec("holderIdentity"), "");

    let term = a.leads_within(0.1).await;
    fake.rule(Some((&ALL, Fate::Lost)));
    timeout(Duration::from_millis(1100), term.release()).await.expect("bounded");
    assert_eq!(fake.spec("holderIdentity"), a.elector.holder());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_knows_before_its_timers_do() {
    let fake = Fake::default();
    let mut a = Replica::new(&fake, "registry-0");
    let term = a.leads_within(0.1).await;
    let fence = term.fence();
    // No task runs meanwhile: neither the one that renews nor the one that would say that the term is lost.
    tokio::time::advance(Duration::from_secs(7)).await;
    let lost = term.lost.is_cancelled();
    assert!(!fence.holds(), "lost was said: {lost}");
    lost_within(&term, 0.1).await;
}
