//! A Registry's share of the log's lines: 100 in 20 s, whichever part of the program writes them. What is
//! beyond is counted.
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

/// Lines of a Registry in each window.
pub const LINES: u32 = 100;
/// The window.
pub const WINDOW: Duration = Duration::from_secs(20);
/// Target of lines that say how many others were left out: each stands for many, and has no share.
pub const SUM: &str = "routr_registry::telemetry::sum";
/// Registries that are counted at a time. There is no room for more of them in one process.
const MAX_REGISTRIES: usize = 100_000;

static COUNTED: Mutex<Option<HashMap<String, Counted>>> = Mutex::new(None);

#[derive(Debug)]
struct Counted {
    until: Instant,
    lines: u32,
    left_out: u64,
}

/// Counts one more line of a Registry. Returns whether it may be written.
fn count(registry: &str, now: Instant) -> bool {
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let counted = counted.get_or_insert_default();
    let Some(one) = counted.get_mut(registry) else {
        if counted.len() < MAX_REGISTRIES {
            counted.insert(registry.to_owned(), Counted { until: now + WINDOW, lines: 1, left_out: 0 });
        }
        return true;
    };
    if now >= one.until {
        (one.until, one.lines) = (now + WINDOW, 0);
    }
    let fits = one.lines < LINES;
    if fits {
        one.lines += 1;
    } else {
        one.left_out += 1;
    }
    fits
}

/// Takes out which Registries (namespace and name, with a slash between them) had lines left out since the
/// last call, and how many. To be called every [`WINDOW`] or so by anyone who runs many Registries.
pub fn left_out() -> Vec<(String, u64)> {
    let now = Instant::now();
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(counted) = counted.as_mut() else { return Vec::new() };
    let left_out = counted.iter_mut().filter(|(_, one)| one.left_out > 0);
    let left_out = left_out.map(|(registry, one)| (registry.clone(), std::mem::take(&mut one.left_out)));
    let left_out = left_out.collect();
    counted.retain(|_, one| now < one.until);
    left_out
}

/// Leaves out what is beyond each Registry's share.
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
