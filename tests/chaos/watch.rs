//! The watcher: looks the whole time at all that the registry says, at Kamailio's location table and at the
//! processes, and writes down what was not true.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use routr_environment::unix_ms;
use routr_registration::{
    engine::view::{Page, Summary, TrunkView},
    registration::state::TrunkState,
};
use routr_registry::admin::{CheckState, Readiness};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http;
use crate::parts::MARK;
use crate::support::kamailio::{Binding, LocationTable};
use crate::truth::{self, Facts};
use crate::vitals::{Vitals, vitals};

/// Between two looks at the registry.
pub const PACE: Duration = Duration::from_millis(250);
/// Between two looks at all its trunks and at all bindings.
const TABLE_PACE: Duration = Duration::from_secs(1);

/// The dependencies that the registry tells of, by the names that it uses.
pub const DEPENDENCIES: [&str; 3] = ["api", "requester", "cache"];

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
    /// What the summary says of a dependency.
    pub fn health(&self, dependency: &str) -> Option<bool> {
        let summary = self.summary.as_ref().ok()?;
        match dependency {
            "api" => summary.api.ok,
            "requester" => summary.requester.ok,
            _ => summary.cache.ok,
        }
    }

    /// Whether all three places say that this dependency does not work, and `/readyz` answers as documented
    /// for it.
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

    /// What the metrics say of a dependency.
    pub fn up(&self, dependency: &str) -> Option<f64> {
        let name = format!("routr_registry_dependency_up{{dependency=\"{dependency}\"}}");
        self.metrics.as_ref().ok()?.get(&name).copied()
    }

    /// Whether everything is said to be well.
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

/// One look at all trunks.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// When it began, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `None` when the list does not answer.
    pub trunks: Option<BTreeMap<String, TrunkView>>,
    /// `None` while Kamailio does not answer.
    pub bindings: Option<Vec<Binding>>,
}

/// Everything seen since the last [`Watch::begin`].
#[derive(Default)]
pub struct Seen {
    pub samples: Vec<Sample>,
    /// The fewest addresses of record that had a binding while Kamailio answered.
    pub fewest: Option<usize>,
    /// What was not true, each with how often.
    pub wrong: BTreeMap<String, (u32, String)>,
}

impl Seen {
    /// Notes that something was not true: `what` in a few fixed words, and how it was seen.
    pub fn wrong(&mut self, what: &str, details: String) {
        self.wrong.entry(what.to_owned()).or_insert((0, details)).0 += 1;
    }
}

/// Where to look.
#[derive(Clone, Copy)]
pub struct Places {
    pub public: u16,
    pub private: u16,
    pub table: LocationTable,
}

/// The watcher. Ends when it is dropped.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    facts: Arc<Mutex<Facts>>,
    samples: watch::Receiver<Option<Arc<Sample>>>,
    looks: watch::Receiver<Option<Arc<Look>>>,
    _end: DropGuard,
}

impl Watch {
    pub fn start(places: Places, facts: Facts) -> Self {
        let (seen, facts) = (Arc::new(Mutex::new(Seen::default())), Arc::new(Mutex::new(facts)));
        let (say_sample, samples) = watch::channel(None);
        let (say_look, looks) = watch::channel(None);
        let end = CancellationToken::new();
        let sampling = sample_on(places, seen.clone(), facts.clone(), say_sample);
        let looking = look_on(places, seen.clone(), facts.clone(), say_look);
        tokio::spawn(end.clone().run_until_cancelled_owned(sampling));
        tokio::spawn(end.clone().run_until_cancelled_owned(looking));
        Self { seen, facts, samples, looks, _end: end.drop_guard() }
    }

    /// Forgets what was seen so far.
    pub fn begin(&self) {
        *self.seen() = Seen::default();
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// What is known beside what is seen.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.facts)
    }

    /// What was seen, one line for each look.
    pub fn protocol(&self) -> String {
        let seen = self.seen();
        let Some(first) = seen.samples.first() else { return String::new() };
        let line = |sample: &Sample| {
            let summary = sample.summary.as_ref().map(brief);
            let ready = sample.ready.as_ref().map(|(code, _)| *code);
            format!(
                "{:8.2} {:?} {ready:?} {summary:?} {:?} {:?}\n",
                (sample.at - first.at).as_secs_f64(),
                sample.live,
                sample.registry,
                sample.requester
            )
        };
        seen.samples.iter().map(line).collect()
    }

    /// Waits for a look that begins from now on and satisfies this.
    pub async fn until_sample(
        &mut self,
        deadline: Duration,
        mut good: impl FnMut(&Sample) -> Result<(), String>,
    ) -> Result<Duration, String> {
        let began = Instant::now();
        until(
            &mut self.samples,
            deadline,
            |sample| if sample.at < began { Err("old".into()) } else { good(sample) },
        )
        .await
        .map(|()| began.elapsed())
    }

