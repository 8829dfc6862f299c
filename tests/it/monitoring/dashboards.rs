//! The dashboards as files, and as the chart ships them. Their queries run in `faults`.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::alerts::metrics_of;
use super::{DASHBOARDS, text};
use crate::chart::render;

/// Name and content of each dashboard.
pub fn dashboards() -> Vec<(String, Value)> {
    let folder = format!("{}/{DASHBOARDS}", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let read = |name: String| {
        let content = serde_json::from_str(&text(&format!("{DASHBOARDS}/{name}"))).unwrap();
        (name, content)
    };
    names.into_iter().map(read).collect()
}

/// Each query, as `dashboard / panel / query`, with the variables of the dashboard at All.
pub fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
            let title = panel["title"].as_str().unwrap();
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{name}: {title} asks for nothing");
            for target in targets {
                let query = target["expr"].as_str().unwrap();
                let filled = query
                    .replace("$__rate_interval", "8s")
                    .replace("$namespace", ".*")
                    .replace("$registry", ".*");
                assert!(!filled.contains('$'), "{name}: {title}: {query}");
                found.push((format!("{name} / {title} / {query}"), filled));
            }
        }
    }
    found
}

#[test]
fn there_are_two_and_each_panel_asks_for_metrics_that_exist() {
    let dashboards = dashboards();
    let names: Vec<&str> = dashboards.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fleet.json", "registry.json"]);
    let documented = text("docs/metrics.md");
    for (panel, query) in queries() {
        let metrics = metrics_of(&query);
        assert!(!metrics.is_empty(), "{panel}");
        for metric in metrics {
            assert!(
                documented.contains(&format!("| `{metric}` |")),
                "{panel}: {metric} is not in docs/metrics.md"
            );
        }
    }
    for (name, dashboard) in &dashboards {
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "{name}: an id twice");
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {}", panel["title"]);
        }
    }
}

#[test]
fn the_chart_ships_each_as_a_config_map() {
    assert!(render(json!({})).of_kind("ConfigMap").is_empty());
    let annotations = json!({ "grafana_folder": "Telephony" });
    let objects = render(json!({ "dashboards": { "enabled": true, "annotations": annotations } }));
    let maps = objects.of_kind("ConfigMap");
    let dashboards = dashboards();
    assert_eq!(maps.len(), dashboards.len());
    for (name, dashboard) in dashboards {
        let key = format!("routr-{name}");
        let map = maps.iter().find(|map| map["data"][&key].is_string()).unwrap_or_else(|| panic!("{key}"));
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        assert_eq!(map["metadata"]["annotations"], annotations);
        let shipped: Value = serde_json::from_str(map["data"][&key].as_str().unwrap()).unwrap();
        assert_eq!(shipped, dashboard);
    }
}
