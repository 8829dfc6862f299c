//! `trunks --watch`.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use tokio::time::MissedTickBehavior;

use super::{ClientError, Listing, REDRAW_PERIOD, TrunksArgs, api::TrunkList, notes, registry_notes};
use crate::{
    admin_api::{RegistriesResponse, RegistryResponse},
    registry::RegistryPhase,
    table::{self, Screen, Terminal},
};
use routr_registration::{
    engine::view::{Counts, Summary, TrunkView},
    registration::state::TrunkState,
};

/// Watches until Ctrl-C or SIGTERM. Only a service that does not respond the first time is an error: later it
/// may be restarting, and is waited for.
pub(super) async fn run(args: TrunksArgs) -> Result<(), ClientError> {
    let interrupted = interrupted()?;
    tokio::pin!(interrupted);
    tokio::select! {
        result = redraw(args) => result,
        () = &mut interrupted => Ok(()),
    }
}

async fn redraw(args: TrunksArgs) -> Result<(), ClientError> {
    let api = args.service.api();
    let mut view = View::default();
    let mut seconds = tokio::time::interval(REDRAW_PERIOD);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        let terminal = Terminal::detect();
        let limit = args.limit.unwrap_or(terminal.size.map_or(usize::MAX, |(_, height)| usize::from(height)));
        let answer = api.fetch(&args.filter(), limit).await;
        match terminal.size {
            Some((width, height)) => view.draw(answer, &args, (width, height), terminal.colour)?,
            None => view.print(answer, &mut io::stdout().lock())?,
        }
    }
}

/// State of the display so far.
#[derive(Default)]
struct View {
    screen: Option<Screen<io::Stdout>>,
    last: Option<Listing>,
    lines: Changes,
}

impl View {
    fn draw(
        &mut self,
        answer: Result<Listing, ClientError>,
        args: &TrunksArgs,
        (width, height): (u16, u16),
        colour: bool,
    ) -> Result<(), ClientError> {
        let mut footer = Vec::new();
        match answer {
            Ok(sight) => self.last = Some(sight),
            Err(problem) if self.last.is_none() => return Err(problem),
            Err(problem) => footer.extend(table::wrapped(&format!("NOT LIVE: {problem}"), "", Some(width))),
        }
        let (body, footer) = match &self.last {
            None => return Ok(()),
            Some(Listing::Trunks(listing)) => {
                let now = listing.summary.now_ms;
                if listing.trunks.is_empty() {
                    footer.extend(notes(listing, &args.filter()));
                }
                let half = usize::from(height) / 2;
                footer.extend(table::summary_lines_within(half, &listing.summary.summary, now, width));
                table::page(&listing.trunks, footer, now, (width, height), colour)
            }
            Some(Listing::Registries(all)) => {
                footer.extend(registry_notes(all, args, Some(width)));
                (table::registry_lines(&all.registries, all.now_ms, Some(width), colour), footer)
            }
        };
        let screen = match &mut self.screen {
            Some(screen) => screen,
            none => none.insert(Screen::enter(io::stdout())?),
        };
        Ok(screen.draw(&body, &footer, height)?)
    }

    fn print(
        &mut self,
        answer: Result<Listing, ClientError>,
        out: &mut impl Write,
    ) -> Result<(), ClientError> {
        for line in self.lines.of(answer)? {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }
}

/// Properties of a trunk whose change prints a line: anything but the passing of time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    state: TrunkState,
    registrar: String,
    /// EdgePort of the binding; without a binding each attempt may use another EdgePort, which is no change.
    bound: Option<(String, bool)>,
    failure: Option<(String, Option<u16>, String)>,
}

impl Key {
    fn of(trunk: &TrunkView) -> Self {
        let failure = trunk.failure.as_ref().map(|t| (t.reason.clone(), t.code, t.message.clone()));
        let bound = trunk.expires_at_ms.map(|_| (trunk.edge_port.clone(), trunk.failed_over));
        Self { state: trunk.state, registrar: trunk.registrar.clone(), bound, failure }
    }
}

