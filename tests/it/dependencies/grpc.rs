//! gRPC as it is run: a Requester whose calls fail for some trunks, connections that hang, and proxies in
//! between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use routr_registry::devstack::registrar::{Registrar, RegistrarOptions};
use routr_registry::proto::requester::requester_server::{Requester, RequesterServer};
use routr_registry::proto::requester::{SendMessageRequest, SendMessageResponse};
use routr_registry::requester;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::standalone::fake::{ok, to};
use crate::standalone::test_registry::{PASSWORD, TestRegistry, listen, told};
use crate::support::proxy::Proxy;
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, wait_for, wait_until};

const SOON: Duration = PATIENCE;
/// Expiry that the registrar grants, in seconds. With `registerInterval: 8s` the refresh comes after 6.4 to 8
/// s, and has as much to spare on a busy machine.
const GRANTED: u32 = 16;

/// The names of the twenty trunks.
pub fn names() -> Vec<String> {
    (0..20).map(|n| format!("t{n:02}")).collect()
}

/// A registrar that grants 16 s, an API server, twenty trunks.
async fn stage() -> (TestRegistry, DropGuard) {
    granting(GRANTED).await
}

/// A registrar that grants `seconds` seconds, an API server, twenty trunks.
pub async fn granting(seconds: u32) -> (TestRegistry, DropGuard) {
    let end = CancellationToken::new();
    let mut options = RegistrarOptions::default().account("nobody", PASSWORD);
    options.expiry.max = seconds;
    options.expiry.default = seconds;
    let mut stage = TestRegistry::bare().await;
    stage.registrar = Registrar::start(options, end.clone()).await.unwrap();
    let names = names();
    stage.trunks(&names.iter().map(String::as_str).collect::<Vec<_>>());
    stage.start_api().await;
    (stage, end.drop_guard())
}

/// A Requester that is patient with a registrar on a busy machine, until this is dropped.
pub async fn start_requester(stage: &TestRegistry) -> DropGuard {
    let end = CancellationToken::new();
    let options = requester::Options {
        answer_within: Duration::from_secs(20),
        grace: Duration::ZERO,
        ..requester::Options::default()
    };
    let listener = listen(stage.requester_port).await;
    tokio::spawn(requester::serve(listener, options, end.clone()));
    end.drop_guard()
}

/// Runs a registry that reaches the Requester by another port.
pub fn run_through(stage: &TestRegistry, port: u16) -> Service {
    let direct = format!("requesterAddr: 127.0.0.1:{}", stage.requester_port);
    let text = stage.config("  registration: {ratePerRegistrar: unlimited}\n");
    assert!(text.contains(&direct));
    let text = text.replace("registerInterval: 1s", "registerInterval: 8s");
    stage.write(&text.replace(&direct, &format!("requesterAddr: 127.0.0.1:{port}")));
    stage.run(&[])
}

/// Waits until all trunks but these are registered.
pub async fn all_registered(stage: &TestRegistry, but: &BTreeSet<String>) {
    let look = async || {
        let views = stage.views().await?;
        let states = |wanted: &str| {
            let all = views.iter().filter(|(_, view)| view["state"] == wanted);
            all.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
        };
        let good: BTreeSet<String> = names().into_iter().filter(|name| !but.contains(name)).collect();
        if states("registered") == good { Ok(()) } else { Err(format!("{views:?}")) }
    };
    wait_for(look, SOON, "all good trunks to be registered").await;
}

