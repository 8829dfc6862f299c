//! The Registry that the values ask for, on a real API server: made, changed, let go of, taken back, and
//! never deleted.

use super::cluster::{SPEC, served};
use super::{CHART, RELEASE};
use crate::support::control_plane::ControlPlane;

#[tokio::test]
async fn helm_makes_and_changes_it_and_never_deletes_it() {
    let plane = ControlPlane::start().await;
    plane.kubectl(["create", "namespace", "voice"]).await.ok();
    let spec = format!("--set-json=registry.spec={SPEC}");
    let helm = async |verb: &str, more: &[&str]| {
        let args = [&[verb, RELEASE, CHART, "--namespace=voice", &spec], more].concat();
        plane.helm(args).await.ok()
    };
    let get = async |field: &str| {
        let output = format!("--output=jsonpath={{{field}}}");
        plane.kubectl(["get", "registry", "default", "--namespace=voice", &output]).await.ok()
    };
    let on = "--set=registry.enabled=true";

    // The first time the API server does not know the kind: the release is good, and says what is missing.
    let said = helm("install", &[on]).await;
    assert!(said.contains("WARNING: the Registry \"default\" is not there yet"), "{said}");
    let next = format!("helm upgrade {RELEASE} CHART --namespace voice --reuse-values");
    assert!(said.contains(&next), "{said}");
    served(&plane).await;

    // That very command makes it.
    let said = plane.helm(["upgrade", RELEASE, CHART, "--namespace=voice", "--reuse-values"]).await.ok();
    assert!(!said.contains("WARNING"), "{said}");
    assert!(said.contains("kubectl wait registry default --namespace voice"), "{said}");
    let uid = get(".metadata.uid").await;

    // A changed value reaches it at the next upgrade, and a rollback takes it back.
    helm("upgrade", &[on, "--set=registry.spec.registerInterval=90s"]).await;
    assert_eq!(get(".spec.registerInterval").await, "90s");
    plane.helm(["rollback", RELEASE, "2", "--namespace=voice"]).await.ok();
    assert_eq!(get(".spec.registerInterval").await, "60s", "the default of the schema");

    // Back to where the release had none: it stays.
    plane.helm(["rollback", RELEASE, "1", "--namespace=voice"]).await.ok();
    assert_eq!(get(".metadata.uid").await, uid);
    helm("upgrade", &[on]).await;
    assert_eq!(get(".metadata.uid").await, uid);

    // Switched off, it stays, too; switched on, it is taken back and can be changed.
    helm("upgrade", &[]).await;
    assert_eq!(get(".metadata.uid").await, uid);
    helm("upgrade", &[on]).await;
    helm("upgrade", &[on, "--set=registry.spec.registerInterval=2m"]).await;
    assert_eq!(get(".spec.registerInterval").await, "2m");
    assert_eq!(get(".metadata.uid").await, uid);

    // Uninstalled and installed: the same one.
    plane.helm(["uninstall", RELEASE, "--namespace=voice"]).await.ok();
    assert_eq!(get(".metadata.uid").await, uid);
    helm("install", &[on]).await;
    assert_eq!(get(".metadata.uid").await, uid);
    assert_eq!(get(".metadata.deletionTimestamp").await, "");
}
