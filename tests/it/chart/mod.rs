//! The Helm chart: what each switch renders, what the schema of its values refuses, whether what is generated
//! is fresh, and what a real API server makes of it.

mod cluster;
mod default_registry;
mod fresh;
mod naming;
mod rendered;
mod requester;
mod requester_process;
mod rights;
mod schema;

use std::io::Write;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::support::control_plane::bin;

/// The chart's folder.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/routr-registry");
/// The name of every release here, and so of most objects.
const RELEASE: &str = "routr-registry";
/// The namespace that it is rendered for.
const NAMESPACE: &str = "voice";
/// Version for helm, which without a cluster assumes a Kubernetes from before all that the chart uses.
const VERSION: &str = "--kube-version=1.36.0";

/// Objects of a rendering.
pub struct Objects(Vec<Value>);

impl Objects {
    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The object of this kind; panics unless there is exactly one.
    #[track_caller]
    pub fn only(&self, kind: &str) -> &Value {
        let found = self.of_kind(kind);
        assert_eq!(found.len(), 1, "objects of kind {kind}: {found:#?}");
        found[0]
    }

    #[track_caller]
    fn named(&self, kind: &str, namespace: &str, name: &str) -> &Value {
        let found = self.of_kind(kind).into_iter().find(|object| {
            object["metadata"]["name"] == name && object["metadata"]["namespace"] == namespace
        });
        found.unwrap_or_else(|| panic!("no {kind} {namespace}/{name} in {:?}", self.names()))
    }

    /// `Kind NAMESPACE/NAME` of each, sorted; no namespace for objects of the cluster.
    fn names(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = |object: &Value| {
            let metadata = &object["metadata"];
            format!("{} {}/{}", text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
        };
        let mut names: Vec<_> = self.0.iter().map(name).collect();
        names.sort();
        names
    }

    /// The template of the pods.
    #[track_caller]
    fn pod(&self) -> &Value {
        &self.only("Deployment")["spec"]["template"]
    }

    /// The container of the pods.
    #[track_caller]
    fn container(&self) -> &Value {
        let containers = self.pod()["spec"]["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "{containers:#?}");
        &containers[0]
    }
}

/// Runs helm to its end.
fn helm(args: &[&str]) -> Output {
    Command::new(bin().join("helm")).args(args).env_remove("KUBECONFIG").output().expect("run helm")
}

fn template_output(values: &Value, more: &[&str]) -> Output {
    let mut file = NamedTempFile::new().expect("a file for values");
    // JSON is YAML.
    file.write_all(values.to_string().as_bytes()).expect("write values");
    let path = file.path().to_str().unwrap();
    let mut args = vec!["template", RELEASE, CHART, "--namespace", NAMESPACE, VERSION, "--values", path];
    args.extend(more);
    helm(&args)
}

/// The objects of the chart with these values. Panics when helm refuses them.
#[track_caller]
fn render_with(values: &Value, more: &[&str]) -> Objects {
    let output = template_output(values, more);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "helm template with {values}: {stderr}");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&stdout).expect("YAML");
    Objects(objects.into_iter().filter(|object| !object.is_null()).collect())
}

#[track_caller]
pub fn render(values: Value) -> Objects {
    render_with(&values, &[])
}

/// Returns helm's error for these values. Panics when it took them.
#[track_caller]
pub fn refusal(values: Value) -> String {
    let output = template_output(&values, &[]);
    assert!(!output.status.success(), "helm template took {values}");
    String::from_utf8(output.stderr).unwrap()
}
