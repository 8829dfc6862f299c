//! The configuration file itself: edited well and badly, replaced, deleted, swapped as a ConfigMap is.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use nix::sys::signal::Signal;
use routr_registry::devstack::api::Rpc;
use tokio::time::Instant;

use super::SOON;
use super::test_registry::{TestRegistry, log, tells, told};
use crate::support::service::Service;
use crate::support::wait::wait_until;

const TOOK_OVER: &str = "applied the new configuration";
/// Period at which the service looks at its file.
const LOOK: Duration = Duration::from_secs(1);
const KEPT: &str = "keeping the old configuration: ";

/// A configuration that differs from the others in its interval.
fn interval(stage: &TestRegistry, seconds: u32) -> String {
    stage.config("").replace("registerInterval: 1s", &format!("registerInterval: {seconds}s"))
}

/// The service has looked at its file some times more: it does so once a second, as it reads the trunks.
async fn looks(stage: &TestRegistry) {
    let goal = stage.api.calls(Rpc::FindBy) + 3;
    wait_until(async || stage.api.calls(Rpc::FindBy) >= goal, SOON, "three more seconds of the service")
        .await;
}

async fn running(stage: &TestRegistry) -> Service {
    let service = stage.run(&[]);
    stage.settles(&[("a", "registered")]).await;
    service
}

#[tokio::test]
async fn an_edit_is_noticed_without_a_signal() {
    let stage = TestRegistry::with(&["a"]).await;
    let service = running(&stage).await;
    stage.write(&interval(&stage, 2));
    tells(&service, TOOK_OVER, 1).await;
    assert_eq!(stage.granted()["a"], 1);
}

#[tokio::test]
async fn a_bad_edit_keeps_the_old_configuration_is_told_once_and_a_good_one_follows() {
    let stage = TestRegistry::with(&["a"]).await;
    let mut service = running(&stage).await;
    stage.write(&(interval(&stage, 2) + "  registration:\n    expires: soon\n    userAgnt: x\n  cache: { provider: redis, parameters: 'password=hunter2,port=x' }\n"));
    tells(&service, KEPT, 1).await;
    looks(&stage).await;
    let told_once = told(&service, KEPT);
    assert_eq!(told_once.len(), 1);
    for mistake in
        ["has 3 mistakes:", "spec.registration.expires", "did you mean userAgent?", "spec.cache.parameters"]
    {
        assert!(told_once[0].contains(mistake), "{mistake} is not in: {}", told_once[0]);
    }
    // A signal has it logged again.
    service.signal(Signal::SIGHUP);
    tells(&service, KEPT, 2).await;
    assert_eq!(told(&service, TOOK_OVER).len(), 0);
    assert_eq!(stage.public("/livez").await.unwrap().0, 200);
    stage.write(&interval(&stage, 1));
    tells(&service, "the configuration is again as it was before the invalid edit", 1).await;
    stage.write(&interval(&stage, 3));
    tells(&service, TOOK_OVER, 1).await;
    service.signal(Signal::SIGHUP);
    tells(&service, "SIGHUP: the configuration has not changed", 1).await;
    assert_eq!(stage.granted()["a"], 1, "the trunk has not noticed any of it");
    service.assert_never_said("hunter2");
    stage.keeps_secrets(&service).await;
}

#[tokio::test]
async fn an_edit_that_cannot_be_put_into_use_is_told_once_too() {
    let stage = TestRegistry::with(&["a"]).await;
    let service = running(&stage).await;
    let ca = stage.dir.path().join("ca.pem");
    fs::write(&ca, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    stage.write(&stage.config("  cache: { provider: redis, parameters: 'secure=true,caFile=ca.pem' }\n"));
    tells(&service, KEPT, 1).await;
    looks(&stage).await;
    assert_eq!(told(&service, KEPT).len(), 1, "{:?}", told(&service, KEPT));
}

#[tokio::test]
async fn a_file_that_is_deleted_and_made_again_is_followed() {
    let stage = TestRegistry::with(&["a"]).await;
    let service = running(&stage).await;
    fs::remove_file(stage.path()).unwrap();
    tells(&service, KEPT, 1).await;
    looks(&stage).await;
    assert_eq!(told(&service, KEPT).len(), 1);
    stage.write(&interval(&stage, 2));
    tells(&service, TOOK_OVER, 1).await;
    // An editor writes another file and renames it.
    let draft = stage.dir.path().join("draft.yaml");
    fs::write(&draft, interval(&stage, 3)).unwrap();
    fs::rename(&draft, stage.path()).unwrap();
    tells(&service, TOOK_OVER, 2).await;
    assert_eq!(stage.granted()["a"], 1);
}

#[tokio::test]
async fn the_swap_of_a_mounted_config_map_is_followed() {
    let stage = TestRegistry::with(&["a"]).await;
    // registry.yaml -> ..data/registry.yaml, ..data -> a folder of its own for each version.
    let dir = stage.dir.path();
    let version = |name: &str, text: &str| {
        fs::create_dir(dir.join(name)).unwrap();
        fs::write(dir.join(name).join("registry.yaml"), text).unwrap();
    };
    version("..first", &interval(&stage, 1));
    symlink("..first", dir.join("..data")).unwrap();
    symlink("..data/registry.yaml", stage.path()).unwrap();
    let service = running(&stage).await;
    version("..second", &interval(&stage, 2));
    symlink("..second", dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    fs::remove_dir_all(dir.join("..first")).unwrap();
    tells(&service, TOOK_OVER, 1).await;
    assert_eq!(told(&service, KEPT), [""; 0]);
}

#[tokio::test]
async fn a_file_that_keeps_changing_is_taken_when_it_stays() {
    let stage = TestRegistry::with(&["a"]).await;
    let service = running(&stage).await;
    // Good YAML at every moment, and another configuration each time; only the last one stays.
    let lines: Vec<String> = (2..200).map(|n| interval(&stage, n)).collect();
    let (mut taken, mut paused, mut last) = (0, 0, Instant::now());
    let draft = stage.dir.path().join("draft.yaml");
    let mut texts = lines.iter().cycle();
    let goal = stage.api.calls(Rpc::FindBy) + 4;
    let keep_writing = async || {
        // In one step: what is on trial is that two looks must agree, not what an empty file means.
        fs::write(&draft, texts.next().unwrap()).unwrap();
        fs::rename(&draft, stage.path()).unwrap();
        // Where this thread is held up for so long, one version may have been there at two looks.
        paused += usize::from(last.elapsed() > LOOK / 2);
        last = Instant::now();
        taken = told(&service, TOOK_OVER).len();
        stage.api.calls(Rpc::FindBy) >= goal
    };
    wait_until(keep_writing, SOON, "four seconds of writing").await;
    assert!(taken <= paused, "{taken} versions were taken, {paused} may have stayed");
    stage.write(&interval(&stage, 777));
    tells(&service, TOOK_OVER, taken + 1).await;
    assert!(log(&service).iter().all(|line| line["level"] != "ERROR"));
}
