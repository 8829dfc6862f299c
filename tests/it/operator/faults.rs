//! Conditions of each fault, and their return to normal.

mod dependencies;
mod trunks;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::harness::{TestRegistry, condition};
use super::kube_client::{KubeClient, brief, message, since, spec, spec_with};
use super::table::{self, CONDITIONS};
use crate::support::wait::{PATIENCE, wait_for};

/// Trunks whose calls, failing in a row, are no single trunk's fault.
const SIX: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Type, status, reason, and a part of the message.
type Expected = (&'static str, &'static str, &'static str, &'static str);

/// One fault of a Registry that was ready before.
struct Case<'a> {
    kube: &'a KubeClient,
    name: &'static str,
    /// Name in the table.
    title: &'static str,
    stage: TestRegistry,
    spec: Value,
}

impl<'a> Case<'a> {
    async fn new(kube: &'a KubeClient, name: &'static str, title: &'static str, refs: &[&str]) -> Self {
        let stage = TestRegistry::with(refs).await;
        Self { kube, name, title, spec: spec(&stage), stage }
    }

    fn with(self, more: Value) -> Self {
        Self { spec: spec_with(&self.stage, more), ..self }
    }

    /// Becomes ready, breaks, says `expected`, goes on saying it, is fixed, and is as it was.
    async fn run(
        mut self,
        inject: impl AsyncFnOnce(&mut TestRegistry),
        expected: &[Expected],
        repair: impl AsyncFnOnce(&mut TestRegistry),
        events: &[&str],
    ) {
        let (kube, name) = (self.kube, self.name);
        kube.create(name, self.spec.clone()).await;
        let before = kube.conditions(name, &[("Ready", "True", "AllRegistered")]).await;
        let began = Timestamp::now();
        inject(&mut self.stage).await;
        let found = self.says(expected).await;
        table::row(self.title, &found);
        for kind in CONDITIONS {
            let (was, is) = (condition(&before, kind), condition(&found, kind));
            let (changed, at) = (was["status"] != is["status"], since(&found, kind).as_second());
            // What was another for a moment (Reconciling, while a new trunk waits) and is the same again has
            // changed too.
            let possible = began.as_second() - 1..=Timestamp::now().as_second();
            let kept = !changed && was["lastTransitionTime"] == is["lastTransitionTime"];
            assert!(kept || possible.contains(&at), "{name}: {kind} since {at}, but {possible:?}");
        }
        stays(kube, name, &found).await;
        repair(&mut self.stage).await;
        let again: Vec<(&str, String, String)> = CONDITIONS
            .into_iter()
            .map(|kind| {
                let was = condition(&before, kind);
                let text = |key: &str| was[key].as_str().unwrap().to_owned();
                (kind, text("status"), text("reason"))
            })
            .collect();
        let again: Vec<(&str, &str, &str)> = again.iter().map(|(k, s, r)| (*k, &**s, &**r)).collect();
        let repaired = kube.conditions(name, &again).await;
        for kind in CONDITIONS {
            let (was, is) = (condition(&found, kind), condition(&repaired, kind));
            if was["status"] != is["status"] {
                assert!(since(&repaired, kind) >= since(&found, kind), "{name}: {kind}");
                assert!(since(&repaired, kind).as_second() >= began.as_second(), "{name}: {kind}");
            }
        }
        for reason in events {
            kube.event(name, reason).await;
        }
        let told: Vec<String> = kube.events(name).await.into_iter().map(|(reason, _, _)| reason).collect();
        table::events(self.title, &told);
    }

    async fn says(&self, expected: &[Expected]) -> Value {
        let plain: Vec<(&str, &str, &str)> = expected.iter().map(|(k, s, r, _)| (*k, *s, *r)).collect();
        let status = self.kube.conditions(self.name, &plain).await;
        for (kind, _, _, part) in expected {
            assert!(
                message(&status, kind).contains(part),
                "{}: {kind}, {part}:\n{}",
                self.name,
                brief(&status)
            );
        }
        status
    }
}

/// Asserts that no condition gets another time while nothing changes.
async fn stays(kube: &KubeClient, name: &str, found: &Value) {
    let until = Timestamp::now() + Duration::from_secs(4);
    let look = async || {
        let now = kube.now(name).await;
        for kind in CONDITIONS {
            let (was, is) = (condition(found, kind), condition(&now, kind));
            if was["status"] == is["status"] {
                assert_eq!(was["lastTransitionTime"], is["lastTransitionTime"], "{name}: {kind}");
            }
        }
        if Timestamp::now() > until { Ok(()) } else { Err("it stays") }
    };
    wait_for(look, PATIENCE, "four seconds to pass").await;
}
