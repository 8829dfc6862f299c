use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    fake::{NOW, Still, engine, failing, get, request, start, start_with, trunk},
    *,
};
use crate::runtime::ports::Observer;
use routr_registration::{
    engine::view::{Down, Health, TrunkFailure},
    registration::state::TrunkState,
};

fn sample() -> Vec<routr_registration::engine::view::TrunkView> {
    let mut invalid = failing("t-3", "Nowhere");
    invalid.state = TrunkState::Invalid;
    invalid.registrar = String::new();
    invalid.failure = Some(TrunkFailure {
        reason: "InvalidTrunk".to_owned(),
        code: None,
        message: "uris[0].host: is empty; give a host name".to_owned(),
        since_ms: NOW - 1000,
    });
    let mut busy = trunk("t-4", "Busy");
    busy.in_flight = true;
    busy.registrar = "pbx.example:5061/TLS".to_owned();
    vec![trunk("t-1", "North"), failing("t-2", "South"), invalid, busy]
}

fn refs(page: &serde_json::Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|t| t["reference"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn probes_are_good_while_all_is_well() {
    let ports = start(sample()).await;
    for path in ["/healthz", "/livez"] {
        let answer = get(ports.public, path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "OK"), "{path}");
    }
    let ready = get(ports.public, "/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(
        ready.body,
        "ready\nengine    ok       answers\ntrunks    ok       read 5 s ago\nrequester ok       \
         works\napi       ok       not tried yet\ncache     ok       not tried yet\n"
    );
}

#[tokio::test]
async fn enable_healthchecks_false_removes_healthz_only() {
    assert!(healthz_wanted(None));
    assert!(healthz_wanted(Some("true")));
    assert!(healthz_wanted(Some("")));
    assert!(!healthz_wanted(Some("false")));
    assert!(!healthz_wanted(Some(" FALSE ")));
    let ports = start_with(sample(), |state| state.with_healthz(false)).await;
    assert_eq!(get(ports.public, "/healthz").await.status, 404);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(get(ports.public, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn not_ready_before_the_first_sync_and_says_why() {
    let ports = start(Vec::new()).await;
    {
        let mut world = ports.world.lock().unwrap();
        world.summary.last_sync_ms = None;
        world.summary.requester.ok = None;
        world.summary.api = Health {
            ok: Some(false),
            message: Some("connection refused".to_owned()),
            since_ms: NOW - 61_000,
            reason: None,
        };
    }
    let answer = request(ports.public, "GET /readyz", &["Accept: application/json"]).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({"ready": false, "checks": [
            {"name": "engine", "state": "ok", "message": "answers"},
            {"name": "trunks", "state": "failed", "message": "not read yet: connection refused"},
            {"name": "requester", "state": "ok", "message": "not used yet"},
            {"name": "api", "state": "degraded", "message":
                "not working for 1 m 1 s: connection refused; registrations continue with the trunks of the \
                 last sync"},
            {"name": "cache", "state": "ok", "message": "not tried yet"},
        ]})
    );
}

#[tokio::test]
async fn a_requester_that_fails_or_is_awaited_makes_it_unready() {
    let ports = start(sample()).await;
    ports.world.lock().unwrap().summary.requester = Health {
        ok: Some(false),
        message: Some("connection refused".to_owned()),
        since_ms: NOW - 3_000,
        reason: None,
    };
    let failed = get(ports.public, "/readyz").await;
    assert_eq!(failed.status, 503);
    assert!(failed.body.starts_with("not ready\n"), "{}", failed.body);
    assert!(
        failed.body.contains("requester failed   not working for 3 s: connection refused\n"),
        "{}",
        failed.body
    );

    {
        let mut world = ports.world.lock().unwrap();
        world.summary.requester = Health::default();
        world.summary.counts.pending = 3;
    }
    let awaited = get(ports.public, "/readyz").await;
    assert_eq!(awaited.status, 503);
    let nothing_yet = "no response so far: 0 REGISTERs are under way, 3 trunks wait for their turn\n";
    assert!(awaited.body.contains(nothing_yet), "{}", awaited.body);
}

/// Field case W2: "requester ok not needed so far" was shown while calls were waiting for 40 s.
#[tokio::test]
async fn w2_what_is_known_of_a_requester_that_has_not_responded_is_said() {
    let ports = start(Vec::new()).await;
    let shown = async |change: fn(&mut Summary)| {
        {
            let mut world = ports.world.lock().unwrap();
            world.summary = Summary { last_sync_ms: Some(NOW), ..Summary::default() };
            change(&mut world.summary);
        }
        let answer = get(ports.public, "/readyz").await;
        let line = answer.body.lines().find(|line| line.starts_with("requester")).unwrap().to_owned();
        (answer.status, line)
    };
    let failed = |text: &str| (503, format!("requester failed   no response so far: {text}"));
    let waiting = shown(|s| (s.in_flight, s.waiting, s.counts.pending) = (2, 18, 20)).await;
    assert_eq!(waiting, failed("2 REGISTERs are under way, 18 trunks wait for their turn"));
    let one = shown(|s| (s.in_flight, s.counts.pending) = (1, 2)).await;
    assert_eq!(one, failed("1 REGISTER is under way, 1 trunk waits for its turn"));
    let again = shown(|s| (s.in_flight, s.counts.failing) = (1, 1)).await;
    assert_eq!(again, failed("1 REGISTER is under way"));
    // Between two attempts: nothing is under way, and still nothing is known to be well.
    let between = shown(|s| s.counts.failing = 1).await;
    let text = "requester degraded no response so far, and no REGISTER is under way; 1 trunk fails";
    assert_eq!(between, (200, text.to_owned()));
    let ok = (200, "requester ok       not used yet".to_owned());
    assert_eq!(shown(|s| s.counts.registered = 20).await, ok);
    assert_eq!(shown(|s| (s.paused, s.counts.pending) = (true, 3)).await, ok);
}

#[tokio::test]
async fn w2_edge_ports_and_registrars_that_are_down_are_named_with_a_hint_and_leave_it_ready() {
    let ports = start(sample()).await;
    {
        let mut world = ports.world.lock().unwrap();
        let down = |what: &str, name: &str, message: &str| Down {
            what: what.to_owned(),
            name: name.to_owned(),
            since_ms: NOW - 60_000,
            message: message.to_owned(),
        };
        let long = format!("certificate expired: {}", "x".repeat(2_000));
        world.summary.down =
            vec![down("edgePort", "edgeport:5060", ""), down("registrar", "sip.example", &long)];
        (world.summary.edge_ports_down, world.summary.registrars_down) = (1, 480);
    }
    let answer = get(ports.public, "/readyz").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let edge_ports = "edgePorts  degraded edgeport:5060: down for 1 m: no registrar responds through it; \
                      check that it runs, and its address in spec.edgePorts; ";
    assert!(answer.body.contains(edge_ports), "{}", answer.body);
    assert!(answer.body.contains("registrars degraded sip.example: down for 1 m: certificate expired: x"));
    assert!(answer.body.contains("xxx; one trunk tries it every 5 to 10 s, the others wait; 479 more\n"));
}

#[tokio::test]
async fn a_failing_cache_or_api_is_reported_but_leaves_it_ready() {
    let ports = start(sample()).await;
    {
        let mut world = ports.world.lock().unwrap();
        let down = Health {
            ok: Some(false),
            message: Some("timed out".to_owned()),
            since_ms: NOW - 60_000,
            reason: None,
        };
        world.summary.cache = down.clone();
        world.summary.api = down;
    }
    let answer = get(ports.public, "/readyz").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.body.contains(
            "cache     degraded not working for 1 m: timed out; registrations continue from \
                       memory\n"
        ),
        "{}",
        answer.body
    );
    assert!(answer.body.contains("api       degraded not working for 1 m: timed out;"), "{}", answer.body);
}

#[tokio::test]
async fn an_engine_that_stopped_fails_every_probe_but_healthz() {
    let ports = start(sample()).await;
    ports.engine.abort();
    // The abort takes effect when the task is next polled: joining it waits for that.
    assert!(ports.engine.await.unwrap_err().is_cancelled());
    let live = get(ports.public, "/livez").await;
    assert_eq!((live.status, live.body.as_str()), (503, "the engine has stopped\n"));
    let ready = get(ports.public, "/readyz").await;
    assert_eq!(
        (ready.status, ready.body.as_str()),
        (503, "not ready\nengine    failed   the engine has stopped\n")
    );
    assert_eq!(get(ports.public, "/metrics").await.status, 503);
    assert_eq!(get(ports.public, "/healthz").await.status, 200);
    let list = get(ports.private, "/registrations").await;
    assert_eq!((list.status, list.json()), (503, json!({"error": "the engine has stopped"})));
}

/// The clock is paused: tokio moves it to the deadline as soon as nothing else can happen.
#[tokio::test(start_paused = true)]
async fn an_engine_that_is_stuck_does_not_hang_a_probe() {
    let (handle, _commands) = EngineHandle::new();
    let name = RegistryName::plain("registry");
    let state =
        AdminState::new(Directory::of_one(name.clone(), handle.clone()), Metrics::new(NOW), Arc::new(Still));
    let before = tokio::time::Instant::now();
    assert_eq!(state.ask(handle.summary()).await, Err(EngineUnresponsive::Stuck));
    assert_eq!(before.elapsed(), ENGINE_QUERY_TIMEOUT);
    let before = tokio::time::Instant::now();
    let [reports] = state.summaries().await.try_into().unwrap();
    assert_eq!((reports.name, reports.answer), (name, Some(Err(EngineUnresponsive::Stuck))));
    assert_eq!(before.elapsed(), ENGINE_QUERY_TIMEOUT);
    assert_eq!(EngineUnresponsive::Stuck.to_string(), "the engine did not respond within 2 s");
}

#[tokio::test]
async fn metrics_are_scraped_from_the_live_engine() {
    let ports = start(sample()).await;
    ports.metrics.registry(RegistryName::plain("registry")).register_finished("sip.example", "ok", 0.2);
    let answer = get(ports.public, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{}",
        answer.head
    );
    for line in [
        "routr_registry_trunks{state=\"registered\"} 2.0\n",
        "routr_registry_trunks{state=\"invalid\"} 1.0\n",
        "routr_registry_last_sync_timestamp_seconds 1799999995.0\n",
        "routr_registry_register_requests_total{outcome=\"ok\",registrar=\"sip.example\"} 1\n",
    ] {
        assert!(answer.body.contains(line), "{line} in {}", answer.body);
    }
    assert!(answer.head.contains("vary: accept") && !answer.body.contains("# EOF"));
    let accept =
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let answer = request(ports.public, "GET /metrics", &[accept]).await;
    assert!(
        answer.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{}",
        answer.head
    );
    assert!(answer.body.ends_with("# EOF\n"));
    // Several header fields are one list (RFC 9110 §5.3).
    let apart = ["Accept: application/openmetrics-text;q=0.1", "Accept: text/plain;q=0.9"];
    let answer = request(ports.public, "GET /metrics", &apart).await;
    assert!(answer.head.contains("content-type: text/plain"), "{}", answer.head);
}

#[tokio::test]
async fn the_public_port_shows_no_trunk() {
    let ports = start(sample()).await;
    for path in ["/registrations", "/registrations/t-1", "/summary", "/"] {
        let answer = get(ports.public, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["error"].as_str().unwrap().contains("/readyz"), "{path}");
    }
}

#[tokio::test]
async fn summary_carries_the_clock_and_the_version() {
    let ports = start(sample()).await;
    let answer = get(ports.private, "/summary").await;
    assert_eq!(answer.status, 200);
    let summary = answer.json();
    assert_eq!(summary["nowMs"], NOW);
    assert_eq!(summary["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(summary["counts"]["registered"], 2);
    assert_eq!(summary["lastSyncMs"], NOW - 5000);
}

#[tokio::test]
async fn registrations_are_filtered_and_paged() {
    let ports = start(sample()).await;
    let all = get(ports.private, "/registrations").await;
    assert_eq!(all.status, 200);
    assert_eq!(refs(&all.json()), ["t-1", "t-2", "t-3", "t-4"]);
    assert_eq!(all.json().get("nextPageToken"), None);
    for (query, expected) in [
        ("state=failing,invalid", vec!["t-2", "t-3"]),
        ("state=FAILING", vec!["t-2"]),
        ("state=failing%2Cinvalid%2Cfailing", vec!["t-2", "t-3"]),
        ("registrar=PBX.example", vec!["t-4"]),
        ("q=nor", vec!["t-1"]),
        ("q=s%6Futh&state=failing", vec!["t-2"]),
        ("state=deregistering", vec![]),
    ] {
        let page = get(ports.private, &format!("/registrations?{query}")).await;
        assert_eq!(refs(&page.json()), expected, "{query}");
    }
    let first = get(ports.private, "/registrations?limit=3").await.json();
    assert_eq!(refs(&first), ["t-1", "t-2", "t-3"]);
    let token = first["nextPageToken"].as_str().unwrap();
    let second = get(ports.private, &format!("/registrations?limit=3&page={token}")).await.json();
    assert_eq!(refs(&second), ["t-4"]);
    assert_eq!(second.get("nextPageToken"), None);
}

#[tokio::test]
async fn every_bad_parameter_is_named_with_its_value_and_what_is_right() {
    let ports = start(sample()).await;
    let states = "use one or more of registered, atRisk, failing, invalid, pending, deregistering";
    for (query, error) in [
        ("state=broken", format!("state: \"broken\" is not a state; {states}")),
        ("state=", format!("state: \"\" is not a state; {states}")),
        ("state=failing,,invalid", format!("state: \"\" is not a state; {states}")),
        ("limit=0", "limit: \"0\" is not a page size; use a number from 1 to 500".to_owned()),
        ("limit=501", "limit: \"501\" is not a page size; use a number from 1 to 500".to_owned()),
        ("limit=-1", "limit: \"-1\" is not a page size; use a number from 1 to 500".to_owned()),
        ("limit=ten", "limit: \"ten\" is not a page size; use a number from 1 to 500".to_owned()),
        (
            "limit=99999999999999999999",
            "limit: \"99999999999999999999\" is not a page size; use a number from 1 to 500".to_owned(),
        ),
        ("limit=", "limit: \"\" is not a page size; use a number from 1 to 500".to_owned()),
        ("page=", "page: \"\" is empty; give nextPageToken of the page before, or leave it out".to_owned()),
        ("q=", "q: \"\" is empty; give a part of a ref, name or address, or leave it out".to_owned()),
        (
            "registrar=",
            "registrar: \"\" is not a host; use a host name or an IP address, without port".to_owned(),
        ),
        (
            "registrar=sip.example:5060",
            "registrar: \"sip.example:5060\" is not a host; use a host name or an IP address, without port"
                .to_owned(),
        ),
        (
            "limit=5&limit=6",
            "duplicate field `limit`; give it once".to_owned(),
        ),
        (
            "colour=red",
            "colour: unknown field `colour`, expected one of `registry`, `state`, `registrar`, `q`, `limit`, `page`".to_owned(),
        ),
        (
            "State=failing",
            "State: unknown field `State`, expected one of `registry`, `state`, `registrar`, `q`, `limit`, `page`".to_owned(),
        ),
    ] {
        let answer = get(ports.private, &format!("/registrations?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json(), json!({ "error": error }), "{query}");
    }
    assert_eq!(ports.world.lock().unwrap().lists, 0, "a bad request must not reach the engine");
    for host in ["2001:db8::1", "[2001:db8::1]", "192.0.2.7"] {
        assert_eq!(
            get(ports.private, &format!("/registrations?registrar={host}")).await.status,
            200,
            "{host}"
        );
    }
}

#[tokio::test]
async fn one_registration_by_its_ref() {
    let ports = start(vec![trunk("a/b c", "Odd"), trunk("t-1", "North")]).await;
    let odd = get(ports.private, "/registrations/a%2Fb%20c").await;
    assert_eq!((odd.status, odd.json()["name"].as_str()), (200, Some("Odd")));
    let answer = get(ports.private, "/registrations/t-9").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json()["error"],
        "there is no trunk with ref \"t-9\" and sendRegister: true; refs are listed by /registrations"
    );
}

#[tokio::test]
async fn refresh_queues_waits_or_refuses() {
    let ports = start(sample()).await;
    let refresh = async |reference: &str| {
        request(ports.private, &format!("POST /registrations/{reference}/refresh"), &[]).await
    };
    let queued = refresh("t-1").await;
    assert_eq!(queued.status, 202);
    assert_eq!(queued.json()["message"], "queued: the REGISTER goes out as soon as the budgets allow");
    let busy = refresh("t-4").await;
    assert_eq!(busy.status, 202);
    assert_eq!(busy.json()["message"], "a REGISTER is already in flight");
    let invalid = refresh("t-3").await;
    assert_eq!(invalid.status, 409);
    assert_eq!(
        invalid.json()["error"],
        "trunk \"t-3\" cannot be registered as configured: uris[0].host: is empty; give a host name"
    );
    assert_eq!(refresh("t-9").await.status, 404);
    assert_eq!(ports.world.lock().unwrap().refreshed, ["t-1", "t-4", "t-3", "t-9"]);
    let wrong = get(ports.private, "/registrations/t-1/refresh").await;
    assert_eq!(wrong.status, 405);
    assert!(wrong.json()["error"].as_str().unwrap().contains("POST /registrations/{ref}/refresh"));
}

#[tokio::test]
async fn web_pages_are_kept_out() {
    let ports = start(sample()).await;
    let refresh = "POST /registrations/t-1/refresh";
    for sign in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let answer = request(ports.private, refresh, &[sign]).await;
        assert_eq!(answer.status, 403, "{sign}");
    }
    for line in [refresh, "GET /registrations", "GET /summary"] {
        let rebound = request(ports.private, line, &["Host: evil.example:8081"]).await;
        assert_eq!(rebound.status, 403, "{line}");
        assert_eq!(
            rebound.json()["error"],
            "Host: \"evil.example:8081\" is not allowed on this port; use localhost or an IP address"
        );
    }
    let twice = request(ports.private, refresh, &["Host: localhost", "Host: evil.example"]).await;
    assert!((400..500).contains(&twice.status), "{twice:?}");
    assert!(ports.world.lock().unwrap().refreshed.is_empty());
    let local = request(ports.private, refresh, &["Host: localhost:8081"]).await;
    assert_eq!(local.status, 202);
}

#[tokio::test]
async fn a_port_opened_to_a_network_may_be_called_by_any_name_but_not_by_web_pages() {
    let (handle, _world, _engine) = engine(sample());
    let directory = Directory::of_one(RegistryName::plain("registry"), handle);
    let state = AdminState::new(directory, Metrics::new(NOW), Arc::new(Still));
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(None, Some(listener), state, shutdown.clone()));
    let host = "Host: registry.voip.svc:8081";
    assert_eq!(request(address, "GET /registrations", &[host]).await.status, 200);
    let page =
        request(address, "POST /registrations/t-1/refresh", &[host, "Origin: http://evil.example"]).await;
    assert_eq!(page.status, 403);
    shutdown.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_frees_the_ports() {
    let ports = start(sample()).await;
    // Kept open, without a request: it must not hold the shutdown up.
    let idle = tokio::net::TcpStream::connect(ports.private).await.unwrap();
    assert_eq!(get(ports.private, "/summary").await.status, 200);
    ports.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), ports.serving).await.unwrap().unwrap();
    drop(idle);
    let problem = tokio::net::TcpStream::connect(ports.private).await.unwrap_err();
    assert_eq!(problem.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// The clock is paused: tokio moves it on as soon as nothing else can happen.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_ends_its_request_is_cut() {
    let ports = start(sample()).await;
    let mut slow = tokio::net::TcpStream::connect(ports.public).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost:").await.unwrap();
    let before = tokio::time::Instant::now();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(10 * listen::HEAD_TIMEOUT, slow.read_to_end(&mut answer)).await.unwrap();
    let (earliest, latest) = (listen::HEAD_TIMEOUT, listen::HEAD_TIMEOUT + Duration::from_secs(5));
    assert!((earliest..latest).contains(&before.elapsed()), "{:?}", before.elapsed());
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

#[tokio::test]
async fn a_crowd_of_silent_connections_keeps_no_probe_waiting() {
    let ports = start(sample()).await;
    let mut idle = Vec::new();
    for _ in 0..connections::MAX_CONNECTIONS + 10 {
        idle.push(tokio::net::TcpStream::connect(ports.public).await.unwrap());
    }
    let probe = tokio::time::timeout(listen::HEAD_TIMEOUT / 2, get(ports.public, "/livez"));
    assert_eq!(probe.await.unwrap().status, 200);
    // The oldest had to go, the newest have not.
    let mut byte = [0];
    let closed = tokio::time::timeout(listen::HEAD_TIMEOUT / 2, idle[0].read(&mut byte));
    assert!(matches!(closed.await.unwrap(), Ok(0) | Err(_)));
    let newest = idle.last_mut().unwrap();
    newest.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    newest.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let problem = bind(address, "--admin-listen").await.unwrap_err().to_string();
    assert!(problem.starts_with(&format!("cannot listen on {address}: ")), "{problem}");
    assert!(problem.ends_with("; give another address with --admin-listen"), "{problem}");
}
