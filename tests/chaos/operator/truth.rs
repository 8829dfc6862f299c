//! Invariants of an operator at every look, whatever is broken at the moment.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use routr_registration::registration::state::TrunkState;
use tokio::time::Instant;

use super::sample::{Cluster, PODS, Said, Sample};
use crate::parts::MARK;
use crate::table::TableFacts;
use crate::vitals::Alive;
use crate::watch::{DEPENDENCIES, Findings, brief};

/// Several pages may differ for so long, since something may have happened between two requests of one look.
const PAGES: Duration = Duration::from_millis(700);
/// So long the status may lag behind: it is looked at each second, written every 3 s at most on average, and
/// read by the watcher a moment later.
pub const STATUS: Duration = Duration::from_secs(6);
/// So long a replica that loses the Lease, or has just started, may not know how it stands.
const LEASE: Duration = Duration::from_secs(3);
/// More bytes than HTTP/2 needs to keep or end a connection.
pub const IDLE: usize = 400;
/// A process that is stopped in the middle of something may go on with what it was about to send: a few
/// REGISTERs.
pub const UNDER_WAY: usize = 4_096;

/// Facts that the watcher cannot see by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The replicas, while they have to run.
    pub replicas: [Option<Alive>; 2],
    /// True for those that are stopped.
    pub frozen: [bool; 2],
    /// Most bytes that a replica which was stopped until another one led may have sent in all.
    pub limits: [Option<usize>; 2],
    /// The Requester, while it has to run.
    pub requester: Option<Alive>,
    /// True if anything between the operator and the API server of Kubernetes is broken at the moment.
    pub cluster_broken: bool,
    /// Names that may be reported as not working: dependencies, and `kubernetes`.
    pub suspects: Vec<&'static str>,
    /// Time at which Kamailio's table was last empty, in milliseconds since the Unix epoch.
    pub table_lost_ms: u64,
    /// Call-IDs of all trunks, by user.
    pub call_ids: BTreeMap<String, String>,
}

impl Facts {
    /// Returns the facts that matter for Kamailio's table, while that replica leads.
    pub fn about_table(&self, leader: Option<usize>) -> TableFacts<'_> {
        TableFacts {
            responds: leader.is_some_and(|leader| self.replicas[leader].is_some()),
            table_lost_ms: self.table_lost_ms,
            lies_until_ms: 0,
            call_ids: &self.call_ids,
        }
    }
}

/// Judges what the operator says.
#[derive(Default)]
pub struct Judge {
    since: HashMap<String, Instant>,
    before: Option<Sample>,
}

impl Judge {
    /// `earlier` and `facts`: before and after the look.
    pub fn sample(&mut self, sample: &Sample, earlier: &Facts, facts: &Facts, seen: &mut Findings) {
        self.lives(sample, earlier, facts, seen);
        // What changed in the middle of a look is seen by the next one.
        if earlier != facts {
            self.before = Some(sample.clone());
            return;
        }
        self.senders(sample, facts, seen);
        let leaders = sample.replicas.iter().flatten().filter(|said| said.leads()).count();
        let two = (leaders > 1).then(|| format!("{:?}", sample.leases()));
        self.lasts("two replicas say that they lead", two, PAGES, sample.at, seen);
        for (index, said) in sample.replicas.iter().enumerate() {
            self.replica(index, said.as_ref(), facts, sample.at, seen);
        }
        self.status(sample, facts, seen);
        self.before = Some(sample.clone());
    }

    /// Notes what differs for longer than that.
    fn lasts(
        &mut self,
        what: &str,
        differs: Option<String>,
        patience: Duration,
        at: Instant,
        seen: &mut Findings,
    ) {
        let Some(details) = differs else {
            self.since.remove(what);
            return;
        };
        let since = *self.since.entry(what.to_owned()).or_insert(at);
        if at - since > patience {
            seen.wrong(what, format!("for {:.1?}: {details}", at - since));
        }
    }