/// Asserts that connections which end in order all the time are no event.
async fn ends_in_order_are_no_event(proxy: impl AsyncFnOnce(u16) -> Proxy) {
    let (stage, _end) = stage().await;
    let _requester = start_requester(&stage).await;
    let proxy = proxy(stage.requester_port).await;
    let service = run_through(&stage, proxy.port());
    all_registered(&stage, &BTreeSet::new()).await;
    let since = stage.registrar.elapsed();
    // Some refreshes each.
    let enough = async || {
        let granted = stage.granted();
        if names().iter().all(|name| granted.get(name).is_some_and(|times| *times >= 4)) {
            Ok(())
        } else {
            Err(format!("{granted:?} {}", proxy.output()))
        }
    };
    wait_for(enough, SOON, "three refreshes of each trunk").await;
    for name in names() {
        let granted =
            stage.registrar.log().into_iter().filter(|seen| seen.user == name && seen.code == Some(200));
        let times: Vec<Duration> = granted.map(|seen| seen.at).collect();
        for pair in times.windows(2) {
            let between = pair[1].saturating_sub(pair[0]);
            assert!(between < Duration::from_secs(u64::from(GRANTED)), "{name} expired, at {times:?}");
        }
        // None is refreshed early: by the time that has passed, and from 6.4 s after the one before on. An
        // end that were an event would cost a REGISTER each time.
        let passed = stage.registrar.elapsed() - since;
        let later = times.iter().filter(|at| **at > since).count();
        assert!(later as f64 <= passed.as_secs_f64() / 6.4 + 1.0, "{name} was refreshed early, at {times:?}");
    }
    for event in ["restarted", "Requester fails", "hangs", "Requester responds again"] {
        assert_eq!(told(&service, event), Vec::<String>::new());
    }
    let views = stage.views().await.unwrap();
    assert!(views.values().all(|view| view["failures"] == 0), "{views:?}");
}

#[tokio::test]
async fn g3_nginx_that_ends_connections_in_order_costs_no_register() {
    ends_in_order_are_no_event(Proxy::nginx).await;
}

#[tokio::test]
async fn g3_haproxy_that_ends_connections_in_order_costs_no_register() {
    ends_in_order_are_no_event(Proxy::haproxy).await;
}

#[tokio::test]
async fn g6_a_proxy_that_responds_502_is_named_with_its_status() {
    let (stage, _end) = stage().await;
    let proxy = Proxy::nginx(stage.requester_port).await;
    let service = run_through(&stage, proxy.port());
    let named = async || {
        let views = stage.views().await?;
        let message =
            |view: &serde_json::Value| view["failure"]["message"].as_str().unwrap_or_default().to_owned();
        let said: Vec<String> = views.values().map(message).filter(|said| !said.is_empty()).collect();
        match said.first() {
            Some(said) if said.contains("HTTP 502 from the proxy in front of the Requester") => Ok(()),
            _ => Err(format!("{said:?}")),
        }
    };
    wait_for(named, SOON, "the proxy's 502 to be named").await;
    let down = async || match stage.public("/readyz").await? {
        (503, text) if text.contains("HTTP 502 from the proxy") => Ok(()),
        (_, text) => Err(text),
    };
    wait_for(down, SOON, "/readyz to name it too").await;
    assert!(!service.output().contains("compression"), "{}", service.output());
    let _requester = start_requester(&stage).await;
    all_registered(&stage, &BTreeSet::new()).await;
}

#[tokio::test]
async fn g6_a_proxy_without_a_backend_is_named_by_haproxys_503_too() {
    let (stage, _end) = stage().await;
    let proxy = Proxy::haproxy(stage.requester_port).await;
    run_then_named(&stage, proxy.port(), "HTTP 503 from the proxy in front of the Requester").await;
}

async fn run_then_named(stage: &TestRegistry, port: u16, words: &str) {
    let _service = run_through(stage, port);
    let named = async || match stage.public("/readyz").await? {
        (503, text) if text.contains(words) => Ok(()),
        (_, text) => Err(text),
    };
    wait_for(named, SOON, words).await;
}

/// A Requester that grants a minute, but for these users, whose calls get a status.
struct Partial {
    failing: BTreeSet<String>,
    status: fn() -> Status,
    calls: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Requester for Partial {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        if self.failing.contains(&to(request.get_ref())) {
            self.calls.fetch_add(1, Ordering::Relaxed);
            return Err((self.status)());
        }
        Ok(Response::new(SendMessageResponse { message: Some(ok(60)) }))
    }
}

