//! Several registries in one process, and a replica of an operator.

use serde_json::json;

use super::{
    fake::{NOW, Replica, Still, failing, get, replica, request, trunk},
    *,
};
use crate::{
    registry::{RegistryName, RegistryPhase},
    runtime::ports::Observer,
};
use routr_registration::engine::view::Health;

/// Two that share a name, and one that is alone with its own.
async fn three() -> Replica {
    replica(
        LeadershipStatus::Leading,
        vec![
            (RegistryName::of("berlin", "main"), vec![trunk("t-1", "North"), failing("t-2", "South")]),
            (RegistryName::of("paris", "main"), vec![trunk("t-9", "Ouest")]),
            (RegistryName::of("paris", "spare"), Vec::new()),
        ],
    )
    .await
}

fn down(message: &str) -> Health {
    Health { ok: Some(false), message: Some(message.to_owned()), reason: None, since_ms: NOW - 3_000 }
}

#[tokio::test]
async fn each_registry_is_listed_with_its_summary() {
    let replica = three().await;
    let answer = get(replica.ports.private, "/registries").await;
    assert_eq!(answer.status, 200);
    let all = answer.json();
    assert_eq!(
        (&all["nowMs"], &all["leads"], &all["standing"]),
        (&json!(NOW), &json!(true), &json!("leads"))
    );
    let shown: Vec<_> = all["registries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["namespace"], &one["name"], &one["summary"]["counts"]["failing"]))
        .collect();
    assert_eq!(
        shown,
        [
            (&json!("berlin"), &json!("main"), &json!(1)),
            (&json!("paris"), &json!("main"), &json!(0)),
            (&json!("paris"), &json!("spare"), &json!(0)),
        ]
    );
}

#[tokio::test]
async fn outside_kubernetes_there_is_one_without_namespace() {
    let ports = fake::start(vec![trunk("t-1", "North")]).await;
    let all = get(ports.private, "/registries").await.json();
    assert_eq!(all.get("standing"), None);
    assert_eq!(all.get("leads"), None);
    let [only] = all["registries"].as_array().unwrap().as_slice() else { panic!("{all}") };
    assert_eq!((only.get("namespace"), &only["name"]), (None, &json!("registry")));
    assert_eq!(only["summary"]["counts"]["registered"], 1);
    for path in ["/summary", "/registrations", "/registrations/t-1"] {
        for registry in ["", "?registry=registry"] {
            assert_eq!(
                get(ports.private, &format!("{path}{registry}")).await.status,
                200,
                "{path}{registry}"
            );
        }
    }
}

#[tokio::test]
async fn a_registry_is_chosen_by_its_name() {
    let replica = three().await;
    let private = replica.ports.private;
    for (registry, reference) in
        [("berlin/main", "t-1"), ("paris%2Fmain", "t-9"), ("paris%2fmain&limit=5", "t-9")]
    {
        let list = get(private, &format!("/registrations?registry={registry}")).await;
        assert_eq!(list.json()["items"][0]["reference"], reference, "{registry}");
    }
    let empty = get(private, "/registrations?q=t&registry=spare").await;
    assert_eq!((empty.status, empty.json()), (200, json!({"items": []})));
    let summary = get(private, "/summary?registry=berlin/main").await.json();
    assert_eq!(summary["counts"]["failing"], 1);
    assert_eq!(get(private, "/registrations/t-1?registry=berlin/main").await.status, 200);
    assert_eq!(get(private, "/registrations/t-1?registry=paris/main").await.status, 404);

    let refresh = |query: &'static str| {
        request(private, ["POST /registrations/t-9/refresh", query].concat().leak(), &[])
    };
    assert_eq!(refresh("?registry=paris%2Fmain").await.status, 202);
    assert_eq!(refresh("?registry=berlin%2Fmain").await.status, 404);
    assert_eq!(replica.worlds[1].lock().unwrap().refreshed, ["t-9"]);
    assert!(replica.worlds[2].lock().unwrap().refreshed.is_empty());
}

