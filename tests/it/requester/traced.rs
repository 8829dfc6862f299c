//! `requester trace` against a Requester that runs, with a Kamailio as registrar.

use std::fs;

use tempfile::TempDir;
use tokio::process::Command;

use super::serve_alice;
use crate::field::harness::PASSWORD;
use crate::support::kamailio::{Kamailio, Options, User};
use crate::support::ports;
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, wait_until};

/// Runs `requester trace` with the environment that the Requester has, as `docker exec` does.
async fn trace(http: &str, args: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routr-registry"));
    command.args(["requester", "trace", "--url", &format!("http://{http}")]).args(args);
    command.env_clear().envs([("BIND_ADDR", "0.0.0.0:51909"), ("REQUESTER_HTTP_LISTEN", http)]);
    let done = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.success(), text(done.stdout), text(done.stderr))
}

#[tokio::test]
async fn the_last_messages_of_a_user_are_printed_without_a_secret() {
    let kamailio = Kamailio::start(Options::with_users([User::new("alice", PASSWORD)])).await;
    let [api_port, requester, http, public, private] = [(); 5].map(|()| ports::free());
    let _api = serve_alice(&kamailio, api_port).await;
    let [requester, http, public, private] =
        [requester, http, public, private].map(|port| format!("127.0.0.1:{port}"));

    let (ok, out, problem) = trace(&http, &[]).await;
    assert!(!ok && out.is_empty(), "{out}");
    assert!(problem.contains(&format!("no response from http://{http}: ")), "{problem}");
    assert!(problem.contains("refused") && problem.contains("--http-listen"), "{problem}");

    let args = ["requester", "--listen", &*requester, "--http-listen", &*http, "--sip-bind", "127.0.0.1"];
    let traced = Service::start([&args[..], &["--trace"]].concat(), &[]);
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("registry.yaml");
    let text = format!(
        "kind: Registry\napiVersion: v2beta1\nspec:\n  apiAddr: localhost:{api_port}\n  requesterAddr: {requester}\n  \
         edgePorts: [{{ address: sip.example.com }}]\n"
    );
    fs::write(&file, text).unwrap();
    let run = ["run", "--config", file.to_str().unwrap(), "--listen", &public, "--admin-listen", &private];
    let _registry = Service::start(run, &[]);
    wait_until(async || trace(&http, &[]).await.1.contains("SIP/2.0 200 OK"), PATIENCE, "the binding").await;

    let (ok, out, problem) = trace(&http, &["--user", "alice", "--registrar", "127.0.0.1"]).await;
    assert!(ok && problem.is_empty(), "{problem}");
    let order = [
        "sent to 127.0.0.1:",
        "REGISTER sip:",
        "SIP/2.0 401 ",
        "nonce=***",
        "Authorization: Digest ",
        "SIP/2.0 200 OK",
    ];
    let mut rest = &*out;
    for part in order {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("{part} in its turn in:\n{out}")).1;
    }
    for secret in [PASSWORD, "nonce=\"", "response=\""] {
        assert!(!out.contains(secret), "{secret} in:\n{out}");
    }
    let (ok, out, problem) = trace(&http, &["--user", "bob"]).await;
    assert!(ok && out.is_empty() && problem.contains("no message yet"), "{out}{problem}");

    drop(traced);
    wait_until(async || trace(&http, &[]).await.2.contains("refused"), PATIENCE, "its end").await;
    let _silent = Service::start(args, &[]);
    let off = async || trace(&http, &[]).await.2.contains("start the Requester with --trace");
    wait_until(off, PATIENCE, "a Requester without a trace").await;
}
