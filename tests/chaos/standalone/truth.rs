//! Invariants of a registry at every look, whatever is broken at the moment.
//!
//! Statements of several pages about one thing are compared only when they differ for three looks in a row:
//! between two requests of one look something may have happened.

use std::collections::{BTreeMap, HashMap};

use routr_registration::registration::state::TrunkState;
use routr_registry::admin::CheckState;

use super::sample::Sample;
use crate::parts::MARK;
use crate::table::TableFacts;
use crate::vitals::{Alive, Vitals};
use crate::watch::{DEPENDENCIES, Findings, IN_A_ROW};

/// Facts that the watcher cannot see by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The registry, while it has to run and to answer.
    pub registry: Option<Alive>,
    /// The Requester, while it has to run.
    pub requester: Option<Alive>,
    /// True if the Requester is stopped, or the registry, which then sends no response.
    pub frozen: bool,
    /// Time at which Kamailio last lost its table, in milliseconds since the Unix epoch.
    pub table_lost_ms: u64,
    /// Until when someone lied to the registry about what is registered; `u64::MAX` while it goes on.
    pub lies_until_ms: u64,
    /// Dependencies that may be reported as not working.
    pub suspects: Vec<&'static str>,
    /// Call-IDs of all good trunks, by user.
    pub call_ids: BTreeMap<String, String>,
}

impl Facts {
    /// Returns the facts that matter for Kamailio's table.
    pub fn about_table(&self) -> TableFacts<'_> {
        TableFacts {
            responds: self.registry.is_some() && !self.frozen,
            table_lost_ms: self.table_lost_ms,
            lies_until_ms: self.lies_until_ms,
            call_ids: &self.call_ids,
        }
    }
}

/// Judges what the registry says.
#[derive(Default)]
pub struct Judge {
    rows: HashMap<String, u32>,
}

impl Judge {
    pub fn sample(&mut self, sample: &Sample, facts: &Facts, seen: &mut Findings) {
        for (name, must, is) in
            [("registry", facts.registry, sample.registry), ("Requester", facts.requester, sample.requester)]
        {
            if let Some(must) = must
                && is.map(|vitals: Vitals| vitals.started) != Some(must.started)
            {
                seen.wrong(&format!("the {name} died"), format!("pid {}: {is:?}", must.pid));
            }
        }
        if facts.registry.is_none() || facts.frozen {
            self.rows.clear();
            return;
        }
        let dead = self.rows.entry("/livez".to_owned()).or_default();
        *dead = if sample.live == Ok(200) { 0 } else { *dead + 1 };
        // One answer may be late on a busy machine: Kubernetes, too, asks three times before it acts.
        if *dead >= 2 {
            seen.wrong("/livez does not say that it lives", format!("{:?}", sample.live));
        }
        if let Ok(figures) = &sample.metrics
            && figures.contains_key(MARK)
        {
            seen.wrong("a password is in the metrics", String::new());
        }
        for (what, differs) in differences(sample, facts) {
            let row = self.rows.entry(what.clone()).or_default();
            *row = if differs.is_some() { *row + 1 } else { 0 };
            if let (Some(details), true) = (differs, *row >= IN_A_ROW) {
                seen.wrong(&what, details);
            }
        }
    }
}

/// Each thing compared, with what differs in it.
fn differences(sample: &Sample, facts: &Facts) -> Vec<(String, Option<String>)> {
    let mut all = Vec::new();
    let (Ok(summary), Ok((code, readiness)), Ok(figures)) = (&sample.summary, &sample.ready, &sample.metrics)
    else {
        let said = format!("{:?} {:?} {:?}", sample.summary.is_ok(), sample.ready, sample.metrics.is_ok());
        return vec![("not all pages answer".to_owned(), Some(said))];
    };
    all.push(("not all pages answer".to_owned(), None));
    let failed = summary.requester.ok == Some(false) || summary.last_sync_ms.is_none();
    let expected = if failed { 503 } else { 200 };
    // A Requester that was never tried is judged by whether someone waits for it.
    let untried = summary.requester.ok.is_none();
    let differs = !untried && (*code != expected || readiness.ready == failed);
    all.push((
        "/readyz is not as documented".to_owned(),
        differs.then(|| format!("{code} {readiness:?} beside {summary:?}")),
    ));
    for dependency in DEPENDENCIES {
        let health = sample.health(dependency);
        let check = readiness.checks.iter().find(|check| check.name == dependency).map(|check| check.state);
        let bad = health == Some(false);
        let told = check.is_some_and(|state| state != CheckState::Ok);
        all.push((
            format!("/readyz and the summary differ about {dependency}"),
            (told != bad && !untried).then(|| format!("{check:?} beside {health:?}")),
        ));
        let up = sample.up(dependency);
        all.push((
            format!("the metrics and the summary differ about {dependency}"),
            (up != health.map(|ok| if ok { 1.0 } else { 0.0 })).then(|| format!("{up:?} beside {health:?}")),
        ));
        let innocent = bad && !facts.suspects.contains(&dependency);
        let reason = || format!("{:?} {:?} {:?}", summary.api, summary.requester, summary.cache);
        all.push((format!("{dependency} is blamed although it works"), innocent.then(reason)));
    }
    #[allow(clippy::cast_precision_loss)]
    let total: f64 = TrunkState::ALL.iter().map(|state| summary.counts.of(*state) as f64).sum();
    let by_state =
        TrunkState::ALL.map(|state| format!("routr_registry_trunks{{state=\"{}\"}}", state.name()));
    let counted: f64 = by_state.iter().filter_map(|name| figures.get(name)).sum();
    all.push((
        "the metrics and the summary differ in the number of trunks".to_owned(),
        ((total - counted).abs() > 0.5).then(|| format!("{counted} beside {total}")),
    ));
    all
}