    /// The same for looks at all trunks.
    pub async fn until_look(
        &mut self,
        deadline: Duration,
        mut good: impl FnMut(&Look) -> Result<(), String>,
    ) -> Result<Duration, String> {
        let (began, began_ms) = (Instant::now(), unix_ms());
        until(
            &mut self.looks,
            deadline,
            |look| if look.at_ms < began_ms { Err("old".into()) } else { good(look) },
        )
        .await
        .map(|()| began.elapsed())
    }
}

/// What an engine says, on one line.
pub fn brief(summary: &Summary) -> String {
    let healths = [&summary.api, &summary.requester, &summary.cache].map(|h| (h.ok, h.message.clone()));
    format!(
        "{:?} in flight {} of {} waiting {} {healths:?}",
        summary.counts, summary.in_flight, summary.in_flight_limit, summary.waiting
    )
}

/// Waits for a value that satisfies this; `old` is none that counts.
pub async fn until<T>(
    values: &mut watch::Receiver<Option<Arc<T>>>,
    deadline: Duration,
    mut good: impl FnMut(&T) -> Result<(), String>,
) -> Result<(), String> {
    let end = Instant::now() + deadline;
    let mut last = "nothing was seen".to_owned();
    loop {
        if tokio::time::timeout_at(end, values.changed()).await.is_err() {
            return Err(last);
        }
        let value = values.borrow_and_update().clone();
        match value.as_deref().map(&mut good) {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) if error != "old" => last = error,
            _ => {}
        }
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn sample_on(
    places: Places,
    seen: Arc<Mutex<Seen>>,
    facts: Arc<Mutex<Facts>>,
    say: watch::Sender<Option<Arc<Sample>>>,
) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judge = truth::Judge::default();
    loop {
        ticks.tick().await;
        let sample = sample(places, &facts).await;
        let now = lock(&facts).clone();
        judge.sample(&sample, &now, &mut lock(&seen));
        lock(&seen).samples.push(sample.clone());
        say.send_replace(Some(Arc::new(sample)));
    }
}

async fn sample(places: Places, facts: &Mutex<Facts>) -> Sample {
    let at = Instant::now();
    let live = http::get(places.public, "/livez").await;
    let ready = http::get(places.public, "/readyz").await;
    let metrics = http::get(places.public, "/metrics").await;
    let summary = http::get(places.private, "/summary").await;
    let (registry, requester) = {
        let facts = lock(facts);
        (facts.registry, facts.requester)
    };
    Sample {
        at,
        took: at.elapsed(),
        live: live.map(|(code, _)| code),
        ready: ready.and_then(|(code, body)| Ok((code, json(&body)?))),
        metrics: metrics
            .and_then(|(code, body)| if code == 200 { Ok(figures(&body)) } else { Err(code.to_string()) }),
        summary: summary.and_then(|(_, body)| json(&body)),
        registry: registry.and_then(|process| vitals(process.pid)),
        requester: requester.and_then(|process| vitals(process.pid)),
    }
}

pub fn json<T: DeserializeOwned>(body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(body)))
}

/// The samples of the Prometheus text format, without its comments; a password in it is kept as a figure of
/// that name.
pub fn figures(body: &Bytes) -> BTreeMap<String, f64> {
    let text = String::from_utf8_lossy(body);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
    let mut figures: BTreeMap<String, f64> = pairs.collect();
    if text.contains(MARK) {
        figures.insert(MARK.to_owned(), 1.0);
    }
    figures
}

async fn look_on(
    places: Places,
    seen: Arc<Mutex<Seen>>,
    facts: Arc<Mutex<Facts>>,
    say: watch::Sender<Option<Arc<Look>>>,
) {
    let mut ticks = interval(TABLE_PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judge = truth::TableJudge::default();
    loop {
        ticks.tick().await;
        let before = lock(&facts).clone();
        let look = look(places).await;
        let now = lock(&facts).clone();
        // What changed in the middle of a look is seen by the next one.
        if before == now {
            judge.look(&look, &now, &mut lock(&seen));
        }
        say.send_replace(Some(Arc::new(look)));
    }
}

async fn look(places: Places) -> Look {
    let at_ms = unix_ms();
    let trunks = match list(places.private).await {
        Ok(pages) => {
            let all = pages.into_iter().flat_map(|page| page.items);
            Some(all.map(|trunk| (trunk.reference.clone(), trunk)).collect())
        }
        Err(_) => None,
    };
    let patience = tokio::time::timeout(Duration::from_secs(2), places.table.bindings());
    Look { at_ms, trunks, bindings: patience.await.ok().and_then(Result::ok) }
}

/// All trunks, page by page.
pub async fn list(private: u16) -> Result<Vec<Page>, String> {
    let (mut pages, mut path) = (Vec::new(), "/registrations?limit=500".to_owned());
    loop {
        let (code, body) = http::get(private, &path).await?;
        if code != 200 {
            return Err(format!("{path}: {code}: {}", String::from_utf8_lossy(&body)));
        }
        let page: Page = json(&body)?;
        let next = page.next_page_token.clone();
        pages.push(page);
        match next {
            Some(token) => path = format!("/registrations?limit=500&page={token}"),
            None => return Ok(pages),
        }
    }
}
