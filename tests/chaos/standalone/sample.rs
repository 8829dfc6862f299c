//! One look at what the registry says, and how it is taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use routr_registration::engine::view::Summary;
use routr_registration::registration::state::TrunkState;
use routr_registry::admin::{CheckState, Readiness};
use tokio::time::Instant;

use super::truth::{Facts, Judge};
use crate::http;
use crate::support::kamailio::LocationTable;
use crate::table::TableFacts;
use crate::vitals::{Vitals, vitals};
use crate::watch::{self, DEPENDENCIES, Findings, Look, Watched, brief, figures, json, lock};

/// One look at what the registry says.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Instant,
    /// Before and after: what the parts of a look say may differ by what happened between these.
    pub took: Duration,
    pub live: Result<u16, String>,
    pub ready: Result<(u16, Readiness), String>,
    pub metrics: Result<BTreeMap<String, f64>, String>,
    pub summary: Result<Summary, String>,
    pub registry: Option<Vitals>,
    pub requester: Option<Vitals>,
}

impl Sample {
    /// Returns whether a dependency works, by the summary.
    pub fn health(&self, dependency: &str) -> Option<bool> {
        let summary = self.summary.as_ref().ok()?;
        match dependency {
            "api" => summary.api.ok,
            "requester" => summary.requester.ok,
            _ => summary.cache.ok,
        }
    }

    /// Returns whether all three places say that this dependency does not work, and `/readyz` responds as
    /// documented for it.
    pub fn says_down(&self, dependency: &str) -> bool {
        let Ok((code, readiness)) = &self.ready else { return false };
        let expected = if dependency == "requester" { CheckState::Failed } else { CheckState::Degraded };
        let check = readiness.checks.iter().any(|check| check.name == dependency && check.state == expected);
        let metric = self.up(dependency) == Some(0.0);
        self.health(dependency) == Some(false)
            && check
            && metric
            && (dependency != "requester" || *code == 503)
    }

    /// Returns the metric of a dependency: 1 if it works, 0 if not.
    pub fn up(&self, dependency: &str) -> Option<f64> {
        let name = format!("routr_registry_dependency_up{{dependency=\"{dependency}\"}}");
        self.metrics.as_ref().ok()?.get(&name).copied()
    }

    /// Checks that everything is reported healthy.
    pub fn well(&self) -> Result<(), String> {
        for dependency in DEPENDENCIES {
            if self.health(dependency) != Some(true) || self.up(dependency) != Some(1.0) {
                let summary = self.summary.as_ref().ok();
                return Err(format!(
                    "{dependency} is not said to work: {:?}",
                    summary.map(|s| (&s.api, &s.requester, &s.cache))
                ));
            }
        }
        match &self.ready {
            Ok((200, readiness)) if readiness.checks.iter().all(|check| check.state == CheckState::Ok) => {
                Ok(())
            }
            other => Err(format!("/readyz says {other:?}")),
        }
    }

    /// Trunks in each state, by the summary.
    pub fn count(&self, state: TrunkState) -> u64 {
        self.summary.as_ref().map_or(0, |summary| summary.counts.of(state))
    }
}

/// Places to look at.
#[derive(Clone, Copy)]
pub struct Places {
    pub public: u16,
    pub private: u16,
    pub table: LocationTable,
}

impl watch::Sample for Sample {
    fn at(&self) -> Instant {
        self.at
    }

    fn ended(&self) -> Instant {
        self.at + self.took
    }

    fn line(&self) -> String {
        let summary = self.summary.as_ref().map(brief);
        let ready = self.ready.as_ref().map(|(code, _)| *code);
        format!("{:?} {ready:?} {summary:?} {:?} {:?}", self.live, self.registry, self.requester)
    }
}

impl Watched for Places {
    type Sample = Sample;
    type Facts = Facts;
    type Judge = Judge;

    async fn sample(&self, _: &Facts, facts: &Mutex<Facts>, _: Option<Arc<Look>>) -> Sample {
        let at = Instant::now();
        let live = http::get(self.public, "/livez").await;
        let ready = http::get(self.public, "/readyz").await;
        let metrics = http::get(self.public, "/metrics").await;
        let summary = http::get(self.private, "/summary").await;
        let (registry, requester) = {
            let facts = lock(facts);
            (facts.registry, facts.requester)
        };
        Sample {
            at,
            took: at.elapsed(),
            live: live.map(|(code, _)| code),
            ready: ready.and_then(|(code, body)| Ok((code, json(&body)?))),
            metrics: metrics.and_then(
                |(code, body)| if code == 200 { Ok(figures(&body)) } else { Err(code.to_string()) },
            ),
            summary: summary.and_then(|(_, body)| json(&body)),
            registry: registry.and_then(|process| vitals(process.pid)),
            requester: requester.and_then(|process| vitals(process.pid)),
        }
    }

    fn judge(&self, judge: &mut Judge, sample: &Sample, _: &Facts, now: &Facts, findings: &mut Findings) {
        judge.sample(sample, now, findings);
    }

    fn lister(&self, _: &Facts, _: Option<&Sample>) -> Option<usize> {
        Some(0)
    }

    fn private(&self, _: usize) -> u16 {
        self.private
    }

    fn table(&self) -> LocationTable {
        self.table
    }

    fn about_table<'a>(&self, facts: &'a Facts, _: Option<usize>) -> TableFacts<'a> {
        facts.about_table()
    }
}