    fn lives(&self, sample: &Sample, earlier: &Facts, facts: &Facts, seen: &mut Findings) {
        let was = [earlier.replicas[0], earlier.replicas[1], earlier.requester];
        let must = [facts.replicas[0], facts.replicas[1], facts.requester];
        let is = [sample.vitals[0], sample.vitals[1], sample.requester];
        for (name, ((was, must), is)) in
            [PODS[0], PODS[1], "the Requester"].into_iter().zip(was.into_iter().zip(must).zip(is))
        {
            if let Some(must) = must.filter(|_| was == must)
                && is.map(|vitals| vitals.started) != Some(must.started)
            {
                seen.wrong(&format!("{name} died"), format!("pid {}: {is:?}", must.pid));
            }
        }
    }

    /// Only who leads sends.
    fn senders(&self, sample: &Sample, facts: &Facts, seen: &mut Findings) {
        for index in [0, 1] {
            if let Some(limit) = facts.limits[index].filter(|limit| sample.sent[index] > *limit) {
                let details = format!("{} bytes too many", sample.sent[index] - limit);
                seen.wrong(
                    &format!("{} was stopped, and sends though another one leads", PODS[index]),
                    details,
                );
            }
            let follows = |sample: &Sample| sample.replicas[index].as_ref().is_some_and(|said| !said.leads());
            if let Some(before) = self.before.as_ref().filter(|before| follows(before) && follows(sample)) {
                let grown = sample.sent[index].saturating_sub(before.sent[index]);
                if grown > IDLE {
                    let details = format!("{grown} bytes, {:?}", sample.leases());
                    seen.wrong(&format!("{} sends and does not lead", PODS[index]), details);
                }
            }
        }
    }

    /// Judges what one replica says, by itself.
    fn replica(
        &mut self,
        index: usize,
        said: Option<&Said>,
        facts: &Facts,
        at: Instant,
        seen: &mut Findings,
    ) {
        let pod = PODS[index];
        let Some(said) = said else {
            self.since.retain(|what, _| !what.starts_with(pod));
            return;
        };
        let dead = (said.live != Ok(200)).then(|| format!("{:?}", said.live));
        self.lasts(&format!("{pod}: /livez does not say that it lives"), dead, PAGES, at, seen);
        if let Ok(figures) = &said.metrics
            && figures.contains_key(MARK)
        {
            seen.wrong("a password is in the metrics", String::new());
        }
        let silent = said.ready.is_err() || said.metrics.is_err() || said.registries.is_err();
        let details = silent.then(|| format!("{:?} {:?}", said.ready, said.registries));
        self.lasts(&format!("{pod}: not all pages answer"), details, PAGES, at, seen);
        let Ok((code, readiness)) = &said.ready else { return };
        let odd = (*code == 200) != readiness.ready;
        let leads = said.gauge("leader_election_is_leader").map(|leader| leader > 0.5) != Some(said.leads());
        let differs = (odd || leads)
            .then(|| format!("{code} {readiness:?} {:?}", said.gauge("leader_election_is_leader")));
        self.lasts(&format!("{pod}: /readyz and the metrics differ"), differs, PAGES, at, seen);
        let innocent = *code != 200 && !facts.suspects.contains(&"kubernetes");
        let details = innocent.then(|| format!("{readiness:?}"));
        self.lasts(&format!("{pod} is not ready although Kubernetes works"), details, LEASE, at, seen);
        let stray = !said.leads() && said.summary().is_some();
        let details = stray.then(|| format!("{readiness:?}"));
        self.lasts(&format!("{pod} runs an engine and does not lead"), details, LEASE, at, seen);
        for dependency in DEPENDENCIES {
            let Some(health) = said.health(dependency) else { continue };
            let up = said.gauge_of("dependency_up", "dependency", dependency)
                == Some(if health { 1.0 } else { 0.0 });
            let differs = !up || said.leads() && said.tells_of(dependency) == health;
            let details = || format!("{readiness:?} beside {:?}", said.summary().map(brief));
            let what = format!("{pod}: its pages differ about {dependency}");
            self.lasts(&what, differs.then(details), PAGES, at, seen);
            let innocent = !health && !facts.suspects.contains(&dependency);
            let what = format!("{pod}: {dependency} is blamed although it works");
            self.lasts(&what, innocent.then(details), PAGES, at, seen);
        }
        if let Some(summary) = said.summary() {
            #[allow(clippy::cast_precision_loss)]
            let total: f64 = TrunkState::ALL.iter().map(|state| summary.counts.of(*state) as f64).sum();
            let gauges =
                TrunkState::ALL.iter().filter_map(|state| said.gauge_of("trunks", "state", state.name()));
            let differs = (gauges.sum::<f64>() - total).abs() > 0.5;
            let what = format!("{pod}: metrics and summary differ in the number of trunks");
            self.lasts(&what, differs.then(|| format!("{:?}", summary.counts)), PAGES, at, seen);
        }
    }

