//! Proves the rest of `support`: the built program as a process, and Redis.

use std::time::Duration;

use tempfile::TempDir;

use crate::support::process::{Process, command, left};
use crate::support::redis::{Options, Redis};
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, wait_for, wait_until};
use crate::support::{http, ports};

const SOON: Duration = PATIENCE;

fn shell(script: &str, dir: &TempDir) -> Process {
    let mut command = command("sh");
    command.args(["-c", script]);
    Process::spawn("sh", command, &dir.path().join("output.log"))
}

#[tokio::test]
async fn the_built_program_runs_and_runs_again() {
    let mut service = Service::start(["--help"], &[("LOGS_LEVEL", "info")]);
    assert!(service.exit(SOON).await.success());
    let first = service.output();
    service.restart();
    assert!(service.exit(SOON).await.success());
    assert_eq!(service.output(), first.repeat(2), "the output of both runs is kept");
    assert!(service.pid() > 0);
}

#[tokio::test]
#[should_panic(expected = "no-such-program is not installed: `make setup`")]
async fn a_program_that_is_not_there_is_explained() {
    command("no-such-program");
}

#[tokio::test]
async fn sigterm_reaches_the_leader_and_its_output_is_kept() {
    let dir = TempDir::new().unwrap();
    let mut process =
        shell("trap 'echo ending >&2; exit 3' TERM; echo ready; while :; do sleep 0.01; done", &dir);
    wait_until(async || process.output().contains("ready"), SOON, "the shell to be ready").await;
    assert_eq!(process.terminate(SOON).await.code(), Some(3));
    assert_eq!(process.output(), "ready\nending\n");
}

#[tokio::test]
async fn kill_reaches_what_the_child_forked() {
    let dir = TempDir::new().unwrap();
    let mut process = shell("sleep 600 & echo child $!; wait", &dir);
    let child = async || {
        let output = process.output();
        output.strip_prefix("child ").and_then(|rest| rest.trim_end().parse::<i32>().ok()).ok_or(output)
    };
    let child = wait_for(child, SOON, "the id of the child").await;
    process.kill().await;
    let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    // Gone, or a zombie that init has not collected yet.
    let ended = async || state().is_empty() || state().contains(") Z ");
    wait_until(ended, SOON, "the child to end with its parent").await;
}

#[tokio::test]
#[should_panic(expected = "gave away the secret")]
async fn a_secret_in_the_output_is_found() {
    let dir = TempDir::new().unwrap();
    let mut process = shell("echo harmless; echo password=hunter2 >&2", &dir);
    process.exit(SOON).await;
    process.assert_never_said("hunter3");
    process.assert_never_said("hunter2");
}

#[tokio::test]
#[should_panic(expected = "last seen: two of three")]
async fn waiting_in_vain_says_what_was_seen() {
    wait_for(async || Err::<(), _>("two of three"), Duration::from_millis(30), "all three").await;
}

#[tokio::test]
async fn redis_keeps_its_port_and_its_data_only_when_asked_to() {
    for persistent in [true, false] {
        let mut redis = Redis::start(Options { password: "redis-password".to_owned(), persistent }).await;
        let port = redis.port();
        assert_eq!(redis.command("SET key value").await.as_deref(), Ok("+OK"));
        redis.kill().await;
        assert!(redis.command("PING").await.is_err());
        redis.restart().await;
        assert_eq!(redis.port(), port);
        let kept = if persistent { "$5" } else { "$-1" };
        assert_eq!(redis.command("GET key").await.as_deref(), Ok(kept));
        redis.stop().await;
        assert!(ports::is_free(port));
    }
}

#[tokio::test]
async fn a_paused_redis_says_nothing() {
    let mut redis = Redis::start(Options::default()).await;
    redis.pause();
    assert!(redis.is_silent().await);
    redis.resume();
    assert_eq!(redis.command("PING").await.as_deref(), Ok("+PONG"));
    redis.pause();
    redis.restart().await;
}

#[tokio::test]
async fn the_http_client_reports_what_is_not_there() {
    let error = http::get(&format!("http://127.0.0.1:{}/", ports::free())).await.unwrap_err();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_group_is_left_until_its_last_process_has_ended() {
    let dir = TempDir::new().unwrap();
    let mut sleeper = command("sleep");
    sleeper.arg("60");
    let mut process = Process::spawn("sleep", sleeper, &dir.path().join("output.log"));
    assert!(left().contains(&process.pid()));
    process.kill().await;
    assert!(!left().contains(&process.pid()));
}
