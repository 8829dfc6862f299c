//! In the place of Routr's own Requester, and in the registry's own process.

use std::fs;

use tempfile::TempDir;

use super::serve_alice;
use crate::field::harness::PASSWORD;
use crate::support::kamailio::{Kamailio, Options, User};
use crate::support::process::{self, Process};
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, wait_for, wait_until};
use crate::support::{http, ports};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

fn spawn(dir: &TempDir, env: &[(&str, &str)], args: &[&str]) -> Process {
    let mut command = process::command(env!("CARGO_BIN_EXE_routr-registry"));
    command.arg("requester").args(args).env_clear().envs(env.iter().copied());
    Process::spawn("the Requester", command, &dir.path().join("output.log"))
}

#[tokio::test]
async fn probes_metrics_and_the_health_service_of_grpc() {
    let dir = TempDir::new().unwrap();
    let [port, http_port] = [(); 2].map(|()| ports::free());
    for (variable, expected) in [("true", 200), ("false", 404)] {
        let (bind, http_listen) = (format!("0.0.0.0:{port}"), format!("127.0.0.1:{http_port}"));
        let env = [
            ("BIND_ADDR", &*bind),
            ("REQUESTER_HTTP_LISTEN", &*http_listen),
            ("ENABLE_HEALTHCHECKS", variable),
        ];
        let mut requester = spawn(&dir, &env, &[]);
        let get = async |path: &str| http::get(&format!("http://{http_listen}{path}")).await;
        wait_for(async || get("/livez").await, PATIENCE, "the probes").await;
        for (path, code) in [("/healthz", expected), ("/livez", 200), ("/readyz", 200), ("/metrics", 200)] {
            let (status, body) = get(path).await.unwrap();
            assert_eq!(status.as_u16(), code, "{path}: {body:?}");
        }
        let (_, body) = get("/metrics").await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("routr_requester_calls_in_flight 0"), "{text}");
        let channel =
            Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap();
        let mut client = HealthClient::new(channel);
        let response = client.check(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(response.status(), ServingStatus::Serving);
        let log = requester.output();
        assert!(log.contains("anything that reaches port"), "who can reach it:\n{log}");
        requester.terminate(PATIENCE).await;
        wait_until(async || ports::is_free(port), PATIENCE, "the port to be free").await;
    }
}

#[tokio::test]
async fn the_requester_runs_in_the_registrys_process() {
    let kamailio = Kamailio::start(Options::with_users([User::new("alice", PASSWORD)])).await;
    let [api_port, requester, public, private] = [(); 4].map(|()| ports::free());
    let _api = serve_alice(&kamailio, api_port).await;
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("registry.yaml");
    let text = |host: &str| {
        format!(
            "kind: Registry\napiVersion: v2beta1\nspec:\n  apiAddr: localhost:{api_port}\n  requesterAddr: {host}:{requester}\n  \
             edgePorts: [{{ address: sip.example.com }}]\n"
        )
    };
    fs::write(&file, text("localhost")).unwrap();
    let listen = [public, private].map(|port| format!("127.0.0.1:{port}"));
    let args = |flag: &'static str| {
        let file = file.to_str().unwrap();
        ["run", "--config", file, "--listen", &listen[0], "--admin-listen", &listen[1], flag]
            .map(str::to_owned)
    };
    // What is there for a Requester of its own does not open this one.
    let service = Service::start(args("--requester=--sip-bind 127.0.0.1"), &[("BIND_ADDR", "0.0.0.0:51909")]);
    let registered = async || {
        let bindings = kamailio.bindings().await;
        bindings.iter().any(|binding| binding.contact == "sip:alice@sip.example.com:5060;transport=udp")
    };
    wait_until(registered, PATIENCE, "the binding").await;
    assert!(service.output().contains("any process of this machine"), "{}", service.output());
    drop(service);

    fs::write(&file, text("elsewhere.example")).unwrap();
    let refused = Service::start(args("--requester"), &[]);
    wait_until(async || refused.output().contains("write localhost:51909"), PATIENCE, "the reason").await;
}