#[tokio::test]
async fn g1_trunks_whose_calls_get_a_status_stop_nobody_else() {
    let statuses: [fn() -> Status; 5] = [
        || Status::unavailable("no healthy upstream"),
        || Status::unknown("no key store"),
        || Status::internal("a bug"),
        || Status::resource_exhausted("quota"),
        || Status::cancelled("by the proxy"),
    ];
    for (n, status) in statuses.into_iter().enumerate() {
        let (stage, _end) = stage().await;
        let failing: BTreeSet<String> = names().into_iter().take(if n == 1 { 19 } else { 3 }).collect();
        let calls = Arc::new(AtomicUsize::new(0));
        let partial = Partial { failing: failing.clone(), status, calls: calls.clone() };
        let end = CancellationToken::new();
        let incoming = TcpIncoming::from(listen(stage.requester_port).await);
        let server = tonic::transport::Server::builder().add_service(RequesterServer::new(partial));
        tokio::spawn(server.serve_with_incoming_shutdown(incoming, end.clone().cancelled_owned()));
        let _server = end.drop_guard();
        let began = stage.registrar.elapsed();
        let service = run_through(&stage, stage.requester_port);
        all_registered(&stage, &failing).await;
        if failing.len() == 3 {
            assert_eq!(told(&service, "Requester fails"), Vec::<String>::new());
            // Three tries at once, and later ones by the time that has passed; without a pause there would be
            // hundreds.
            let most = 9 + 3 * (stage.registrar.elapsed() - began).as_secs() / 5;
            let calls = calls.load(Ordering::Relaxed) as u64;
            assert!(calls <= most, "they back off: {calls} calls, {most} at most");
        }
    }
}

/// Passes bytes on between the program and the Requester, until it hangs: then connections that there are
/// pass nothing on any more, and new ones work.
async fn hanging_proxy(upstream: u16) -> (u16, watch::Sender<u64>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let hang = watch::Sender::new(0_u64);
    let accepted = Arc::new(AtomicUsize::new(0));
    let (hangs, count) = (hang.clone(), accepted.clone());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut hung = hangs.subscribe();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                    _ = hung.changed() => {}
                }
                // Both stay open; the kernel acknowledges what comes.
                std::future::pending::<()>().await;
            });
        }
    });
    (port, hang, accepted)
}

#[tokio::test]
async fn g2_a_connection_that_hangs_is_replaced_while_new_ones_work() {
    let (stage, _end) = stage().await;
    let _requester = start_requester(&stage).await;
    let (port, hang, accepted) = hanging_proxy(stage.requester_port).await;
    let service = run_through(&stage, port);
    all_registered(&stage, &BTreeSet::new()).await;
    let before = accepted.load(Ordering::Relaxed);
    hang.send_modify(|times| *times += 1);
    let since = stage.registrar.elapsed();
    let again = async || {
        let log = stage.registrar.log().into_iter();
        let late: BTreeSet<String> =
            log.filter(|seen| seen.at > since && seen.code == Some(200)).map(|seen| seen.user).collect();
        if late.len() == names().len() { Ok(()) } else { Err(format!("only {late:?}")) }
    };
    wait_for(again, SOON, "all trunks to be refreshed by another connection").await;
    assert!(!told(&service, "hangs: replacing it").is_empty(), "{}", service.output());
    assert_eq!(told(&service, "the Requester restarted"), Vec::<String>::new());
    let made = accepted.load(Ordering::Relaxed) - before;
    assert!((1..=6).contains(&made), "{made} connections in the place of two");
    all_registered(&stage, &BTreeSet::new()).await;
}

#[tokio::test]
async fn g2_the_connection_to_the_api_server_is_replaced_too() {
    let (stage, _end) = stage().await;
    let _requester = start_requester(&stage).await;
    let (port, hang, _) = hanging_proxy(stage.api_port).await;
    let direct = format!("apiAddr: 127.0.0.1:{}", stage.api_port);
    let text = stage.config("");
    assert!(text.contains(&direct));
    stage.write(&text.replace(&direct, &format!("apiAddr: 127.0.0.1:{port}")));
    let _service = stage.run(&[]);
    all_registered(&stage, &BTreeSet::new()).await;
    hang.send_modify(|times| *times += 1);
    let mut trunks: Vec<_> = names().iter().map(|name| stage.trunk(name)).collect();
    trunks.push(stage.trunk("late"));
    stage.api.set_trunks(trunks);
    let seen = async || stage.views().await.is_ok_and(|views| views.contains_key("late"));
    wait_until(seen, SOON, "a trunk that was added after the connection hung").await;
}
