//! Output for a person: a line for each scenario as it ends, and a table at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::scenario::Outcome;
use crate::support::wait::wait_until;

/// A watcher that is as late as this has little to say of times.
const LATE: Duration = Duration::from_millis(1_500);

/// The lines so far.
pub struct Report {
    began: Instant,
    count: usize,
    trunks: usize,
    folder: PathBuf,
    done: Mutex<Vec<(String, Outcome)>>,
}

impl Report {
    pub fn new(count: usize, trunks: usize, folder: PathBuf) -> Self {
        Self { began: Instant::now(), count, trunks, folder, done: Mutex::default() }
    }

    /// Takes one scenario, and prints its line.
    pub fn add(&self, name: &str, outcome: Outcome) {
        let mut done = self.done.lock().expect("no holder panics");
        let number = done.len() + 1;
        let verdict = if outcome.wrong.is_empty() { "ok    " } else { "FAILED" };
        let Outcome { out, back, .. } = &outcome;
        println!(
            "[{number:>2}/{}] {verdict} {name}: broken for {:.0} s, all well {:.0} s later",
            self.count,
            out.as_secs_f64(),
            back.as_secs_f64()
        );
        for wrong in &outcome.wrong {
            println!("        not true: {wrong}");
        }
        if !outcome.wrong.is_empty() {
            if outcome.late > LATE {
                println!(
                    "        but the watcher itself was late by up to {:.1} s: this machine may have been too busy",
                    outcome.late.as_secs_f64()
                );
            }
            println!("        alone: make chaos ARGS='{name}'   logs: {}", self.place(name).display());
        }
        done.push((name.to_owned(), outcome));
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name.replace([' ', ',', ':'], "-"))
    }

    /// Keeps what the processes said: file names with their contents.
    pub fn keep_logs(&self, name: &str, logs: Vec<(&'static str, String)>, outcome: &Outcome) {
        let place = self.place(name);
        for (file, text) in logs.into_iter().chain([("wrong.txt", outcome.wrong.join("\n"))]) {
            keep(&place, file, &text);
        }
    }

    /// Prints the table. Returns whether all went well.
    pub fn end(&self) -> bool {
        let done = self.done.lock().expect("no holder panics");
        let width = done.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        println!(
            "\n{:<width$}  {:>8} {:>9} {:>9} {:>9}  verdict",
            "scenario", "broken", "well in", "fewest", "peak"
        );
        for (name, outcome) in done.iter() {
            let fewest = outcome.fewest.map_or("-".to_owned(), |fewest| fewest.to_string());
            println!(
                "{name:<width$}  {:>6.1} s {:>7.1} s {fewest:>9} {:>5} MiB  {}",
                outcome.out.as_secs_f64(),
                outcome.back.as_secs_f64(),
                outcome.peak >> 10,
                if outcome.wrong.is_empty() { "ok" } else { "FAILED" }
            );
        }
        println!(
            "\n  broken   how long something was broken\n  well in  from its end until all {} trunks were registered once and everything was said to be well\n  \
             fewest   accounts with a binding at a moment, while Kamailio could be asked\n  peak     most resident memory of the registry (a debug build)",
            self.trunks
        );
        let failed = done.iter().filter(|(_, outcome)| !outcome.wrong.is_empty()).count();
        println!(
            "\n{} scenarios, {failed} failed, in {:.0} s",
            done.len(),
            self.began.elapsed().as_secs_f64()
        );
        failed == 0 && done.len() == self.count
    }
}

fn keep(place: &Path, file: &str, text: &str) {
    if let Err(error) = fs::create_dir_all(place).and_then(|()| fs::write(place.join(file), text)) {
        eprintln!("chaos: {} cannot be written: {error}", place.join(file).display());
    }
}

/// Waits for the processes that were started to be gone, and says which are not.
pub async fn nothing_left() -> bool {
    let gone = tokio::spawn(wait_until(
        async || crate::support::process::left().is_empty(),
        Duration::from_secs(10),
        "the processes to be gone",
    ));
    if gone.await.is_ok() {
        return true;
    }
    println!(
        "chaos: process groups that are left: {:?}; end them by kill -9 -- -GROUP",
        crate::support::process::left()
    );
    false
}
