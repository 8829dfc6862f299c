//! Proves `support::control_plane`, so that the suites on top of it can trust what it says.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::control_plane::ControlPlane;
use crate::support::process::{Process, command};
use crate::support::wait::{PATIENCE, wait_at_pace, wait_for, wait_until};

const SOON: Duration = PATIENCE;

/// Gone, or a zombie that no one has collected yet.
fn ended(pid: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.is_empty() || state.contains(") Z ")
}

#[tokio::test]
async fn the_shared_one_is_ready_and_serves_the_resource() {
    let plane = ControlPlane::shared().await;
    assert_eq!(plane.kubectl(["get", "--raw", "/readyz"]).await.ok(), "ok");
    let names = plane.kubectl(["api-resources", "--api-group=routr.io", "--output=name"]).await.ok();
    assert_eq!(names, "registries.routr.io\n");
    assert!(plane.helm(["list", "--all-namespaces"]).await.ok().starts_with("NAME"));
    assert!(plane.url().starts_with("https://127.0.0.1:"));
    assert!(plane.bin().join("kube-apiserver").is_file());
    assert!(plane.kubeconfig().is_file());
    let home = plane.environment().into_iter().find(|(name, _)| *name == "HOME").unwrap().1;
    assert!(Path::new(&home).starts_with(plane.folder()), "nothing of the developer's own is touched");
}

#[tokio::test]
async fn a_service_account_may_do_what_rbac_grants_and_the_audit_log_tells() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("rbac").await;
    let manifest = format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: reader, namespace: {namespace}}}}}",
        namespace = namespace.name()
    );
    plane.kubectl_stdin(["apply", "-f", "-"], &manifest).await.ok();
    let config = plane.service_account_kubeconfig(&namespace, "reader").await;
    let config = format!("--kubeconfig={}", config.display());
    let within = format!("--namespace={}", namespace.name());

    let refused = plane.kubectl(["get", "secrets", &config, &within]).await.refused();
    let user = format!("system:serviceaccount:{}:reader", namespace.name());
    assert!(refused.contains("forbidden") && refused.contains(&user), "{refused}");
    let role = ["create", "role", "reader", "--verb=list", "--resource=secrets", &within];
    plane.kubectl(role).await.ok();
    let account = format!("--serviceaccount={}:reader", namespace.name());
    plane.kubectl(["create", "rolebinding", "reader", "--role=reader", &account, &within]).await.ok();
    let granted = async || {
        let answer = plane.kubectl(["get", "secrets", &config, &within]).await;
        if answer.success() { Ok(()) } else { Err(answer.to_string()) }
    };
    // RBAC hears of a new role by a watch of its own.
    wait_for(granted, SOON, "the role to take effect").await;

    let lists = plane.audit_of(&namespace, "reader");
    let lists: Vec<_> = lists.iter().filter(|access| access.resource == "secrets").collect();
    assert!(lists.iter().all(|access| access.verb == "list" && access.namespace == *namespace), "{lists:?}");
    assert_eq!((lists[0].code, lists[lists.len() - 1].code), (403, 200), "{lists:?}");
    assert!(lists[0].uri.contains("/secrets?"), "{lists:?}");
    assert_eq!((&*lists[0].group, &*lists[0].subresource, &*lists[0].name), ("", "", ""));
}

#[tokio::test]
async fn a_namespace_goes_with_its_guard() {
    let plane = ControlPlane::shared().await;
    let one = plane.namespace("guard").await;
    let two = plane.namespace("guard").await;
    assert_ne!(one.name(), two.name());
    let name = one.name().to_owned();
    drop(one);
    let gone = async || {
        let answer = plane.kubectl(["get", "namespace", &name]).await;
        if answer.stderr.contains("NotFound") { Ok(()) } else { Err(answer.to_string()) }
    };
    wait_at_pace(Duration::from_millis(250), gone, SOON, "the namespace to be deleted").await;
    plane.kubectl(["get", "namespace", two.name()]).await.ok();
}

#[tokio::test]
async fn the_api_server_comes_back_on_its_port_with_its_data_and_nothing_is_left_in_the_end() {
    let plane = ControlPlane::start().await;
    let url = plane.url();
    plane.kubectl(["create", "configmap", "kept", "--from-literal=key=value"]).await.ok();
    plane.kill_api_server().await;
    let refused = plane.kubectl(["get", "configmap", "kept"]).await.refused();
    assert!(refused.contains("refused"), "{refused}");
    plane.start_api_server().await;
    assert_eq!(plane.url(), url);
    let kept = plane.kubectl(["get", "configmap", "kept", "--output=json"]).await.json();
    assert_eq!(kept["data"]["key"], "value");

    plane.pause_api_server().await;
    let args = ["get", "configmap", "kept", "--request-timeout=500ms"];
    let refused = plane.kubectl(args).await.refused();
    assert!(
        refused.contains("imeout") || refused.contains("deadline") || refused.contains("imed out"),
        "{refused}"
    );
    plane.resume_api_server().await;
    plane.kubectl(["get", "configmap", "kept"]).await.ok();

    let (pids, folder) = (plane.pids().await, plane.folder().to_owned());
    assert!(!pids.into_iter().any(ended));
    drop(plane);
    assert!(pids.into_iter().all(ended));
    assert!(!folder.exists());
}

/// The test below runs this in a process of its own.
#[tokio::test]
#[ignore = "it waits to be killed"]
async fn holds_one() {
    let plane = ControlPlane::start().await;
    println!("\nheld {:?} {}", plane.pids().await, plane.folder().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_test_process_that_is_killed_takes_it_along() {
    let dir = TempDir::new().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut command = command(program.to_str().unwrap());
    command.args(["control_plane_harness::holds_one", "--exact", "--ignored", "--nocapture"]);
    let mut process = Process::spawn("a test process", command, &dir.path().join("output.log"));
    let held = async || {
        let output = process.output();
        let line = output.lines().find_map(|line| line.strip_prefix("held [")).map(str::to_owned);
        match process.status() {
            Some(status) => panic!("it ended with {status}: {output}"),
            None => line.ok_or(output),
        }
    };
    let held = wait_for(held, Duration::from_secs(120), "the control plane to be held").await;
    let (pids, folder) = held.split_once("] ").unwrap();
    let pids: Vec<i32> = pids.split(", ").map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    assert!(!pids.iter().copied().any(ended));
    process.signal(Signal::SIGKILL);
    process.exit(SOON).await;
    wait_until(async || pids.iter().copied().all(ended), SOON, "the control plane to end").await;
    wait_until(async || !Path::new(folder).exists(), SOON, "its folder to be removed").await;
}
