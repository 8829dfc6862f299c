//! What the conditions say of each fault, and that they go back.

use std::time::Duration;

use jiff::Timestamp;
use routr_registry::devstack::api::{Fault, Rpc};
use routr_registry::devstack::registrar::Behaviour;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tonic::Code;

use super::eyes::{Eyes, brief, message, since, spec, spec_with};
use super::stage::{Installation, Stage, condition};
use super::table;
use crate::standalone::stage::listen;
use crate::support::redis::{Options, Redis};
use crate::support::wait::wait_for;

const CONDITIONS: [&str; 7] = [
    "Ready",
    "Reconciling",
    "Stalled",
    "APIReachable",
    "RequesterReachable",
    "CacheReachable",
    "CredentialsAccepted",
];
/// So many calls in a row that fail are no single trunk's fault.
const SIX: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Type, status, reason, and a part of the message.
type Expected = (&'static str, &'static str, &'static str, &'static str);

/// One fault of a Registry that was ready before.
struct Case<'a> {
    eyes: &'a Eyes,
    name: &'static str,
    /// As the table names it.
    title: &'static str,
    stage: Stage,
    spec: Value,
}

impl<'a> Case<'a> {
    async fn new(eyes: &'a Eyes, name: &'static str, title: &'static str, refs: &[&str]) -> Self {
        let stage = Stage::with(refs).await;
        Self { eyes, name, title, spec: spec(&stage), stage }
    }

    fn with(self, more: Value) -> Self {
        Self { spec: spec_with(&self.stage, more), ..self }
    }

    /// Becomes ready, breaks, says `expected`, goes on saying it, is mended, and is as it was.
    async fn run(
        mut self,
        inject: impl AsyncFnOnce(&mut Stage),
        expected: &[Expected],
        mend: impl AsyncFnOnce(&mut Stage),
        events: &[&str],
    ) {
        let (eyes, name) = (self.eyes, self.name);
        eyes.create(name, self.spec.clone()).await;
        let before = eyes.conditions(name, &[("Ready", "True", "AllRegistered")]).await;
        let began = Timestamp::now();
        inject(&mut self.stage).await;
        let found = self.says(expected).await;
        table::row(self.title, &found);
        for kind in CONDITIONS {
            let (was, is) = (condition(&before, kind), condition(&found, kind));
            if was["status"] == is["status"] {
                assert_eq!(was["lastTransitionTime"], is["lastTransitionTime"], "{name}: {kind}");
            } else {
                let at = since(&found, kind).as_second();
                let possible = began.as_second() - 1..=Timestamp::now().as_second();
                assert!(possible.contains(&at), "{name}: {kind} since {at}, but {possible:?}");
            }
        }
        stays(eyes, name, &found).await;
        mend(&mut self.stage).await;
        let again: Vec<(&str, String, String)> = CONDITIONS
            .into_iter()
            .map(|kind| {
                let was = condition(&before, kind);
                let text = |key: &str| was[key].as_str().unwrap().to_owned();
                (kind, text("status"), text("reason"))
            })
            .collect();
        let again: Vec<(&str, &str, &str)> = again.iter().map(|(k, s, r)| (*k, &**s, &**r)).collect();
        let mended = eyes.conditions(name, &again).await;
        for kind in CONDITIONS {
            let (was, is) = (condition(&found, kind), condition(&mended, kind));
            if was["status"] != is["status"] {
                assert!(since(&mended, kind) >= since(&found, kind), "{name}: {kind}");
                assert!(since(&mended, kind).as_second() >= began.as_second(), "{name}: {kind}");
            }
        }
        for reason in events {
            eyes.event(name, reason).await;
        }
        println!("{name}: {:?}", eyes.events(name).await);
    }

    async fn says(&self, expected: &[Expected]) -> Value {
        let plain: Vec<(&str, &str, &str)> = expected.iter().map(|(k, s, r, _)| (*k, *s, *r)).collect();
        let status = self.eyes.conditions(self.name, &plain).await;
        for (kind, _, _, part) in expected {
            assert!(
                message(&status, kind).contains(part),
                "{}: {kind}, {part}:\n{}",
                self.name,
                brief(&status)
            );
        }
        status
    }
}

