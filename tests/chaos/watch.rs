//! The watcher: looks the whole time at all that a world says, at Kamailio's location table and at the
//! processes, and records what was not true. What a look is, and what is judged in it, is the world's:
//! [`Watched`].

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use routr_environment::unix_ms;
use routr_registration::engine::view::{Page, Summary, TrunkView};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http;
use crate::parts::MARK;
use crate::support::kamailio::{Binding, LocationTable};
use crate::table::{TableFacts, TableJudge};

/// Between two looks at what a world says.
pub const PACE: Duration = Duration::from_millis(250);
/// Between two looks at all its trunks and at all bindings.
const TABLE_PACE: Duration = Duration::from_secs(1);
/// So many looks in a row, and a difference is one.
pub const IN_A_ROW: u32 = 3;

/// The dependencies that a registry reports, by the names that it uses.
pub const DEPENDENCIES: [&str; 3] = ["api", "requester", "cache"];

/// One look at what a world says.
pub trait Sample: Clone + Send + Sync + 'static {
    /// Returns when it began.
    fn at(&self) -> Instant;
    /// Returns when it ended.
    fn ended(&self) -> Instant;
    /// Returns what it shows, on one line.
    fn line(&self) -> String;
}

/// Places to look at, and how they are judged.
pub trait Watched: Send + Sync + 'static {
    type Sample: Sample;
    /// Facts that the watcher cannot see by itself.
    type Facts: Clone + PartialEq + Send + 'static;
    type Judge: Default + Send;

    /// Takes a look. `before` are the facts as it began; `looked` is the last look at all trunks.
    fn sample(
        &self,
        before: &Self::Facts,
        facts: &Mutex<Self::Facts>,
        looked: Option<Arc<Look>>,
    ) -> impl Future<Output = Self::Sample> + Send;

    /// Judges a look by the facts before and after it.
    fn judge(
        &self,
        judge: &mut Self::Judge,
        sample: &Self::Sample,
        before: &Self::Facts,
        now: &Self::Facts,
        findings: &mut Findings,
    );

    /// Returns which registry lists its trunks at present, if any should.
    fn lister(&self, facts: &Self::Facts, last: Option<&Self::Sample>) -> Option<usize>;

    /// Returns the private port of a registry.
    fn private(&self, index: usize) -> u16;

    /// Returns Kamailio's location table.
    fn table(&self) -> LocationTable;

    /// Returns what matters for that table, where this registry lists its trunks.
    fn about_table<'a>(&self, facts: &'a Self::Facts, lister: Option<usize>) -> TableFacts<'a>;

    /// Runs beside the looks until the watcher ends.
    fn run(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// One look at all trunks.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Time at which it began, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `None` when the list does not answer.
    pub trunks: Option<BTreeMap<String, TrunkView>>,
    /// `None` while Kamailio does not answer.
    pub bindings: Option<Vec<Binding>>,
}

/// Findings so far.
#[derive(Default)]
pub struct Findings {
    /// The fewest addresses of record that had a binding while Kamailio responded.
    pub fewest: Option<usize>,
    /// Requirements that were not met, each with how often.
    pub wrong: BTreeMap<String, (u32, String)>,
}

impl Findings {
    /// Notes that something was not true: `what` in a few fixed words, and how it was seen.
    pub fn wrong(&mut self, what: &str, details: String) {
        self.wrong.entry(what.to_owned()).or_insert((0, details)).0 += 1;
    }
}

/// Everything seen since the last [`Watch::begin`].
pub struct Seen<S> {
    pub samples: Vec<S>,
    pub findings: Findings,
}

impl<S> Default for Seen<S> {
    fn default() -> Self {
        Self { samples: Vec::new(), findings: Findings::default() }
    }
}

/// The latest of something, once there is one.
type Latest<T> = watch::Receiver<Option<Arc<T>>>;

/// The watcher. Ends when it is dropped.
pub struct Watch<W: Watched> {
    seen: Arc<Mutex<Seen<W::Sample>>>,
    facts: Arc<Mutex<W::Facts>>,
    samples: Latest<W::Sample>,
    looks: Latest<Look>,
    _end: DropGuard,
}

impl<W: Watched> Watch<W> {
    pub fn start(places: W, facts: W::Facts) -> Self {
        let (say_sample, samples) = watch::channel(None);
        let (say_look, looks) = watch::channel(None);
        let end = CancellationToken::new();
        let watcher = Arc::new(Watcher {
            places,
            seen: Arc::new(Mutex::new(Seen::default())),
            facts: Arc::new(Mutex::new(facts)),
        });
        let (seen, facts) = (watcher.seen.clone(), watcher.facts.clone());
        let (beside, sampling) = (watcher.clone(), watcher.clone());
        let (last, looked) = (samples.clone(), looks.clone());
        let beside = async move { beside.places.run().await };
        tokio::spawn(end.clone().run_until_cancelled_owned(beside));
        let sampling = async move { sampling.sample(looked, say_sample).await };
        tokio::spawn(end.clone().run_until_cancelled_owned(sampling));
        let looking = async move { watcher.look(last, say_look).await };
        tokio::spawn(end.clone().run_until_cancelled_owned(looking));
        Self { seen, facts, samples, looks, _end: end.drop_guard() }
    }

