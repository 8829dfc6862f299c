//! The command line's side of the private port: `routr-registry trunks`, `refresh` and `why`.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Args;

use crate::{
    admin_api::RegistriesResponse,
    table::{self, Terminal},
};
use routr_registration::{engine::view::Filter, registration::state::TrunkState};

mod api;
mod watch;
mod why;

#[cfg(test)]
mod tests;

use api::{Api, Listing, TrunkList};
pub use why::{WhyArgs, why};

/// Most trunks in a table unless `--limit` says otherwise: a person no longer reads more.
const TABLE_LIMIT: usize = 1000;

/// Location of the service.
#[derive(Args, Clone, Debug)]
pub struct ServiceArgs {
    /// URL of the private port of a running registry
    #[arg(long, env = "ROUTR_REGISTRY_URL", default_value = "http://127.0.0.1:8081", value_parser = parse_url)]
    pub url: String,
    /// Registry to ask, if several run there: NAMESPACE/NAME, or NAME if it is unique
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = parse_registry)]
    pub registry: Option<String>,
}

impl ServiceArgs {
    fn api(&self) -> Api {
        Api::new(&self.url, self.registry.as_deref())
    }
}

/// Show the trunks of a running registry, unhealthy ones first; show the registries if several run
#[derive(Args, Clone, Debug)]
pub struct TrunksArgs {
    /// Location of the service.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Only trunks in these states: registered, atRisk, failing, invalid, pending, deregistering
    #[arg(long, value_delimiter = ',', value_parser = parse_state)]
    pub state: Vec<TrunkState>,
    /// Only trunks at this registrar host
    #[arg(long, value_name = "HOST")]
    pub registrar: Option<String>,
    /// Only trunks whose ref, name or address contains this
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// At most this many trunks [default: 1000 in a table, otherwise all]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Print a JSON array, ordered by ref
    #[arg(long, conflicts_with = "watch")]
    pub json: bool,
    /// Keep the table live until Ctrl-C; without a terminal, print a line for each change
    #[arg(long)]
    pub watch: bool,
}

impl TrunksArgs {
    fn filter(&self) -> Filter {
        Filter { states: self.state.clone(), registrar: self.registrar.clone(), text: self.search.clone() }
    }
}

/// Register one trunk now
#[derive(Args, Clone, Debug)]
pub struct RefreshArgs {
    /// Ref of the trunk, or its name if only one trunk has it
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Location of the service.
    #[command(flatten)]
    pub service: ServiceArgs,
}

/// Failure of a query: the service could not be asked, or refused, or its response cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there, or nothing responds.
    #[error(
        "cannot reach routr-registry at {url}: {problem}; is it running? In Kubernetes, first run `kubectl \
         port-forward deploy/routr-registry 8081`"
    )]
    NoResponse {
        /// URL that was tried.
        url: String,
        /// Error of the system.
        problem: String,
    },
    /// Something else listens there.
    #[error("{url} is not the private port of routr-registry ({problem}); pass another --url")]
    NotARegistry {
        /// URL that was tried.
        url: String,
        /// Problem with the response.
        problem: String,
    },
    /// The service said no.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Message in the service's own words.
        message: String,
    },
    /// A replica of an operator at which no registries run.
    #[error("no registry runs at {url}: this replica {standing}")]
    NotTheLeader {
        /// URL of the replica that was asked.
        url: String,
        /// Role of the replica, in its own words.
        standing: String,
    },
    /// Several trunks have this name.
    #[error("{count} trunks are named {name:?}; give the ref of one of them: {refs}", count = .refs.len(), refs = .refs.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// Their refs.
        refs: Vec<String>,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The response cannot be written as JSON.
    #[error("cannot write the output: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs `routr-registry trunks` on standard output.
///
/// # Errors
/// When the service cannot be asked, or refuses.
pub async fn trunks(args: TrunksArgs) -> Result<(), ClientError> {
    let result = match (args.watch, args.json) {
        (true, _) => watch::run(args).await,
        (false, true) => print_json(&args, &mut io::stdout()).await,
        (false, false) => print_table(&args, Terminal::detect(), &mut io::stdout()).await,
    };
    quiet_pipe(result)
}

/// Runs `routr-registry refresh REF`.
///
/// # Errors
/// When the service cannot be asked, knows no such trunk, or cannot register it.
pub async fn refresh(args: RefreshArgs) -> Result<(), ClientError> {
    quiet_pipe(print_refresh(&args, &mut io::stdout()).await)
}

/// A reader that has seen enough, such as `head`, is no failure.
fn quiet_pipe(result: Result<(), ClientError>) -> Result<(), ClientError> {
    match result {
        Err(ClientError::Output(problem)) if problem.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(ClientError::Json(problem)) if problem.io_error_kind() == Some(io::ErrorKind::BrokenPipe) => {
            Ok(())
        }
        result => result,
    }
}