/// While nothing changes, no condition gets another time.
async fn stays(eyes: &Eyes, name: &str, found: &Value) {
    let until = Timestamp::now() + Duration::from_secs(4);
    let look = async || {
        let now = eyes.now(name).await;
        for kind in CONDITIONS {
            let (was, is) = (condition(found, kind), condition(&now, kind));
            if was["status"] == is["status"] {
                assert_eq!(was["lastTransitionTime"], is["lastTransitionTime"], "{name}: {kind}");
            }
        }
        if Timestamp::now() > until { Ok(()) } else { Err("it stays") }
    };
    wait_for(look, Duration::from_secs(30), "four seconds to pass").await;
}

/// Accepts on that port and says this, or nothing at all, for ever.
async fn stranger(port: u16, says: &'static [u8]) -> JoinHandle<()> {
    let listener = listen(port).await;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                let _ = socket.read(&mut buffer).await;
                let _ = socket.write_all(says).await;
                if says.is_empty() {
                    while socket.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                }
            });
        }
    })
}

const API_DOWN: [Expected; 3] = [
    ("Ready", "True", "AllRegistered", "changes of trunks are not seen: see APIReachable"),
    ("Reconciling", "False", "Settled", ""),
    ("Stalled", "False", "NotStalled", ""),
];

fn api(reason: &'static str, part: &'static str) -> Vec<Expected> {
    API_DOWN.into_iter().chain([("APIReachable", "False", reason, part)]).collect()
}

fn requester(reason: &'static str, part: &'static str) -> Vec<Expected> {
    vec![
        ("Ready", "False", "RequesterUnreachable", "the Requester does not work"),
        ("Reconciling", "False", "RequesterUnreachable", ""),
        ("Stalled", "False", "NotStalled", ""),
        ("APIReachable", "True", "Reachable", ""),
        ("RequesterReachable", "False", reason, part),
    ]
}

fn trunks(credentials: Expected, part: &'static str) -> Vec<Expected> {
    vec![
        ("Ready", "False", "TrunksFailing", part),
        ("Reconciling", "False", "TrunksInTrouble", ""),
        ("Stalled", "False", "NotStalled", ""),
        ("RequesterReachable", "True", "Reachable", ""),
        credentials,
    ]
}

/// The registrar answers this to a new trunk, until the trunk and its account are another's.
async fn refused(
    eyes: &Eyes,
    name: &'static str,
    title: &'static str,
    answer: Behaviour,
    expected: &[Expected],
) {
    let case = Case::new(eyes, name, title, &["good"]).await;
    let told =
        if condition_of(expected, "CredentialsAccepted") == "False" { "TrunksRejected" } else { "NotReady" };
    let inject = async |stage: &mut Stage| {
        stage.registrar.behave("bad", answer);
        stage.trunks(&["good", "bad"]);
    };
    let mend = async |stage: &mut Stage| {
        stage.registrar.behave_as_others("bad");
        stage.trunks(&["good", "other"]);
    };
    case.run(inject, expected, mend, &[told, "BecameReady"]).await;
}

fn condition_of(expected: &[Expected], kind: &str) -> &'static str {
    expected.iter().find(|expected| expected.0 == kind).map_or("", |expected| expected.1)
}

