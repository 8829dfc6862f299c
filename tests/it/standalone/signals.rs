//! End of the service, by signals.

use std::os::unix::process::ExitStatusExt as _;

use nix::sys::signal::Signal;

use super::SOON;
use super::fake::FakeRequester;
use super::test_registry::{TestRegistry, tells, told};
use crate::support::ports;
use crate::support::redis::{Options, Redis};
use crate::support::service::Service;
use crate::support::wait::{wait_for, wait_until};

#[tokio::test]
async fn sigterm_and_sigint_end_it_cleanly_and_leave_the_bindings() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let stage = TestRegistry::with(&["a", "b"]).await;
        let mut service = stage.run(&[]);
        stage.settles(&[("a", "registered"), ("b", "registered")]).await;
        service.signal(signal);
        assert_eq!(service.exit(SOON).await.code(), Some(0), "{}", service.output());
        // Nothing was in flight: no grace was waited for.
        assert_eq!(told(&service, "no longer waiting for responses"), [""; 0]);
        assert_eq!(told(&service, "stopped").len(), 1);
        assert!(ports::is_free(stage.public) && ports::is_free(stage.private));
        let bindings = stage.registrar.bindings();
        assert_eq!(bindings.len(), 2, "a restart de-registers nothing");
        assert!(bindings.values().all(|contacts| contacts.len() == 1), "{bindings:?}");
    }
}

/// A service with a request in flight that never gets a response.
async fn hanging(grace: &str) -> (TestRegistry, FakeRequester, Service) {
    let mut stage = TestRegistry::bare().await;
    stage.trunks(&["a"]);
    stage.start_api().await;
    let requester = FakeRequester::start(stage.requester_port, |_| None).await;
    let service = stage.run_with(&["--grace", grace], &[]);
    wait_until(async || !requester.seen().is_empty(), SOON, "a REGISTER in flight").await;
    (stage, requester, service)
}

#[tokio::test]
async fn a_silent_registrar_does_not_hold_it_beyond_its_grace() {
    let (_stage, _requester, mut service) = hanging("1").await;
    assert_eq!(service.terminate(SOON).await.code(), Some(0));
    // It says so when its grace has passed. That it waits at all shows in the next test.
    assert_eq!(told(&service, "no longer waiting for responses").len(), 1);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (_stage, _requester, mut service) = hanging("600").await;
    service.signal(Signal::SIGTERM);
    tells(&service, "shutting down", 1).await;
    assert_eq!(service.status(), None, "it waits for the answer");
    // Without it the ten minutes of its grace would be over first.
    assert_eq!(service.terminate(SOON).await.code(), Some(143));
    assert_eq!(told(&service, "second signal").len(), 1);
}

#[tokio::test]
async fn it_hears_signals_while_it_starts() {
    let stage = TestRegistry::with(&["a"]).await;
    let mut redis = Redis::start(Options::default()).await;
    redis.pause();
    let cache =
        format!("  cache: {{ provider: redis, parameters: 'port={},host=127.0.0.1' }}\n", redis.port());
    stage.write(&stage.config(&cache));
    let mut service = stage.run(&[]);
    tells(&service, "starting", 1).await;
    service.signal(Signal::SIGHUP);
    assert_eq!(service.terminate(SOON).await.code(), Some(0), "{}", service.output());
    redis.resume();
}

#[tokio::test]
async fn ctrl_c_ends_the_clients_at_once() {
    // Takes the connection and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for args in [&["trunks"][..], &["trunks", "--watch"], &["refresh", "a"]] {
        let mut client = Service::start(args.iter().copied(), &[("ROUTR_REGISTRY_URL", &url)]);
        let (_connection, _) = listener.accept().await.unwrap();
        client.signal(Signal::SIGINT);
        let ended =
            wait_for(async || client.status().ok_or("still runs"), SOON, "the end of the client").await;
        // By the signal, not by its own deadline for a response, which is an error; `--watch` ends its screen
        // in order.
        assert!(ended.signal() == Some(2) || ended.success(), "{args:?}: {ended:?}: {}", client.output());
    }
}