/// The same for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RegistryKey {
    state: Option<(RegistryPhase, String)>,
    answers: bool,
    read: bool,
    counts: Counts,
    dependencies: [Option<bool>; 3],
    over_budget: Vec<String>,
    down: Vec<String>,
}

impl RegistryKey {
    fn of(registry: &RegistryResponse) -> Self {
        let summary = registry.summary.clone().unwrap_or_default();
        Self {
            state: registry.state.as_ref().map(|state| (state.state, state.reason.clone())),
            answers: registry.summary.is_some(),
            read: summary.last_sync_ms.is_some(),
            counts: summary.counts,
            dependencies: [summary.api.ok, summary.requester.ok, summary.cache.ok]
                .map(|ok| ok.filter(|ok| !ok)),
            down: down(&summary),
            over_budget: summary.over_budget,
        }
    }
}

/// Returns what is down, by name.
fn down(summary: &Summary) -> Vec<String> {
    summary.down.iter().map(|down| format!("{} {}", down.what, down.name)).collect()
}

/// Turns what is seen into lines about what changed since the look before.
#[derive(Debug, Default)]
pub(super) struct Changes {
    known: HashMap<String, (Key, String)>,
    registries: HashMap<String, RegistryKey>,
    /// Trunks by state, and what is down.
    counts: Option<(Counts, Vec<String>)>,
    /// True once there was anything to see.
    begun: bool,
    silent: bool,
}

impl Changes {
    /// The lines to print. An error is one only before the first look that succeeds; later it is a line,
    /// once.
    pub(super) fn of(&mut self, answer: Result<Listing, ClientError>) -> Result<Vec<String>, ClientError> {
        let sight = match answer {
            Ok(sight) => sight,
            Err(problem) if !self.begun => return Err(problem),
            Err(_) if self.silent => return Ok(Vec::new()),
            Err(problem) => {
                self.silent = true;
                return Ok(vec![problem.to_string()]);
            }
        };
        self.begun = true;
        let mut lines = Vec::new();
        if std::mem::take(&mut self.silent) {
            lines.push("the service responds again".to_owned());
        }
        match sight {
            Listing::Trunks(listing) => {
                self.registries.clear();
                self.trunks(&listing, &mut lines);
            }
            Listing::Registries(all) => {
                self.known.clear();
                self.counts = None;
                self.registries(&all, &mut lines);
            }
        }
        Ok(lines)
    }

    fn trunks(&mut self, listing: &TrunkList, lines: &mut Vec<String>) {
        let now = listing.summary.now_ms;
        let mut known = HashMap::with_capacity(listing.trunks.len());
        for trunk in &listing.trunks {
            let key = Key::of(trunk);
            let before = self.known.remove(&trunk.reference);
            if before.is_none_or(|(before, _)| before != key) {
                lines.push(table::line(trunk, now));
            }
            known.insert(trunk.reference.clone(), (key, table::label(trunk)));
        }
        if listing.more {
            // What is not on the list may only have been cut off.
            known.extend(std::mem::take(&mut self.known));
        }
        let mut gone: Vec<&String> = self.known.values().map(|(_, label)| label).collect();
        gone.sort();
        lines.extend(gone.into_iter().map(|label| format!("{label}: no longer listed")));
        self.known = known;
        let summary = &listing.summary.summary;
        let counts = Some((summary.counts, down(summary)));
        if self.counts != counts {
            self.counts = counts;
            lines.extend(table::summary_lines(summary, now, None));
        }
    }

    fn registries(&mut self, all: &RegistriesResponse, lines: &mut Vec<String>) {
        let mut known = HashMap::with_capacity(all.registries.len());
        for registry in &all.registries {
            let (label, key) = (table::registry_label(registry), RegistryKey::of(registry));
            if self.registries.remove(&label).as_ref() != Some(&key) {
                lines.push(table::registry_line(registry, all.now_ms));
            }
            known.insert(label, key);
        }
        let mut gone: Vec<&String> = self.registries.keys().collect();
        gone.sort();
        lines.extend(gone.into_iter().map(|label| format!("{label}: no longer listed")));
        self.registries = known;
    }
}

fn interrupted() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
