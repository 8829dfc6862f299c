//! Use of a Registry's Secret, and access to the memory that it ends in.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::operator::harness::{Installation, SOON, TestRegistry, condition};
use crate::support::control_plane::ControlPlane;
use crate::support::ports;
use crate::support::service::Service;
use crate::support::wait::wait_until;

const TOKEN: &str = "0f5a-first-token-of-the-secret";
const NEXT_TOKEN: &str = "91c2-second-token-of-the-secret";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_a_secret_is_shown_to_the_requester_and_followed() {
    let cluster = Installation::on(ControlPlane::shared().await, "token", &[]).await;
    let mut stage = TestRegistry::bare().await;
    stage.trunks(&["alice"]);
    stage.start_api().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, TOKEN).unwrap();
    let listen = format!("127.0.0.1:{}", stage.requester_port);
    let args = ["requester", "--listen", &listen, "--sip-bind", "127.0.0.1"];
    let requester = Service::start(args.into_iter().chain(["--token-file", file.to_str().unwrap()]), &[]);
    let secret = async |token: &str| {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "requester" }, "stringData": { "token": token },
        });
        cluster.apply_manifest(&secret.to_string()).await;
    };
    secret(TOKEN).await;
    let operator = cluster.start("pod-a");
    let more =
        "  requesterTokenSecretRef: { name: requester, key: token }\n  registration: { expires: 10s }\n";
    cluster.apply("main", &stage, more).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;

    // Only the other one is taken now: the Registry says so, and shows it as soon as the Secret has it.
    fs::write(&file, NEXT_TOKEN).unwrap();
    let status = cluster
        .status("main", "the token to be refused", |status| status.to_string().contains("wrong token"))
        .await;
    assert_ne!(condition(&status, "RequesterReachable")["status"], "Unknown", "{status:#}");
    secret(NEXT_TOKEN).await;
    let granted = stage.granted()["alice"];
    cluster.condition("main", "Ready", "True", "AllRegistered").await;
    wait_until(async || stage.granted()["alice"] > granted, SOON, "a refresh with the new token").await;
    let shown = cluster.registry("main").await.to_string() + &operator.service.output() + &requester.output();
    assert!(![TOKEN, NEXT_TOKEN].iter().any(|token| shown.contains(token)), "a token is shown");
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The kernel gives the files of a process that must not be dumped to root (proc(5)): other processes of its
/// user cannot attach to it, or read its memory.
#[tokio::test]
async fn no_other_process_of_its_user_can_read_its_memory() {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let own = fs::metadata(folder.path()).unwrap().uid();
    // Root's are root's in any case.
    let user = if own == 0 { 65_534 } else { own };
    let program = folder.path().join("routr-registry");
    fs::copy(env!("CARGO_BIN_EXE_routr-registry"), &program).unwrap();
    let port = ports::free();
    let listen = format!("127.0.0.1:{port}");
    let start = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).env_clear().current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        if own == 0 {
            command.uid(user).gid(user);
        }
        Running(command.spawn().unwrap())
    };
    let other = start("/bin/sleep", &["60"]);
    let requester = start(program.to_str().unwrap(), &["requester", "--listen", &listen]);
    let listens = async || TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    wait_until(listens, SOON, "the Requester to listen").await;
    let owner = |running: &Running| fs::metadata(format!("/proc/{}/mem", running.0.id())).unwrap().uid();
    assert_eq!((owner(&other), owner(&requester)), (user, 0));
}