#[tokio::test]
async fn a_choice_that_means_none_or_several_is_refused_with_the_names() {
    let replica = three().await;
    let all = "berlin/main, paris/main, paris/spare";
    let several = format!(
        "registry: 3 run here; name one with ?registry=NAMESPACE/NAME, or on the command line with \
         --registry NAMESPACE/NAME: {all}"
    );
    for (query, status, error) in [
        ("", 400, several.clone()),
        (
            "?registry=main",
            400,
            "registry: 2 are named \"main\"; write one of berlin/main, paris/main".to_owned(),
        ),
        (
            "?registry=rome/main",
            404,
            format!("registry: there is no \"rome/main\"; write NAMESPACE/NAME of one that runs here: {all}"),
        ),
        ("?registry=", 400, "registry: \"\" is empty; give NAMESPACE/NAME".to_owned()),
        ("?registry=spare&registry=spare", 400, "duplicate field `registry`; give it once".to_owned()),
    ] {
        for path in [
            "GET /summary",
            "GET /registrations",
            "GET /registrations/t-1",
            "POST /registrations/t-1/refresh",
        ] {
            let answer = request(replica.ports.private, &format!("{path}{query}"), &[]).await;
            assert_eq!((answer.status, answer.json()), (status, json!({"error": error})), "{path}{query}");
        }
    }
    let typo = request(replica.ports.private, "POST /registrations/t-1/refresh?regsitry=spare", &[]).await;
    assert_eq!(
        (typo.status, typo.json()),
        (400, json!({"error": "regsitry: unknown field `regsitry`, expected `registry`"}))
    );
    // Both errors at once: the one that the other registries would show too.
    let limit = get(replica.ports.private, "/registrations?limit=0").await;
    assert!(limit.json()["error"].as_str().unwrap().starts_with("limit: "), "{limit:?}");
    for world in &replica.worlds {
        let world = world.lock().unwrap();
        assert!(world.refreshed.is_empty() && world.lists == 0);
    }
}

#[tokio::test]
async fn an_error_lists_twenty_names() {
    let many = (0..25).map(|i| (RegistryName::of("n", format!("r{i:02}")), Vec::new())).collect();
    let replica = replica(LeadershipStatus::Leading, many).await;
    let error = get(replica.ports.private, "/summary").await.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("n/r00, n/r01, "), "{error}");
    assert!(error.ends_with("n/r18, n/r19 and 5 more; /registries lists all"), "{error}");
}

#[tokio::test]
async fn a_replica_without_registries_says_who_has_them() {
    let replica =
        replica(LeadershipStatus::Following { leader: Some("registry-0".to_owned()) }, Vec::new()).await;
    let error = "no registry runs in this process: it follows registry-0, which runs all of them: ask it \
                 (`kubectl port-forward pod/registry-0 8081`)";
    for path in ["/summary", "/registrations?registry=a/b"] {
        let answer = get(replica.ports.private, path).await;
        assert_eq!((answer.status, answer.json()), (404, json!({"error": error})), "{path}");
    }
    let all = get(replica.ports.private, "/registries").await.json();
    assert_eq!((&all["leads"], &all["registries"]), (&json!(false), &json!([])));
    assert!(all["standing"].as_str().unwrap().starts_with("follows registry-0, "), "{all}");
}

