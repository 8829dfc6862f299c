//! Metrics, alerts and dashboards, tried with promtool and a real Prometheus.

mod alerts;
mod dashboards;
mod exposition;
mod faults;
mod prometheus;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// The alerts, as Prometheus reads them.
const RULES: &str = "charts/routr-registry/files/alerts.yaml";
/// The folder of the dashboards.
const DASHBOARDS: &str = "charts/routr-registry/files/dashboards";

/// The text of a file of the repository.
fn text(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR")))
        .unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// All alerts of the rules.
fn rules() -> Vec<Value> {
    let file: Value = serde_saphyr::from_str(&text(RULES)).unwrap();
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).cloned().collect()
}

fn name(rule: &Value) -> &str {
    rule["alert"].as_str().unwrap()
}

/// Runs promtool from the repository with this input, and panics with its output unless it succeeds.
#[track_caller]
fn promtool(args: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is not installed: `make setup` installs what the tests need");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "promtool {args:?}: {said}\n{input}");
}
