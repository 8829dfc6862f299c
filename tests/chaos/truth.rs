//! What has to be true at every look, whatever is broken at the moment.
//!
//! What several pages say of one thing is compared only when it differs for three looks in a row: between two
//! requests of one look something may have happened.

use std::collections::{BTreeMap, HashMap};

use routr_registration::registration::state::TrunkState;
use routr_registry::admin::CheckState;

use crate::parts::{DOMAIN, EXPIRES, MARK};
use crate::vitals::Vitals;
use crate::watch::{DEPENDENCIES, Look, Sample, Seen};

/// So many looks in a row, and a difference is one.
const IN_A_ROW: u32 = 3;
/// By so much may a binding be gone at Kamailio before the registry says so: Kamailio counts in whole
/// seconds, from when it sent the answer, and two tables cannot be looked at in the same moment.
const ROUNDING_MS: u64 = 3_000;

/// A process that must not end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alive {
    pub pid: i32,
    /// See [`Vitals::started`].
    pub started: u64,
}

/// What the watcher cannot see by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The registry, while it has to run and to answer.
    pub registry: Option<Alive>,
    /// The Requester, while it has to run.
    pub requester: Option<Alive>,
    /// Whether the Requester is stopped, or the registry: it answers nothing then.
    pub frozen: bool,
    /// When Kamailio last lost its table, in milliseconds since the Unix epoch.
    pub table_lost_ms: u64,
    /// Until when someone lied to the registry about what is registered; `u64::MAX` while it goes on.
    pub lies_until_ms: u64,
    /// Dependencies that may be reported as not working.
    pub suspects: Vec<&'static str>,
    /// Call-IDs of all good trunks, by user.
    pub call_ids: BTreeMap<String, String>,
}

/// Judges what the registry says.
#[derive(Default)]
pub struct Judge {
    rows: HashMap<String, u32>,
}

impl Judge {
    pub fn sample(&mut self, sample: &Sample, facts: &Facts, seen: &mut Seen) {
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

/// Judges the registry's trunks by Kamailio's table.
#[derive(Default)]
pub struct TableJudge {
    cseqs: HashMap<String, u64>,
    absent: HashMap<String, u32>,
    /// Looks in a row without a list.
    unlisted: u32,
}

impl TableJudge {
    pub fn look(&mut self, look: &Look, facts: &Facts, seen: &mut Seen) {
        let Some(bindings) = &look.bindings else { return };
        let mut by_user = BTreeMap::new();
        for binding in bindings {
            let user = binding.aor.strip_suffix(&format!("@{DOMAIN}")).unwrap_or(&binding.aor).to_owned();
            match facts.call_ids.get(&user) {
                Some(expected) if *expected == binding.call_id => {}
                expected => {
                    seen.wrong("a Call-ID is not that for life", format!("{binding:?}, {expected:?}"))
                }
            }
            let highest = self.cseqs.entry(binding.call_id.clone()).or_default();
            if binding.cseq < *highest {
                seen.wrong("a CSeq fell", format!("{binding:?} after {highest}"));
            }
            *highest = binding.cseq.max(*highest);
            if let Some(other) = by_user.insert(user, binding) {
                seen.wrong("two contacts for one address of record", format!("{binding:?} {other:?}"));
            }
        }
        seen.fewest = Some(seen.fewest.unwrap_or(usize::MAX).min(by_user.len()));
        if facts.registry.is_none() || facts.frozen {
            self.absent.clear();
            return;
        }
        self.unlisted = if look.trunks.is_some() { 0 } else { self.unlisted + 1 };
        if self.unlisted >= IN_A_ROW {
            seen.wrong("the list of the trunks does not answer", String::new());
        }
        for (reference, trunk) in look.trunks.iter().flatten() {
            let Some(user) =
                reference.strip_prefix("trunk-").filter(|user| facts.call_ids.contains_key(*user))
            else {
                continue;
            };
            let said = matches!(trunk.state, TrunkState::Registered | TrunkState::AtRisk);
            let expires_ms = trunk.expires_at_ms.unwrap_or(0);
            let made_ms = expires_ms.saturating_sub(u64::from(EXPIRES) * 1_000);
            // What was registered before Kamailio lost its table, or with a liar, cannot be known to be gone.
            let known = made_ms > facts.table_lost_ms.saturating_add(1_000)
                && (facts.lies_until_ms == 0 || made_ms > facts.lies_until_ms.saturating_add(1_000));
            let expires = expires_ms <= look.at_ms + ROUNDING_MS;
            let false_claim = said && known && !expires && !by_user.contains_key(user);
            let row = self.absent.entry(reference.clone()).or_default();
            *row = if false_claim { *row + 1 } else { 0 };
            if *row >= 2 {
                let what = "a trunk is shown as registered that Kamailio does not have";
                seen.wrong(what, format!("{trunk:?}"));
            }
        }
    }
}