    /// Judges what the Registry says, beside what its engine says and Kamailio has. Nothing can be written
    /// while the API server is away, and no one writes while no one leads.
    fn status(&mut self, sample: &Sample, facts: &Facts, seen: &mut Findings) {
        let same = self.before.as_ref().is_some_and(|before| before.leader() == sample.leader());
        let (Ok(cluster), Some(leader), Some(said), false, true) =
            (&sample.cluster.1, sample.leader(), sample.led(), facts.cluster_broken, same)
        else {
            self.since.retain(|what, _| !what.starts_with("status: "));
            return;
        };
        let holder = cluster.holder.as_deref() != Some(PODS[leader]);
        let details = holder.then(|| format!("{} leads, not {:?}", PODS[leader], cluster.holder));
        self.lasts("status: the Lease has another holder", details, LEASE, sample.at, seen);
        for (what, differs) in differences(cluster, said, sample.bound) {
            self.lasts(&format!("status: {what}"), differs, STATUS, sample.at, seen);
        }
        for dependency in DEPENDENCIES {
            let innocent = cluster.health(dependency) == Some(false) && !facts.suspects.contains(&dependency);
            let details = innocent.then(|| format!("{:?}", cluster.status.conditions));
            let what = format!("status: {dependency} is blamed although it works");
            self.lasts(&what, details, PAGES, sample.at, seen);
        }
    }
}

fn differences(cluster: &Cluster, said: &Said, bound: Option<usize>) -> Vec<(String, Option<String>)> {
    let Some(summary) = said.summary() else { return Vec::new() };
    let beside = || format!("{:?} beside {}", cluster.status, brief(summary));
    let mut all = Vec::new();
    for dependency in DEPENDENCIES {
        let differs =
            said.health(dependency).is_some() && said.health(dependency) != cluster.health(dependency);
        all.push((format!("it differs from the engine about {dependency}"), differs.then(beside)));
    }
    let false_claim = bound.is_some_and(|bound| cluster.bound() > bound as u64);
    let details = || format!("{bound:?} at Kamailio; {}", beside());
    all.push(("more trunks are registered than Kamailio has".to_owned(), false_claim.then(details)));
    let counts = &summary.counts;
    let trouble = TrunkState::ALL.into_iter().any(|state| state.is_unhealthy() && counts.of(state) > 0);
    let differs = trouble == cluster.status.failures.is_empty();
    all.push((
        "failures are named where there are none, or none where there are".to_owned(),
        differs.then(beside),
    ));
    let lost = said.health("requester") == Some(false) || counts.of(TrunkState::Failing) > 0;
    let ready = cluster.condition("Ready").0 == "True";
    all.push(("Ready is True although trunks cannot be registered".to_owned(), (ready && lost).then(beside)));
    let well = !lost && !trouble && counts.of(TrunkState::Pending) == 0 && summary.last_sync_ms.is_some();
    all.push(("Ready is not True although all are registered".to_owned(), (!ready && well).then(beside)));
    all
}
