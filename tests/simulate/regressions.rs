//! Seeds that found a defect, each with a line on what it was.

use std::sync::LazyLock;

/// Those of plain worlds first; a heading begins the others.
const FOUND: &str = include_str!("regressions.txt");
/// Beginning of the heading.
const HEADING: &str = "# in the field";

static PLAIN: LazyLock<Vec<u64>> = LazyLock::new(|| seeds(FOUND.split(HEADING).next().unwrap_or_default()));

fn seeds(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// All of them.
pub fn all() -> Vec<u64> {
    seeds(FOUND)
}

/// Returns whether a seed was found in a plain world, before worlds had the field's habits: it stays what it
/// was.
pub fn is_plain(seed: u64) -> bool {
    PLAIN.contains(&seed)
}
