//! What a run found: figures, each beside the reference that was measured in the same run.

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The group that it belongs to: `first wave`, `memory`, ...
    pub section: &'static str,
    /// What was measured, with its size: `1,000 trunks`.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// Its unit: `REGISTER/s`, `B/trunk`, `ms`.
    pub unit: &'static str,
    /// The same of the reference, in the same unit, and what the reference is.
    pub reference: Option<(f64, &'static str)>,
    /// What it is to be.
    pub goal: Option<Goal>,
    /// Anything that the reader has to know, in a few words.
    pub note: String,
}

/// What a figure is to be.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Goal {
    /// value / reference is so much or more.
    RatioAtLeast(f64),
    /// value / reference is so much or less.
    RatioAtMost(f64),
    /// The value is so much or less.
    AtMost(f64),
}

impl Figure {
    /// value / reference.
    pub fn ratio(&self) -> Option<f64> {
        self.reference.filter(|(of, _)| *of > 0.0).map(|(of, _)| self.value / of)
    }

    /// Whether the goal is met, where there is one.
    pub fn met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::RatioAtLeast(least) => self.ratio()? >= least,
            Goal::RatioAtMost(most) => self.ratio()? <= most,
            Goal::AtMost(most) => self.value <= most,
        })
    }
}

/// A run in progress.
#[derive(Debug)]
pub struct Bench {
    /// A minute for all: smaller sizes, shorter windows.
    pub quick: bool,
    /// What was found so far.
    pub figures: Vec<Figure>,
}

impl Bench {
    /// Says on stderr what is being done now: a run takes minutes.
    pub fn progress(&self, what: &str) {
        eprintln!("bench: {what}");
    }

    /// Takes a figure.
    pub fn figure(&mut self, figure: Figure) {
        self.figures.push(figure);
    }
}