async fn ready(replica: &Replica) -> (u16, String) {
    let answer = get(replica.ports.public, "/readyz").await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn a_replica_is_ready_when_it_leads_or_could() {
    let replica = replica(LeadershipStatus::Starting, Vec::new()).await;
    let following = |leader: Option<&str>| LeadershipStatus::Following { leader: leader.map(str::to_owned) };
    for (standing, status, text) in [
        (LeadershipStatus::Starting, 503, "not ready\nlease     failed   not read yet\n"),
        (
            following(Some("registry-0")),
            200,
            "ready\nlease     ok       follows registry-0, ready to take over\n",
        ),
        (
            following(None),
            200,
            "ready\nlease     ok       no replica leads at the moment; ready to take \
                                over\n",
        ),
        (
            LeadershipStatus::LeaseUnavailable { problem: "403 Forbidden".to_owned() },
            503,
            "not ready\nlease     failed   cannot be read, so this replica cannot take over: 403 Forbidden\n",
        ),
        (LeadershipStatus::Leading, 200, "ready\nlease     ok       leads\nregistries ok       running: 0\n"),
    ] {
        replica.standing.send(standing.clone()).unwrap();
        let (found, body) = ready(&replica).await;
        assert_eq!(found, status, "{standing:?}");
        assert_eq!(body.replace("lease      ", "lease     "), text, "{standing:?}");
        assert_eq!(get(replica.ports.public, "/livez").await.status, 200, "{standing:?}");
    }
}

#[tokio::test]
async fn a_registry_in_trouble_is_reported_and_takes_nothing_out_of_service() {
    let replica = three().await;
    {
        let mut berlin = replica.worlds[0].lock().unwrap();
        berlin.summary.cache = down("timed out");
        let mut spare = replica.worlds[2].lock().unwrap();
        spare.summary.requester = down("connection refused");
        spare.summary.last_sync_ms = None;
    }
    let (status, body) = ready(&replica).await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        "ready\nlease       ok       leads\nregistries  degraded running: 3, of these unhealthy: \
         2\nparis/spare degraded trunks: not read yet: waiting for the first response of the API server; \
         requester: not working for 3 s: connection refused\nberlin/main degraded cache: not working for 3 \
         s: timed out; registrations continue from memory\n"
    );
}

#[tokio::test]
async fn of_many_in_trouble_ten_are_named() {
    let many = (0..12).map(|i| (RegistryName::of("n", format!("r{i:02}")), Vec::new())).collect();
    let replica = replica(LeadershipStatus::Leading, many).await;
    for world in &replica.worlds {
        world.lock().unwrap().summary.requester = down("refused");
    }
    let (status, body) = ready(&replica).await;
    assert_eq!(status, 200);
    assert!(body.contains("running: 12, of these unhealthy: 12; the first 10 follow\n"), "{body}");
    assert_eq!(body.lines().filter(|line| line.starts_with("n/r")).count(), 10, "{body}");
}

/// The clock is paused: tokio moves it to the deadline as soon as nothing else can happen.
#[tokio::test(start_paused = true)]
async fn stuck_engines_are_waited_for_together_and_hide_no_other() {
    let directory = Directory::default();
    let mut kept = Vec::new();
    for i in 0..40 {
        let (handle, commands) = EngineHandle::new();
        directory.enter(RegistryName::of("n", format!("stuck{i:02}")), handle);
        kept.push(commands);
    }
    let (good, _world, _task) = fake::engine(vec![trunk("t-1", "North")]);
    directory.enter(RegistryName::of("n", "good"), good);
    let state = AdminState::new(directory, Metrics::new(NOW), Arc::new(Still));
    let before = tokio::time::Instant::now();
    let reports = state.summaries().await;
    assert_eq!(before.elapsed(), ENGINE_QUERY_TIMEOUT);
    let good = reports.iter().find(|one| one.name.name == "good").unwrap();
    assert_eq!(good.answer.as_ref().unwrap().as_ref().unwrap().counts.registered, 1);
    assert_eq!(reports.iter().filter(|one| one.answer == Some(Err(EngineUnresponsive::Stuck))).count(), 40);
}