    /// Forgets what was seen so far.
    pub fn begin(&self) {
        *self.seen() = Seen::default();
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen<W::Sample>> {
        lock(&self.seen)
    }

    /// Returns what is known beside what is seen.
    pub fn facts(&self) -> MutexGuard<'_, W::Facts> {
        lock(&self.facts)
    }

    /// The last look.
    pub fn last(&self) -> Option<Arc<W::Sample>> {
        self.samples.borrow().clone()
    }

    /// Returns what was seen, one line for each look.
    pub fn protocol(&self) -> String {
        let seen = self.seen();
        let Some(first) = seen.samples.first() else { return String::new() };
        let seconds = |sample: &W::Sample| (sample.at() - first.at()).as_secs_f64();
        seen.samples.iter().map(|sample| format!("{:8.2} {}\n", seconds(sample), sample.line())).collect()
    }

    /// Waits for a look that begins from now on and satisfies this. Returns how long that took.
    pub async fn until_sample(
        &mut self,
        deadline: Duration,
        mut good: impl FnMut(&W::Sample) -> Result<(), String>,
    ) -> Result<Duration, String> {
        let began = Instant::now();
        let new = |sample: &W::Sample| sample.at() >= began;
        until(&mut self.samples, deadline, new, &mut good).await.map(|()| began.elapsed())
    }

    /// The same for looks at all trunks.
    pub async fn until_look(
        &mut self,
        deadline: Duration,
        mut good: impl FnMut(&Look) -> Result<(), String>,
    ) -> Result<Duration, String> {
        let (began, began_ms) = (Instant::now(), unix_ms());
        let new = |look: &Look| look.at_ms >= began_ms;
        until(&mut self.looks, deadline, new, &mut good).await.map(|()| began.elapsed())
    }
}

/// Waits for a value that is new and satisfies this.
async fn until<T>(
    values: &mut Latest<T>,
    deadline: Duration,
    new: impl Fn(&T) -> bool,
    good: &mut impl FnMut(&T) -> Result<(), String>,
) -> Result<(), String> {
    let end = Instant::now() + deadline;
    let mut last = "nothing was seen".to_owned();
    loop {
        if tokio::time::timeout_at(end, values.changed()).await.is_err() {
            return Err(last);
        }
        let value = values.borrow_and_update().clone();
        match value.as_deref().filter(|value| new(value)).map(&mut *good) {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => last = error,
            None => {}
        }
    }
}

/// State that the tasks of a watcher share.
struct Watcher<W: Watched> {
    places: W,
    seen: Arc<Mutex<Seen<W::Sample>>>,
    facts: Arc<Mutex<W::Facts>>,
}

impl<W: Watched> Watcher<W> {
    async fn sample(&self, looked: Latest<Look>, say: watch::Sender<Option<Arc<W::Sample>>>) {
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut judge = W::Judge::default();
        loop {
            ticks.tick().await;
            let before = lock(&self.facts).clone();
            let last = looked.borrow().clone();
            let sample = self.places.sample(&before, &self.facts, last).await;
            let now = lock(&self.facts).clone();
            {
                let mut seen = lock(&self.seen);
                self.places.judge(&mut judge, &sample, &before, &now, &mut seen.findings);
                seen.samples.push(sample.clone());
            }
            say.send_replace(Some(Arc::new(sample)));
        }
    }

    async fn look(&self, last: Latest<W::Sample>, say: watch::Sender<Option<Arc<Look>>>) {
        let mut ticks = interval(TABLE_PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut judge = TableJudge::default();
        loop {
            ticks.tick().await;
            let before = lock(&self.facts).clone();
            let sample = last.borrow().clone();
            let lister = self.places.lister(&before, sample.as_deref());
            let look = self.look_once(lister).await;
            let now = lock(&self.facts).clone();
            // What changed in the middle of a look is seen by the next one.
            if before == now {
                let facts = self.places.about_table(&now, lister);
                judge.look(&look, &facts, &mut lock(&self.seen).findings);
            }
            say.send_replace(Some(Arc::new(look)));
        }
    }

    async fn look_once(&self, lister: Option<usize>) -> Look {
        let at_ms = unix_ms();
        let trunks = match lister {
            Some(lister) => list(self.places.private(lister)).await.ok().map(|pages| {
                let all = pages.into_iter().flat_map(|page| page.items);
                all.map(|trunk| (trunk.reference.clone(), trunk)).collect()
            }),
            None => None,
        };
        let table = self.places.table();
        let bindings = timeout(Duration::from_secs(2), table.bindings()).await.ok().and_then(Result::ok);
        Look { at_ms, trunks, bindings }
    }
}

/// Returns what an engine says, on one line.
pub fn brief(summary: &Summary) -> String {
    let healths = [&summary.api, &summary.requester, &summary.cache].map(|h| (h.ok, h.message.clone()));
    format!(
        "{:?} in flight {} of {} waiting {} {healths:?}",
        summary.counts, summary.in_flight, summary.in_flight_limit, summary.waiting
    )
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