fn code(code: u16, phrase: &str) -> Behaviour {
    Behaviour::Code { code, phrase: phrase.to_owned(), headers: Vec::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_that_fail_are_told_and_nobody_else_is_disturbed() {
    let cluster = Installation::shared("neighbours").await;
    let eyes = Eyes::on(&cluster).await;
    let _operator = cluster.start("pod-a");
    let healthy = Stage::with(&["a", "b"]).await;
    healthy.registrar.behave_all(Behaviour::ClaimExpires(10));
    eyes.create("healthy", spec(&healthy)).await;
    eyes.conditions("healthy", &[("Ready", "True", "AllRegistered")]).await;
    let history = eyes.remember();
    let began = healthy.registrar.elapsed();
    tokio::join!(
        api_faults(&eyes),
        requester_faults(&eyes),
        cache_faults(&eyes),
        never_there(&eyes, &cluster),
    );
    // Meanwhile the healthy one was refreshed in its time, and was never anything but ready.
    let log = healthy.registrar.log();
    for user in ["a", "b"] {
        let times: Vec<Duration> = log
            .iter()
            .filter(|seen| seen.user == user && seen.code == Some(200))
            .map(|seen| seen.at)
            .collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gaps < Duration::from_secs(10), "{user} lapsed: {times:?}");
        assert!(healthy.registrar.elapsed() - *times.last().unwrap() < Duration::from_secs(10), "{times:?}");
        assert!(times.len() as u64 > (healthy.registrar.elapsed() - began).as_secs() / 12);
    }
    for written in history.of("healthy") {
        assert_eq!(condition(&written.status, "Ready")["status"], "True", "{}", brief(&written.status));
    }
}

async fn api_faults(eyes: &Eyes) {
    let down = Case::new(eyes, "api-down", "the API server is down", &["a"]).await;
    let hangs = Case::new(eyes, "api-hangs", "the API server hangs", &["a"])
        .await
        .with(json!({ "apiTimeout": "1s" }));
    let refuses = Case::new(eyes, "api-refuses", "the API server refuses the call", &["a"]).await;
    let garbage =
        Case::new(eyes, "api-garbage", "something else answers in the API server's place", &["a"]).await;
    let well = async |stage: &mut Stage| stage.api.set_fault(Rpc::FindBy, None);
    let events = ["APIUnreachable", "APIReachable"];
    let (down_says, hangs_says) = (api("Unreachable", ""), api("NoAnswer", ""));
    let (refuses_says, garbage_says) = (api("Refused", "not you"), api("Unreachable", ""));
    tokio::join!(
        down.run(
            async |stage: &mut Stage| stage.stop_api().await,
            &down_says,
            async |stage: &mut Stage| stage.start_api().await,
            &events
        ),
        hangs.run(
            async |stage: &mut Stage| stage.api.set_fault(Rpc::FindBy, Some(Fault::Hang)),
            &hangs_says,
            well,
            &events
        ),
        refuses.run(
            async |stage: &mut Stage| {
                let fault = Fault::Refuse(Code::PermissionDenied, "not you".to_owned());
                stage.api.set_fault(Rpc::FindBy, Some(fault));
            },
            &refuses_says,
            well,
            &events,
        ),
        async {
            let other = std::sync::Mutex::new(None);
            garbage
                .run(
                    async |stage: &mut Stage| {
                        stage.stop_api().await;
                        let nonsense = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
                        *other.lock().unwrap() = Some(stranger(stage.api_port, nonsense).await);
                    },
                    &garbage_says,
                    async |stage: &mut Stage| {
                        if let Some(task) = other.lock().unwrap().take() {
                            task.abort();
                        }
                        stage.start_api().await;
                    },
                    &events,
                )
                .await;
        },
    );
}

async fn requester_faults(eyes: &Eyes) {
    let down = Case::new(eyes, "requester-down", "the Requester is down", &["a"]).await;
    let hangs = Case::new(eyes, "requester-hangs", "the Requester accepts and says nothing", &SIX).await;
    // It shows when something is due.
    hangs.stage.registrar.behave_all(Behaviour::ClaimExpires(16));
    let hangs = hangs.with(json!({ "registration": { "timeout": "1s" } }));
    let other = Case::new(eyes, "requester-other", "requesterAddr is that of the API server", &SIX).await;
    other.stage.registrar.behave_all(Behaviour::ClaimExpires(16));
    let events = ["RequesterUnreachable", "RequesterReachable", "BecameReady"];
    let (down_says, hangs_says) = (requester("Unreachable", ""), requester("NoAnswer", ""));
    let other_says = requester("Refused", "");
    let (right, wrong) = (other.stage.requester_port, other.stage.api_port);
    tokio::join!(
        down.run(
            async |stage: &mut Stage| stage.stop_requester().await,
            &down_says,
            async |stage: &mut Stage| stage.start_requester().await,
            &events,
        ),
        async {
            let other = std::sync::Mutex::new(None);
            hangs
                .run(
                    async |stage: &mut Stage| {
                        stage.stop_requester().await;
                        *other.lock().unwrap() = Some(stranger(stage.requester_port, b"").await);
                    },
                    &hangs_says,
                    async |stage: &mut Stage| {
                        if let Some(task) = other.lock().unwrap().take() {
                            task.abort();
                        }
                        stage.start_requester().await;
                    },
                    &events,
                )
                .await;
        },
        other.run(
            async |_: &mut Stage| {
                eyes.change("requester-other", json!({ "requesterAddr": format!("127.0.0.1:{wrong}") }))
                    .await;
            },
            &other_says,
            async |_: &mut Stage| {
                eyes.change("requester-other", json!({ "requesterAddr": format!("127.0.0.1:{right}") }))
                    .await;
            },
            &events,
        ),
    );
}

async fn cache_faults(eyes: &Eyes) {
    let mut redis = Redis::start(Options::default()).await;
    let cache = json!({ "provider": "redis", "parameters": format!("host=127.0.0.1,port={}", redis.port()) });
    let down = Case::new(eyes, "redis-down", "Redis is down", &["a"]).await.with(json!({ "cache": cache }));
    let expected = [
        ("Ready", "True", "AllRegistered", ""),
        ("Stalled", "False", "NotStalled", ""),
        ("CacheReachable", "False", "Unreachable", "registrations go on from memory"),
    ];
    let redis = std::cell::RefCell::new(&mut redis);
    #[allow(clippy::await_holding_refcell_ref)]
    down.run(
        async |_: &mut Stage| redis.borrow_mut().stop().await,
        &expected,
        async |_: &mut Stage| redis.borrow_mut().restart().await,
        &["CacheUnreachable", "CacheReachable"],
    )
    .await;
}

/// Neighbours that were never there, and `kubectl wait`.
async fn never_there(eyes: &Eyes, cluster: &Installation<'_>) {
    let mut stage = Stage::bare().await;
    stage.trunks(&["a", "b"]);
    eyes.create("alone", spec(&stage)).await;
    let wait = ["wait", "--for=condition=Ready", "registry/alone", "--timeout=90s"];
    let mended = async {
        let status = eyes.conditions("alone", &[("Ready", "False", "APIUnreachable")]).await;
        table::row("the API server is not there at the start", &status);
        assert_eq!(condition(&status, "APIReachable")["status"], "False", "{}", brief(&status));
        assert_eq!(condition(&status, "RequesterReachable")["status"], "Unknown", "{}", brief(&status));
        assert_eq!(condition(&status, "Reconciling")["status"], "True", "{}", brief(&status));
        stage.start_api().await;
        let status = eyes.conditions("alone", &[("Ready", "False", "RequesterUnreachable")]).await;
        table::row("the Requester is not there at the start", &status);
        assert_eq!(condition(&status, "APIReachable")["status"], "True", "{}", brief(&status));
        assert_eq!(status["trunks"]["total"], 2, "{}", brief(&status));
        stage.start_requester().await;
        eyes.conditions("alone", &[("Ready", "True", "AllRegistered")]).await;
    };
    let (waited, ()) = tokio::join!(cluster.kubectl(&wait), mended);
    assert!(waited.ok().contains("condition met"));
    let described = cluster.kubectl(&["describe", "registry", "alone"]).await.ok();
    for event in ["APIUnreachable", "RequesterUnreachable", "RequesterReachable", "BecameReady"] {
        assert!(described.contains(event), "{event}:\n{described}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trunks_that_fail_are_told() {
    let cluster = Installation::shared("trunks").await;
    let eyes = Eyes::on(&cluster).await;
    let _operator = cluster.start("pod-a");
    let accepted = ("CredentialsAccepted", "True", "Accepted", "");
    let rejected = ("CredentialsAccepted", "False", "CredentialsRejected", "bad (Trunk bad at 127.0.0.1");
    let unknown = ("CredentialsAccepted", "False", "UnknownAccount", "bad (Trunk bad at 127.0.0.1");
    let failing = "1 of 2 trunks is not registered: bad (Trunk bad at 127.0.0.1";
    let unavailable = Behaviour::Unavailable { retry_after: None };
    let (forbidden, nobody) = (trunks(rejected, failing), trunks(unknown, failing));
    let failed = trunks(accepted, failing);
    tokio::join!(
        refused(&eyes, "answer-403", "the registrar answers 403", code(403, "Not You"), &forbidden),
        refused(&eyes, "answer-404", "the registrar answers 404", code(404, "Nobody"), &nobody),
        refused(&eyes, "answer-503", "the registrar answers 503", unavailable, &failed),
        refused(&eyes, "silence", "the registrar is silent", Behaviour::Silence, &failed),
        wrong_password(&eyes),
        malformed(&eyes),
        at_risk(&eyes),
        budget(&eyes),
    );
}

async fn wrong_password(eyes: &Eyes) {
    let case = Case::new(eyes, "password", "a trunk's password is wrong", &["good"]).await;
    let expected =
        trunks(("CredentialsAccepted", "False", "CredentialsRejected", "bad (Trunk bad"), "1 of 2 trunks");
    let inject = async |stage: &mut Stage| {
        let trunk = stage.trunk("bad");
        stage.registrar.set_password("bad", "another");
        stage.api.set_trunks(vec![stage.trunk("good"), trunk]);
    };
    let mend = async |stage: &mut Stage| {
        let mut trunk = stage.trunk("bad");
        stage.registrar.set_password("bad", "the-third");
        trunk.outbound_credentials.as_mut().unwrap().password = "the-third".to_owned();
        stage.api.set_trunks(vec![stage.trunk("good"), trunk]);
    };
    case.run(inject, &expected, mend, &["TrunksRejected", "BecameReady"]).await;
}

async fn malformed(eyes: &Eyes) {
    let case = Case::new(eyes, "malformed", "a trunk is malformed", &["good"]).await;
    let expected = [
        ("Ready", "False", "InvalidTrunks", "1 of 2 trunks is not valid: bad"),
        ("Reconciling", "False", "TrunksInTrouble", ""),
        ("Stalled", "False", "NotStalled", ""),
        ("CredentialsAccepted", "True", "Accepted", ""),
    ];
    let inject = async |stage: &mut Stage| {
        let mut trunk = stage.trunk("bad");
        trunk.uris[0].port = 70_000;
        stage.api.set_trunks(vec![stage.trunk("good"), trunk]);
    };
    let mend = async |stage: &mut Stage| stage.trunks(&["good", "bad"]);
    case.run(inject, &expected, mend, &["NotReady", "BecameReady"]).await;
}

async fn at_risk(eyes: &Eyes) {
    let case = Case::new(eyes, "at-risk", "refreshes fail, bindings hold", &["a", "b"]).await;
    case.stage.registrar.behave_all(Behaviour::ClaimExpires(30));
    let expected = [
        ("Ready", "True", "TrunksAtRisk", "but the last refresh failed"),
        ("Stalled", "False", "NotStalled", ""),
        ("RequesterReachable", "True", "Reachable", ""),
    ];
    let inject =
        async |stage: &mut Stage| stage.registrar.behave_all(Behaviour::Unavailable { retry_after: None });
    let mend = async |stage: &mut Stage| stage.registrar.behave_all(Behaviour::Normal);
    case.run(inject, &expected, mend, &["BecameReady"]).await;
}

async fn budget(eyes: &Eyes) {
    let case = Case::new(eyes, "budget", "the budget is too small", &SIX).await;
    case.stage.registrar.behave_all(Behaviour::ClaimExpires(30));
    let expected = [
        ("Ready", "True", "BudgetTooSmall", "127.0.0.1 are too many for spec.registration.ratePerRegistrar"),
        ("Stalled", "False", "NotStalled", ""),
    ];
    let inject = async |_: &mut Stage| {
        eyes.change("budget", json!({ "registration": { "ratePerRegistrar": "0.001" } })).await;
    };
    let mend = async |_: &mut Stage| {
        eyes.change("budget", json!({ "registration": { "ratePerRegistrar": 20 } })).await;
    };
    case.run(inject, &expected, mend, &["BudgetTooSmall"]).await;
}