#[tokio::test]
async fn an_engine_that_is_gone_is_told_of_and_is_no_reason_to_end_the_others() {
    let replica = three().await;
    replica.engines[1].abort();
    while !replica.engines[1].is_finished() {
        tokio::task::yield_now().await;
    }
    let live = get(replica.ports.public, "/livez").await;
    assert_eq!((live.status, live.body.as_str()), (200, "OK"), "the operator starts it again");
    let (status, body) = ready(&replica).await;
    assert_eq!(status, 200);
    assert!(body.contains("paris/main degraded engine: the engine has stopped\n"), "{body}");
    let all = get(replica.ports.private, "/registries").await.json();
    assert_eq!(all["registries"][1]["problem"], "the engine has stopped");
    assert_eq!(all["registries"][1].get("summary"), None);

    let scraped = get(replica.ports.public, "/metrics").await;
    assert_eq!(scraped.status, 200);
    for line in [
        "routr_registry_engine_up{namespace=\"berlin\",registry=\"main\"} 1.0\n",
        "routr_registry_engine_up{namespace=\"paris\",registry=\"main\"} 0.0\n",
        "routr_registry_trunks{namespace=\"berlin\",registry=\"main\",state=\"failing\"} 1.0\n",
        "routr_registry_leader_election_is_leader 1.0\n",
    ] {
        assert!(scraped.body.contains(line), "{line} in {}", scraped.body);
    }
    let of_the_gone = "routr_registry_trunks{namespace=\"paris\",registry=\"main\"";
    assert!(!scraped.body.contains(of_the_gone), "{}", scraped.body);

    replica.ports.directory.leave(
        &RegistryName::of("paris", "main"),
        &replica.ports.directory.get(&RegistryName::of("paris", "main")).unwrap(),
    );
    assert_eq!(get(replica.ports.public, "/livez").await.body, "OK");
}

/// An engine that ends while it is asked has been replaced, or taken out, meanwhile.
#[tokio::test]
async fn an_engine_that_is_replaced_while_it_is_asked_is_not_broken() {
    let (name, gone) = (RegistryName::of("n", "a"), RegistryName::of("n", "b"));
    let directory = Directory::default();
    let (old, mut commands) = EngineHandle::new();
    let (other, mut others) = EngineHandle::new();
    directory.enter(name.clone(), old);
    directory.enter(gone.clone(), other);
    let state = AdminState::new(directory.clone(), Metrics::new(NOW), Arc::new(Still));
    let asked = tokio::spawn(async move { state.summaries().await });
    let questions = (commands.recv().await.unwrap(), others.recv().await.unwrap());
    let (new, _world, _task) = fake::engine(vec![trunk("t-1", "North")]);
    directory.enter(name.clone(), new);
    directory.leave(&gone, &directory.get(&gone).unwrap());
    drop(questions);
    let reports = asked.await.unwrap();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!(reports[0].name, name);
    assert_eq!(reports[0].answer.as_ref().unwrap().as_ref().unwrap().counts.registered, 1);
}