async fn print_table(args: &TrunksArgs, terminal: Terminal, out: &mut impl Write) -> Result<(), ClientError> {
    let listing = match args.service.api().fetch(&args.filter(), args.limit.unwrap_or(TABLE_LIMIT)).await? {
        Listing::Trunks(listing) => listing,
        Listing::Registries(all) => return print_registries(&all, args, terminal, out),
    };
    let now = listing.summary.now_ms;
    for line in table::trunk_lines(&listing.trunks, now, terminal.width(), terminal.colour) {
        writeln!(out, "{line}")?;
    }
    if !listing.trunks.is_empty() {
        writeln!(out)?;
    }
    if let Some(line) = table::edge_port_line(&listing.trunks, terminal.width()) {
        writeln!(out, "{line}")?;
    }
    for line in notes(&listing, &args.filter()) {
        writeln!(out, "{line}")?;
    }
    for line in table::summary_lines(&listing.summary.summary, now, terminal.width()) {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

fn print_registries(
    all: &RegistriesResponse,
    args: &TrunksArgs,
    terminal: Terminal,
    out: &mut impl Write,
) -> Result<(), ClientError> {
    let body = table::registry_lines(&all.registries, all.now_ms, terminal.width(), terminal.colour);
    for line in &body {
        writeln!(out, "{line}")?;
    }
    if !body.is_empty() {
        writeln!(out)?;
    }
    for line in registry_notes(all, args, terminal.width()) {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// Returns what stands under a table of registries.
fn registry_notes(all: &RegistriesResponse, args: &TrunksArgs, width: Option<u16>) -> Vec<String> {
    let Some(first) = all.registries.first() else {
        return vec!["No registries: there is no Registry resource here.".to_owned()];
    };
    let mut notes = vec![table::registry_totals(&all.registries, all.now_ms)];
    if args.filter() != Filter::default() || (args.limit.is_some() && !args.watch) {
        notes
            .push("--state, --registrar, --search and --limit filter the trunks of one registry.".to_owned());
    }
    notes.push(format!("Trunks of one: routr-registry trunks --registry {}", table::registry_label(first)));
    notes.iter().flat_map(|note| table::wrapped(note, "", width)).collect()
}

/// Returns what a reader of a filtered or cut table has to know.
fn notes(listing: &TrunkList, filter: &Filter) -> Vec<String> {
    if listing.more {
        return vec![format!(
            "Only {} trunks are shown; narrow with --state, --registrar or --search, or raise --limit.",
            listing.trunks.len()
        )];
    }
    if listing.trunks.is_empty() && *filter != Filter::default() {
        return vec!["No trunk matches the filter. Of all trunks:".to_owned()];
    }
    Vec::new()
}

/// Streams: a million trunks need not fit into memory.
async fn print_json(args: &TrunksArgs, out: &mut impl Write) -> Result<(), ClientError> {
    let mut first = true;
    let limit = args.limit.unwrap_or(usize::MAX);
    let api = args.service.api();
    api.each_page(&args.filter(), limit, |trunks| {
        for trunk in trunks {
            out.write_all(if first { b"[\n" } else { b",\n" })?;
            first = false;
            serde_json::to_writer(&mut *out, &trunk)?;
        }
        Ok(())
    })
    .await?;
    out.write_all(if first { b"[]\n" } else { b"\n]\n" })?;
    Ok(out.flush()?)
}

async fn print_refresh(args: &RefreshArgs, out: &mut impl Write) -> Result<(), ClientError> {
    let api = args.service.api();
    let (reference, answer) =
        api.by_ref_or_name(&args.reference, async |reference| api.refresh(reference).await).await?;
    writeln!(out, "{}: {}", table::clean(&reference), table::clean(&answer.message))?;
    Ok(out.flush()?)
}

fn parse_state(text: &str) -> Result<TrunkState, String> {
    TrunkState::parse(text).ok_or_else(|| {
        format!("not a state; use one or more of {}", TrunkState::ALL.map(TrunkState::name).join(", "))
    })
}

fn parse_registry(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('/') || text.ends_with('/') {
        return Err("not the name of a registry; use NAMESPACE/NAME, or NAME alone".to_owned());
    }
    Ok(text.to_owned())
}

/// Accepts `host:port` too. The private port speaks plain HTTP on loopback.
fn parse_url(text: &str) -> Result<String, String> {
    let text = text.trim();
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = url.trim_end_matches('/').to_owned();
    let parsed: Result<hyper::Uri, _> = url.parse();
    match parsed {
        Ok(uri)
            if uri.scheme_str() == Some("http")
                && uri.host().is_some_and(|h| !h.is_empty())
                && uri.query().is_none() =>
        {
            Ok(url)
        }
        _ => Err("not the address of a private port; use http://HOST:PORT, such as http://127.0.0.1:8081"
            .to_owned()),
    }
}

/// Period at which a watched table is redrawn.
const REDRAW_PERIOD: Duration = Duration::from_secs(1);
