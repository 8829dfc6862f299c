//! Findings of a run: figures, each beside the reference that was measured in the same run.

use serde::Serialize;
use tokio::time::Instant;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The group that it belongs to: `first wave`, `memory`, ...
    pub section: &'static str,
    /// Object of the measurement, with its size: `1,000 trunks`.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// Its unit: `REGISTER/s`, `B/trunk`, `ms`.
    pub unit: &'static str,
    /// The same of the reference, in the same unit, and what the reference is.
    pub reference: Option<(f64, &'static str)>,
    /// Goal for the figure.
    pub goal: Option<Goal>,
    /// Anything that the reader has to know, in a few words.
    pub note: String,
}

/// Goal for a figure.
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

    /// Returns whether the goal is met, where there is one.
    pub fn met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::RatioAtLeast(least) => self.ratio()? >= least,
            Goal::RatioAtMost(most) => self.ratio()? <= most,
            Goal::AtMost(most) => self.value <= most,
        })
    }
}

/// Cost of a number of trunks, for the plot.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Number of trunks.
    pub trunks: u64,
    /// Seconds from the first REGISTER of the first wave to the last.
    pub wave_s: f64,
    /// Processor time of the product from its start to the last response.
    pub cpu_s: f64,
    /// Resident bytes when all are registered.
    pub resident: u64,
}

/// A run in progress.
#[derive(Debug)]
pub struct Bench {
    /// A minute for all: smaller sizes, shorter windows.
    pub quick: bool,
    /// Figures found so far.
    pub figures: Vec<Figure>,
    /// Growth of cost with trunks.
    pub costs: Vec<Cost>,
    start: Instant,
}

impl Bench {
    /// A run that begins now.
    pub fn new(quick: bool) -> Self {
        Self { quick, figures: Vec::new(), costs: Vec::new(), start: Instant::now() }
    }

    /// Says on stderr what is being done now: a run takes minutes.
    pub fn progress(&self, what: &str) {
        let seconds = self.start.elapsed().as_secs();
        eprintln!("bench {:>2}:{:02}  {what}", seconds / 60, seconds % 60);
    }

    /// Takes a figure.
    pub fn figure(&mut self, figure: Figure) {
        self.progress(&format!("  {}: {}", figure.section, crate::screen::line(&figure)));
        self.figures.push(figure);
    }

    /// Returns whether figures of this section were taken already: sections that need the same million trunks
    /// share them.
    pub fn has(&self, section: &str) -> bool {
        self.figures.iter().any(|figure| figure.section == section)
    }

    /// Returns the duration of the run so far, in seconds.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// The one in the middle, or the mean of the two there.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Writes a number with commas: `1,000,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
