//! Shares of the log's lines, whichever part of the program writes them: a Registry has 100 in 20 s, and the
//! Registries of one namespace together have at most as many as are left for the others
//! ([`crate::quota::pool`]). What is beyond is counted.
//!
//! A line is a Registry's where it, or the span that it is written in, has the field `registry`. Those of
//! level debug and trace are not counted: who turns them on wants them all.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};

use crate::quota::pool::{Pool, Used};

/// Lines of a Registry in each window.
pub const LINES: u32 = 100;
/// Lines of all Registries in each window: half of them at most are those of one namespace. Thousands of
/// Registries may start in one window, with a line or two each.
pub const LINES_OF_ALL: u64 = 8_000;
/// The window.
pub const WINDOW: Duration = Duration::from_secs(20);
/// Target of lines that say how many others were left out: each stands for many, and has no share.
pub const SUM: &str = "routr_registry::telemetry::sum";
/// Registries that are counted at a time. There is no room for more of them in one process.
const MAX_REGISTRIES: usize = 100_000;

static COUNTED: Mutex<Option<Counted>> = Mutex::new(None);

/// Lines that were written and left out.
#[derive(Debug)]
struct Counted {
    /// The end of the window.
    until: Instant,
    lines: Pool,
    namespaces: HashMap<String, Used>,
    /// Lines in this window by Registry.
    registries: HashMap<String, u32>,
    /// Lines that were left out since someone asked, by Registry.
    left_out: HashMap<String, u64>,
}

impl Counted {
    fn from(now: Instant) -> Self {
        Self {
            until: now + WINDOW,
            lines: Pool::new(LINES_OF_ALL),
            namespaces: HashMap::new(),
            registries: HashMap::new(),
            left_out: HashMap::new(),
        }
    }

    /// Counts one more line of a Registry. Returns whether it may be written.
    fn count(&mut self, registry: &str, now: Instant) -> bool {
        if now >= self.until {
            let left_out = std::mem::take(&mut self.left_out);
            *self = Self { left_out, ..Self::from(now) };
        }
        let namespace = registry.split_once('/').map_or(registry, |(namespace, _)| namespace);
        if !self.registries.contains_key(registry) && self.registries.len() < MAX_REGISTRIES {
            self.registries.insert(registry.to_owned(), 0);
        }
        let Some(lines) = self.registries.get_mut(registry) else { return true };
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.to_owned(), Used::default());
        }
        let used = self.namespaces.get(namespace);
        let fits = *lines < LINES && used.is_some_and(|used| self.lines.take(used, 1));
        if fits {
            *lines += 1;
        } else if let Some(left_out) = self.left_out.get_mut(registry) {
            *left_out += 1;
        } else {
            self.left_out.insert(registry.to_owned(), 1);
        }
        fits
    }
}

/// Counts one more line of a Registry. Returns whether it may be written.
fn count(registry: &str, now: Instant) -> bool {
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    counted.get_or_insert_with(|| Counted::from(now)).count(registry, now)
}

/// Takes out which Registries (namespace and name, with a slash between them) had lines left out since the
/// last call, and how many. To be called every [`WINDOW`] or so by anyone who runs many Registries.
pub fn left_out() -> Vec<(String, u64)> {
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    counted.as_mut().map_or_else(Vec::new, |counted| counted.left_out.drain().collect())
}

/// Leaves out what is beyond the shares.
#[derive(Debug)]
pub(super) struct Shares;

/// The Registry of a span.
struct OfRegistry(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Shares {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut names = Names::default();
        attributes.record(&mut names);
        if let (Some(registry), Some(span)) = (names.registry(), context.span(id)) {
            span.extensions_mut().insert(OfRegistry(registry));
        }
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == SUM {
            return true;
        }
        let mut names = Names::default();
        event.record(&mut names);
        let registry = names.registry().or_else(|| {
            let mut spans = context.event_scope(event)?;
            spans.find_map(|span| span.extensions().get::<OfRegistry>().map(|registry| registry.0.clone()))
        });
        registry.is_none_or(|registry| count(&registry, Instant::now()))
    }
}

/// The fields that name a Registry.
#[derive(Default)]
struct Names {
    namespace: Option<String>,
    registry: Option<String>,
}

impl Names {
    fn registry(self) -> Option<String> {
        match (self.namespace, self.registry?) {
            (Some(namespace), registry) => Some(format!("{namespace}/{registry}")),
            (None, registry) => Some(registry),
        }
    }

    fn of(&mut self, field: &Field) -> Option<&mut Option<String>> {
        match field.name() {
            "namespace" => Some(&mut self.namespace),
            "registry" => Some(&mut self.registry),
            _ => None,
        }
    }
}

impl Visit for Names {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(name) = self.of(field) {
            *name = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(name) = self.of(field) {
            let mut text = String::new();
            // It cannot fail: what it is written to is memory.
            let _ = write!(text, "{value:?}");
            *name = Some(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of lines of each of these Registries that are written when each writes 150.
    fn written(counted: &mut Counted, registries: impl Iterator<Item = String>, now: Instant) -> u64 {
        let lines = registries.map(|registry| (0..150).filter(|_| counted.count(&registry, now)).count());
        lines.map(|lines| lines as u64).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_with_many_registries_leaves_lines_for_the_others() {
        let now = Instant::now();
        let mut counted = Counted::from(now);
        let greedy = written(&mut counted, (0..500).map(|n| format!("greedy/{n}")), now);
        assert_eq!(greedy, LINES_OF_ALL / 2);
        assert_eq!(written(&mut counted, ["modest/a".to_owned(), "late/b".to_owned()].into_iter(), now), 200);
        assert_eq!(counted.left_out["modest/a"], 50);
        assert_eq!(counted.left_out.values().sum::<u64>(), 502 * 150 - greedy - 200);
        let next = now + WINDOW;
        assert_eq!(written(&mut counted, std::iter::once("greedy/0".to_owned()), next), 100);
        assert_eq!(counted.left_out["greedy/0"], 100, "of both windows");
    }
}
