//! The alerts as files: rules, runbooks and unit tests belong together, and the chart ships the same rules.

use std::collections::BTreeSet;

use clap::Parser;
use routr_registry::cli::Cli;
use serde_json::{Value, json};

use super::{name, promtool, rules, text};
use crate::chart::render;

const RUNBOOKS: &str = "docs/runbooks.md";
const UNIT_TESTS: &str = "tests/alerts/alerts_test.yaml";

#[test]
fn promtool_accepts_the_rules_and_each_unit_test_passes() {
    promtool(&["check", "rules", super::RULES], "");
    promtool(&["test", "rules", UNIT_TESTS], "");
}

#[test]
fn each_alert_has_a_runbook_and_both_unit_tests() {
    let rules = rules();
    let names: BTreeSet<&str> = rules.iter().map(name).collect();
    assert_eq!(names.len(), rules.len(), "a name twice");

    let runbooks = text(RUNBOOKS);
    let sections: Vec<&str> = runbooks.split("\n## ").skip(1).collect();
    let titles: BTreeSet<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
    assert_eq!(titles, names, "the sections of {RUNBOOKS}");
    for section in sections {
        for part in ["Severity: ", "First look:\n\n```sh\n", "Causes: ", "What to do: "] {
            assert!(section.contains(part), "{part:?} in {section}");
        }
    }

    let tests: Value = serde_saphyr::from_str(&text(UNIT_TESTS)).unwrap();
    let mut tested = BTreeSet::new();
    for test in tests["tests"].as_array().unwrap() {
        let title = test["name"].as_str().unwrap();
        let [case] = &test["alert_rule_test"].as_array().unwrap()[..] else { panic!("{title}: one moment") };
        let (alert, fires) = title.split_once(' ').unwrap();
        assert_eq!(case["alertname"], alert);
        let expected = case["exp_alerts"].as_array().unwrap().len();
        match fires {
            "fires" => assert!(expected > 0, "{title}"),
            "is silent" => assert_eq!(expected, 0, "{title}"),
            _ => panic!("{title}"),
        }
        assert!(!test["input_series"].as_array().unwrap().is_empty(), "{title}: silent about nothing");
        assert!(tested.insert(title.to_owned()), "{title} twice");
    }
    let expected = names.iter().flat_map(|name| [format!("{name} fires"), format!("{name} is silent")]);
    assert_eq!(tested, expected.collect(), "the tests of {UNIT_TESTS}");
}

#[test]
fn each_alert_says_how_bad_it_is_and_what_to_do_and_asks_for_metrics_that_exist() {
    let documented = text("docs/metrics.md");
    for rule in rules() {
        let name = name(&rule);
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        let annotations = &rule["annotations"];
        for annotation in ["summary", "description"] {
            assert!(
                annotations[annotation].as_str().is_some_and(|text| text.len() > 20),
                "{name}: {annotation}"
            );
        }
        let runbook = annotations["runbook_url"].as_str().unwrap();
        assert!(runbook.ends_with(&format!("/{RUNBOOKS}#{}", name.to_lowercase())), "{name}: {runbook}");
        for metric in metrics_of(rule["expr"].as_str().unwrap()) {
            assert!(
                documented.contains(&format!("| `{metric}` |")),
                "{name}: {metric} is not in docs/metrics.md"
            );
        }
    }
}

/// The metrics that a query asks for.
pub fn metrics_of(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| ["routr_", "process_"].iter().any(|prefix| word.starts_with(prefix)));
    metrics.map(|word| word.strip_suffix("_bucket").unwrap_or(word)).collect()
}

#[test]
fn each_command_of_a_runbook_is_one_of_the_program() {
    let mut commands = 0;
    for line in text(RUNBOOKS).lines().filter(|line| line.starts_with("routr-registry ")) {
        let line = line.replace("NAMESPACE/NAME", "voice/main").replace("REF", "trunk-1");
        if let Err(error) = Cli::try_parse_from(line.split_whitespace()) {
            panic!("{line}: {error}");
        }
        commands += 1;
    }
    assert!(commands > 3, "{commands} commands");
}

#[test]
fn the_chart_ships_the_same_rules() {
    assert!(render(json!({})).of_kind("PrometheusRule").is_empty());
    let objects =
        render(json!({ "prometheusRule": { "enabled": true, "labels": { "release": "prometheus" } } }));
    let rule = objects.only("PrometheusRule");
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    let file: Value = serde_saphyr::from_str(&text(super::RULES)).unwrap();
    assert_eq!(rule["spec"], file);
}

#[test]
fn the_chart_changes_labels_runbooks_and_the_choice_of_alerts() {
    let values = json!({
        "enabled": true, "alertLabels": { "team": "voice" }, "runbookUrl": "https://wiki.example/routr",
        "disabled": ["RoutrTrunksInvalid"],
    });
    let objects = render(json!({ "prometheusRule": values }));
    let groups = objects.only("PrometheusRule")["spec"]["groups"].as_array().unwrap();
    let shipped: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let expected: Vec<Value> =
        rules().into_iter().filter(|rule| name(rule) != "RoutrTrunksInvalid").collect();
    assert_eq!(shipped.len(), expected.len());
    for (shipped, expected) in shipped.into_iter().zip(&expected) {
        assert_eq!(shipped["labels"]["team"], "voice");
        assert_eq!(shipped["labels"]["severity"], expected["labels"]["severity"]);
        let page = format!("https://wiki.example/routr#{}", name(expected).to_lowercase());
        assert_eq!(shipped["annotations"]["runbook_url"], page);
        assert_eq!(shipped["expr"], expected["expr"]);
    }
    let error = crate::chart::refusal(json!({ "prometheusRule": { "enabled": true, "disabled": ["Nope"] } }));
    assert!(error.contains("prometheusRule.disabled: there is no alert \"Nope\""), "{error}");
}