/// A Secret is missing, a spec suspends, a third one runs.
#[tokio::test]
async fn k10_each_registry_is_shown_with_its_state_and_reason_whether_it_runs_or_not() {
    let replica = replica(LeadershipStatus::Leading, vec![(RegistryName::of("n", "runs"), Vec::new())]).await;
    let directory = &replica.ports.directory;
    let list = |name: &str, state, ready, reason: &str, message: &str| {
        let listed = directory.list(&RegistryName::of("n", name), name);
        let (reason, message) = (reason.to_owned(), message.to_owned());
        listed.set(RegistryState { state, ready, reason, message, ..RegistryState::default() });
        listed
    };
    let _listed = [
        list("runs", RegistryPhase::Running, true, "AllRegistered", "all 0 trunks"),
        list("stalled", RegistryPhase::Stalled, false, "SecretNotFound", "there is no Secret \"redis\""),
        list("idle", RegistryPhase::Suspended, false, "Suspended", "spec.suspend is true"),
        directory.list(&RegistryName::of("n", "new"), "4"),
    ];
    let (status, body) = ready(&replica).await;
    assert_eq!(status, 200);
    for line in [
        "registries degraded running: 1, starting: 1, suspended: 1, stalled: 1, of these unhealthy: 1\n",
        "n/stalled  degraded stalled (SecretNotFound): there is no Secret \"redis\"\n",
        "n/idle     ok       suspended: spec.suspend is true\n",
        "n/new      ok       starting\n",
    ] {
        assert!(body.contains(line), "{line} in {body}");
    }
    let all = get(replica.ports.private, "/registries").await.json();
    let shown =
        |index: usize| ["name", "state", "reason", "ready"].map(|key| all["registries"][index][key].clone());
    assert_eq!(shown(0), [json!("idle"), json!("suspended"), json!("Suspended"), json!(false)]);
    assert_eq!(shown(1), [json!("new"), json!("starting"), json!("Starting"), json!(false)]);
    assert_eq!(shown(2), [json!("runs"), json!("running"), json!("AllRegistered"), json!(true)]);
    assert!(
        all["registries"][2]["summary"].is_object() && all["registries"][3].get("summary").is_none(),
        "{all}"
    );
    let metrics = get(replica.ports.public, "/metrics").await.body;
    for line in [
        "routr_registry_ready{namespace=\"n\",registry=\"runs\",state=\"running\",reason=\"AllRegistered\"} 1\n",
        "routr_registry_ready{namespace=\"n\",registry=\"stalled\",state=\"stalled\",reason=\"SecretNotFound\"} 0\n",
        "routr_registry_ready{namespace=\"n\",registry=\"idle\",state=\"suspended\",reason=\"Suspended\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let of_idle = metrics.lines().filter(|line| line.contains("registry=\"idle\"")).count();
    // And none of an engine, which it has not.
    assert!(metrics.contains("routr_registry_suspended{namespace=\"n\",registry=\"idle\"} 1\n"), "{metrics}");
    assert_eq!(of_idle, 2, "ready and suspended alone, of what runs nothing: {metrics}");
    assert_eq!(get(replica.ports.public, "/livez").await.status, 200);
    let asked = get(replica.ports.private, "/summary?registry=n/stalled").await;
    assert_eq!(asked.status, 409);
    assert!(asked.body.contains("n/stalled has no engine: it is stalled (SecretNotFound)"), "{}", asked.body);
}

#[tokio::test]
async fn a_follower_is_scraped_too() {
    let replica = replica(LeadershipStatus::Following { leader: None }, Vec::new()).await;
    replica.ports.metrics.operator().status_write("success");
    let name = RegistryName::of("paris", "main");
    replica.ports.metrics.registry(name.clone()).store_write(true);
    let body = get(replica.ports.public, "/metrics").await.body;
    for line in [
        "routr_registry_leader_election_is_leader 0.0\n",
        "routr_registry_status_writes_total{result=\"success\"} 1\n",
        "routr_registry_store_writes_total{namespace=\"paris\",registry=\"main\",result=\"success\"} 1\n",
    ] {
        assert!(body.contains(line), "{line} in {body}");
    }
    replica.ports.metrics.forget(&name);
    let body = get(replica.ports.public, "/metrics").await.body;
    assert!(!body.contains("paris"), "{body}");
}

#[test]
fn a_name_is_written_with_its_namespace_where_it_has_one() {
    assert_eq!(RegistryName::of("paris", "main").to_string(), "paris/main");
    assert_eq!(RegistryName::plain("main").to_string(), "main");
}

#[tokio::test]
async fn a_registry_that_is_renamed_is_found_under_its_new_name_alone() {
    let ports = fake::start(vec![trunk("t-1", "North")]).await;
    ports.directory.rename(&RegistryName::plain("registry"), RegistryName::plain("other"));
    assert_eq!(get(ports.private, "/summary?registry=other").await.status, 200);
    assert_eq!(get(ports.private, "/summary?registry=registry").await.status, 404);
    assert_eq!(get(ports.private, "/summary").await.status, 200);
}
