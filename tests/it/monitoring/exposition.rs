//! `/metrics` of real processes: what promtool says of them, and docs/metrics.md on the Requester's.

use std::collections::BTreeSet;

use super::{promtool, text};
use crate::standalone::test_registry::TestRegistry;
use crate::support::process;
use crate::support::wait::{PATIENCE, wait_for};
use crate::support::{http, ports, service::Service};

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_a_registrys_metrics() {
    let stage = TestRegistry::with(&["a"]).await;
    let _service = stage.run(&[]);
    stage.settles(&[("a", "registered")]).await;
    let (status, metrics) = stage.public("/metrics").await.unwrap();
    assert_eq!(status, 200);
    assert!(
        metrics.contains("process_resident_memory_bytes ") && metrics.contains("process_open_fds "),
        "{metrics}"
    );
    promtool(&["check", "metrics"], &metrics);
}

#[tokio::test]
async fn the_requesters_metrics_are_those_of_the_docs_and_pass_promtool() {
    let mut stage = TestRegistry::bare().await;
    stage.trunks(&["a"]);
    stage.start_api().await;
    let (bind, listen) =
        (format!("127.0.0.1:{}", stage.requester_port), format!("127.0.0.1:{}", ports::free()));
    let service = Service::start(["requester", "--http-listen", &listen], &[("BIND_ADDR", &bind)]);
    // A call, so that its counter is there.
    let _registry = stage.run(&[]);
    stage.settles(&[("a", "registered")]).await;
    let look = async || match http::get(&format!("http://{listen}/metrics")).await {
        Ok((status, body)) if status.is_success() => Ok(String::from_utf8_lossy(&body).into_owned()),
        other => Err(format!("{other:?}: {}", process::tail(&service.output()))),
    };
    let metrics = wait_for(look, PATIENCE, "the Requester's metrics").await;
    promtool(&["check", "metrics"], &metrics);
    let shown: BTreeSet<(&str, &str)> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let docs = text("docs/metrics.md");
    let section =
        |title: &str| docs.split("\n## ").find(|section| section.lines().next() == Some(title)).unwrap();
    let rows = ["The process", "The Requester"].into_iter().flat_map(|title| section(title).lines());
    let rows = rows.filter(|line| line.starts_with("| `") && !line.contains("_build_info"));
    let expected: BTreeSet<(&str, &str)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            (cells[1], cells[2])
        })
        .collect();
    assert_eq!(shown, expected);
}
