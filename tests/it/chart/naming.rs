//! The chart below a parent, and release names that Kubernetes takes for some objects only.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{CHART, VERSION, helm};
use crate::support::control_plane::ControlPlane;

/// A parent chart with these values and these entries for the dependency, beside its name and version.
fn parent(folder: &Path, dependencies: &[Value], values: &Value) -> String {
    let chart = folder.join("parent");
    fs::create_dir_all(chart.join("charts")).unwrap();
    let copied = Command::new("cp").arg("-r").arg(CHART).arg(chart.join("charts")).status().unwrap();
    assert!(copied.success());
    let entries: Vec<Value> = dependencies
        .iter()
        .map(|more| {
            let mut entry = json!({ "name": "routr-registry", "version": ">=0.0.0", "repository": "" });
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        })
        .collect();
    let about = json!({ "apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": entries });
    fs::write(chart.join("Chart.yaml"), about.to_string()).unwrap();
    fs::write(chart.join("values.yaml"), values.to_string()).unwrap();
    chart.to_str().unwrap().to_owned()
}

#[track_caller]
fn rendered(release: &str, chart: &str) -> Vec<Value> {
    let output = helm(&["template", release, chart, "--namespace=voice", VERSION]);
    assert!(output.status.success(), "{release}: {}", String::from_utf8_lossy(&output.stderr));
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    objects.into_iter().filter(|object| !object.is_null()).collect()
}

#[test]
fn k7_a_parent_chart_switches_it_by_a_condition() {
    let folder = TempDir::new().unwrap();
    let condition = [json!({ "condition": "routr-registry.enabled" })];
    let values = |enabled: Value| json!({ "global": { "imageRegistry": "r" }, "routr-registry": { "enabled": enabled } });
    let deployments =
        |chart: &str| rendered("phone", chart).iter().filter(|object| object["kind"] == "Deployment").count();
    for (enabled, expected) in [(json!(true), 1), (json!(false), 0), (Value::Null, 1)] {
        let chart = parent(folder.path(), &condition, &values(enabled.clone()));
        assert_eq!(deployments(&chart), expected, "enabled: {enabled}");
    }
    // By tags, with values that a parent may have for its own use of them.
    let tagged =
        json!({ "tags": { "voice": true }, "routr-registry": { "tags": { "voice": true }, "global": null } });
    let chart = parent(folder.path(), &[json!({ "tags": ["voice"] })], &tagged);
    assert_eq!(deployments(&chart), 1);
    // Any other key is still an error.
    let wrong = json!({ "routr-registry": { "enable": true } });
    let chart = parent(folder.path(), &condition, &wrong);
    let said = helm(&["template", "phone", &chart, VERSION]);
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("enable"));
}

/// Letters, digits and hyphens, as all kinds take it, and no longer than a Service's name may be.
#[track_caller]
fn assert_label(name: &str, first_is_letter: bool) {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = name.as_bytes();
    assert!(bytes.iter().copied().all(inner) && ends(bytes.first()) && ends(bytes.last()), "{name}");
    assert!(name.len() <= 63 && (!first_is_letter || bytes[0].is_ascii_lowercase()), "{name}");
}

#[test]
fn k7_odd_release_names_and_aliases_make_names_that_every_kind_takes() {
    let folder = TempDir::new().unwrap();
    let longest = |text: &str| text.repeat(53)[..53].to_owned();
    let names = [
        "v1.2.voice",
        "123",
        "1e3",
        "0x1f",
        "true",
        "1.5",
        "a--b",
        "routr-registry.eu",
        &longest("a.b-"),
        &longest("9"),
        &format!("{}.x-y", "k".repeat(49)),
    ];
    for release in names {
        for object in rendered(release, CHART) {
            let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
            if !["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"].contains(&kind) {
                assert_label(metadata["name"].as_str().expect("a string"), kind == "Service");
            }
            assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], release, "{kind}");
        }
    }
    for alias in ["voiceRegistry", "Voice_2", "_", "9"] {
        let chart = parent(folder.path(), &[json!({ "alias": alias })], &json!({}));
        for object in rendered("phone", &chart) {
            if object["kind"] == "Deployment" {
                assert_label(object["metadata"]["name"].as_str().unwrap(), true);
            }
        }
    }
}

#[tokio::test]
async fn k7_releases_with_odd_names_are_installed_on_a_real_api_server() {
    let plane = ControlPlane::shared().await;
    let folder = TempDir::new().unwrap();
    let values =
        json!({ "voiceReg": { "enabled": true, "crds": { "install": false }, "rbac": { "create": true } } });
    let chart =
        parent(folder.path(), &[json!({ "alias": "voiceReg", "condition": "voiceReg.enabled" })], &values);
    let longest = format!("9.{}.x", "y".repeat(49));
    for (release, chart, value) in [
        ("1.5", CHART, "crds.install=false"),
        (longest.as_str(), CHART, "crds.install=false"),
        ("phone.v2", chart.as_str(), "voiceReg.replicaCount=2"),
    ] {
        let namespace = plane.namespace("naming").await;
        let place = ["--namespace", namespace.name()];
        plane.helm(["install", release, chart, "--set", value].iter().chain(&place)).await.ok();
        let kinds = ["get", "deployment,service,poddisruptionbudget,serviceaccount,role", "--output=name"];
        let made = plane.kubectl(kinds.iter().chain(&place)).await.ok();
        for kind in ["deployment", "service/", "poddisruptionbudget", "serviceaccount/", "role.rbac"] {
            assert!(made.contains(kind), "{release}: no {kind} in {made}");
        }
        plane.helm(["upgrade", release, chart, "--set", value].iter().chain(&place)).await.ok();
        plane.helm(["uninstall", release].iter().chain(&place)).await.ok();
    }
}
