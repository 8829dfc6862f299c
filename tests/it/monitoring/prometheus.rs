//! A real Prometheus on one loopback port.

use std::collections::BTreeSet;
use std::fs;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{self, Process};
use crate::support::wait::{PATIENCE, wait_for};
use crate::support::{http, ports};

/// A running Prometheus, which scrapes and evaluates each second. Dropping it kills it and removes its data.
pub struct Prometheus {
    port: u16,
    _process: Process,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one with these rules, which scrapes these ports of 127.0.0.1, each as a job of its name, and
    /// waits until it is ready.
    pub async fn start(rules: &str, targets: &[(&str, u16)]) -> Self {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("rules.yaml"), rules).unwrap();
        let mut config = "global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\n\
                          rule_files: [rules.yaml]\nscrape_configs:\n"
            .to_owned();
        for (job, port) in targets {
            config += &format!(
                "  - {{ job_name: {job}, honor_labels: true, static_configs: [{{ targets: ['127.0.0.1:{port}'] }}] }}\n"
            );
        }
        fs::write(path("prometheus.yaml"), config).unwrap();
        let port = ports::free();
        let mut command = process::command("prometheus");
        command.args([
            format!("--config.file={}", path("prometheus.yaml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--log.level=warn".to_owned(),
        ]);
        let process = Process::spawn("prometheus", command, &dir.path().join("output.log"));
        let started = Self { port, _process: process, _dir: dir };
        let ready = async || match http::get(&started.url("/-/ready")).await {
            Ok((status, _)) if status.is_success() => Ok(()),
            other => Err(format!("{other:?}: {}", started._process.output())),
        };
        wait_for(ready, PATIENCE, "Prometheus to be ready").await;
        started
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The series that a query returns now, each with its labels and its value.
    pub async fn query(&self, query: &str) -> Result<Vec<(Value, String)>, String> {
        let encoded = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let (_, body) = http::get(&self.url(&format!("/api/v1/query?query={encoded}"))).await?;
        let response: Value = serde_json::from_slice(&body).map_err(|error| format!("{error}: {body:?}"))?;
        if response["status"] != "success" {
            return Err(format!("{query}: {response}"));
        }
        let result = response["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |one: &Value| one["value"][1].as_str().unwrap_or_default().to_owned();
        Ok(result.iter().map(|one| (one["metric"].clone(), value(one))).collect())
    }

    /// The names of the alerts that fired at any time in the last `seconds`.
    pub async fn firing(&self, seconds: u32) -> Result<BTreeSet<String>, String> {
        let query = format!("count_over_time(ALERTS{{alertstate=\"firing\"}}[{seconds}s])");
        let found = self.query(&query).await?;
        Ok(found.iter().filter_map(|(labels, _)| Some(labels["alertname"].as_str()?.to_owned())).collect())
    }
}
