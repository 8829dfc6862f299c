//! `routr-registry demo`: everything that a registry needs, on loopback and real: an API server over resource
//! files, a Requester, SIP registrars, and sample trunks of which some fail in instructive ways.

use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, AdminState, Directory},
    config::{self, Config, Format},
    devstack::{
        api::{ApiOptions, ApiServer},
        samples::{self, SAMPLES},
    },
    metrics::Metrics,
    registry::RegistryName,
    requester,
    runtime::handle::{EngineHandle, MAX_PAGE},
    standalone::{self, StandaloneError},
    table::{self, Screen, Terminal},
};
use routr_registration::{
    engine::view::{Filter, Summary, TrunkView},
    registration::state::TrunkState,
};

/// A silent registrar is given up after this long, so that no one has to wait for the 32 s of RFC 3261's
/// Timer F.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// `--once` gives up after this long.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Interval between two looks at the trunks.
const POLL_PERIOD: Duration = Duration::from_millis(250);

/// See it run: sample trunks, an API server, a Requester and SIP registrars, all on loopback.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Exit as soon as all trunks have settled, with status 0 if each is as it should be.
    #[arg(long)]
    pub once: bool,
    /// Folder for the sample resources, created if missing [default: a temporary folder].
    #[arg(long, value_name = "DIR")]
    pub resources: Option<PathBuf>,
    /// Leave out the registry and the Requester, and write a registry.yaml for `run --requester`, which is
    /// both.
    #[arg(long, conflicts_with = "once")]
    pub without_registry: bool,
}

/// Reason that the demo cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A port, a file or the terminal.
    #[error("{what}: {source}")]
    Io {
        /// Action that failed.
        what: String,
        /// Error of the system.
        source: io::Error,
    },
    /// One of the parts does not start.
    #[error("cannot start {part}: {problem}")]
    Part {
        /// Name of the part.
        part: &'static str,
        /// Problem in plain words.
        problem: String,
    },
    /// The registry does not start.
    #[error(transparent)]
    Registry(#[from] StandaloneError),
    /// `--once`: not everything is as it should be.
    #[error("not as it should be: {0}")]
    NotSettled(String),
    /// `--once`: a signal came before everything had settled.
    #[error("interrupted before all trunks had settled")]
    Interrupted,
}

impl DemoError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    fn part<E: std::fmt::Display>(part: &'static str) -> impl FnOnce(E) -> Self {
        move |problem| Self::Part { part, problem: problem.to_string() }
    }
}

/// Runs the subcommand until `shutdown` is cancelled, or until all trunks have settled.
///
/// # Errors
/// When a part does not start, or, with `--once`, when a trunk is not as it should be.
pub async fn run(args: DemoArgs, shutdown: CancellationToken) -> Result<(), DemoError> {
    let backend = Backend::start(&args, shutdown.clone()).await?;
    if args.without_registry {
        let result = backend.alone(&shutdown).await;
        backend.remove();
        return result;
    }
    let stage = Demo::set(backend, shutdown.clone()).await?;
    let result = match (args.once, Terminal::detect().size) {
        (true, _) => stage.settle(&shutdown).await,
        (false, Some(_)) => stage.live(&shutdown).await,
        (false, None) => stage.lines(&shutdown).await,
    };
    shutdown.cancel();
    let _ = stage.engine.await;
    stage.backend.remove();
    match result {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(DemoError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Surroundings of a registry and a Requester, running: an API server and SIP registrars.
struct Backend {
    resources: PathBuf,
    temporary: bool,
    api: SocketAddr,
}

impl Backend {
    async fn start(args: &DemoArgs, shutdown: CancellationToken) -> Result<Self, DemoError> {
        let registrars = samples::start_registrars(shutdown.clone())
            .await
            .map_err(DemoError::part("the SIP registrars"))?;
        let temporary = args.resources.is_none();
        let resources = args.resources.clone().unwrap_or_else(|| {
            std::env::temp_dir().join(format!("routr-registry-demo-{:016x}", routr_environment::random()))
        });
        let folder = resources.display().to_string();
        std::fs::create_dir_all(&resources).map_err(DemoError::io(format!("cannot make {folder}")))?;
        registrars
            .samples()
            .write(&resources)
            .map_err(DemoError::io(format!("cannot write into {folder}")))?;

        let options = ApiOptions { paged: false, poll_interval: POLL_PERIOD };
        let server = ApiServer::load_with(&resources, options).map_err(DemoError::part("the API server"))?;
        let listener = loopback().await?;
        let api = address_of(&listener)?;
        tokio::spawn(async move { server.serve(listener, shutdown).await });
        Ok(Self { resources, temporary, api })
    }

    /// Says how to run a registry against it, and waits.
    async fn alone(&self, shutdown: &CancellationToken) -> Result<(), DemoError> {
        let file = self.resources.join("registry.yaml");
        let text = configuration_text(self.api, "localhost:51909");
        std::fs::write(&file, text).map_err(DemoError::io(format!("cannot write {}", file.display())))?;
        let program = std::env::current_exe().unwrap_or_else(|_| "routr-registry".into());
        let program = program.display();
        say(&format!(
            "Running on loopback: an API server with {} sample trunks, and 4 SIP registrars. In another terminal, the \
             registry and its Requester as one process:\n\n  {program} run --requester --config {}\n\nIn a third one:\n\n  \
             {program} trunks --watch\n\nThe trunks are read from {}: edit trunks.yaml or credentials.yaml there and watch. \
             Ctrl-C ends.",
            SAMPLES.len(),
            file.display(),
            self.resources.display()
        ))?;
        shutdown.cancelled().await;
        Ok(())
    }

    fn remove(&self) {
        if self.temporary {
            // What is left in a temporary folder does no harm.
            let _ = std::fs::remove_dir_all(&self.resources);
        }
    }
}

/// All parts, running.
struct Demo {
    handle: EngineHandle,
    engine: tokio::task::JoinHandle<routr_registration::engine::Engine>,
    backend: Backend,
    admin: SocketAddr,
}

impl Demo {
    async fn set(backend: Backend, shutdown: CancellationToken) -> Result<Self, DemoError> {
        let requester_listener = loopback().await?;
        let requester_addr = address_of(&requester_listener)?;
        let options = requester::Options {
            sip_bind: Ipv4Addr::UNSPECIFIED.into(),
            answer_within: CALL_TIMEOUT,
            ..requester::Options::default()
        };
        tokio::spawn(requester::serve(requester_listener, options, shutdown.clone()));

        let config = configuration(backend.api, requester_addr)?;
        let metrics = Metrics::new(routr_environment::unix_ms());
        let name = RegistryName::plain(&config.name);
        let observer = metrics.registry(name.clone());
        let running = standalone::start(&config, observer, Duration::from_millis(500), shutdown.clone())?;
        let private = match TcpListener::bind(admin::DEFAULT_PRIVATE).await {
            Ok(listener) => listener,
            Err(_) => loopback().await?,
        };
        let admin = address_of(&private)?;
        let directory = Directory::of_one(name, running.handle.clone());
        let state = AdminState::new(directory, metrics, Arc::new(routr_environment::System));
        tokio::spawn(admin::serve(None, Some(private), state, shutdown));
        Ok(Self { handle: running.handle, engine: running.task, backend, admin })
    }

    async fn fetch(&self) -> (Vec<TrunkView>, Summary) {
        let page = self.handle.list(Filter::default(), None, MAX_PAGE).await.unwrap_or_default();
        let mut trunks = page.items;
        table::sort_by_urgency(&mut trunks);
        (trunks, self.handle.summary().await.unwrap_or_default())
    }

    fn hints(&self) -> Vec<String> {
        vec![
            format!(
                "The trunks are read from {}: edit trunks.yaml or credentials.yaml there and watch.",
                self.backend.resources.display()
            ),
            format!("Another terminal: routr-registry trunks --url http://{}", self.admin),
        ]
    }

    async fn live(&self, shutdown: &CancellationToken) -> Result<(), DemoError> {
        let mut screen = Screen::enter(io::stdout()).map_err(DemoError::io("cannot draw on the terminal"))?;
        loop {
            let (trunks, summary) = self.fetch().await;
            let terminal = Terminal::detect();
            let (width, height) = terminal.size.unwrap_or((80, 24));
            let now = routr_environment::unix_ms();
            let mut footer = table::summary_lines_within(usize::from(height) / 2, &summary, now, width);
            for hint in self.hints() {
                footer.extend(table::wrapped(&hint, "", Some(width)));
            }
            footer.push("Ctrl-C ends.".to_owned());
            let (body, footer) = table::page(&trunks, footer, now, (width, height), terminal.colour);
            screen.draw(&body, &footer, height).map_err(DemoError::io("cannot draw on the terminal"))?;
            tokio::select! {
                () = tokio::time::sleep(POLL_PERIOD) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Prints a line for each change, where there is no terminal.
    async fn lines(&self, shutdown: &CancellationToken) -> Result<(), DemoError> {
        say(&introduction())?;
        for hint in self.hints() {
            say(&hint)?;
        }
        let mut shown = HashMap::new();
        loop {
            let (trunks, _) = self.fetch().await;
            say_changes(&trunks, &mut shown)?;
            tokio::select! {
                () = tokio::time::sleep(POLL_PERIOD) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    async fn settle(&self, shutdown: &CancellationToken) -> Result<(), DemoError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        say(&introduction())?;
        let mut shown = HashMap::new();
        let (mut trunks, mut summary) = self.fetch().await;
        while !unsettled(&trunks).is_empty() && Instant::now() < deadline && !shutdown.is_cancelled() {
            if !io::stdout().is_terminal() {
                say_changes(&trunks, &mut shown)?;
            }
            tokio::time::sleep(POLL_PERIOD).await;
            (trunks, summary) = self.fetch().await;
        }
        let terminal = Terminal::detect();
        let now = routr_environment::unix_ms();
        if !io::stdout().is_terminal() {
            say_changes(&trunks, &mut shown)?;
            say("")?;
        }
        say(&table::render(&trunks, &summary, now, terminal.width(), terminal.colour))?;
        let wrong = unsettled(&trunks);
        if !wrong.is_empty() && shutdown.is_cancelled() {
            return Err(DemoError::Interrupted);
        }
        if !wrong.is_empty() {
            return Err(DemoError::NotSettled(wrong.join("; ")));
        }
        let healthy = SAMPLES.iter().filter(|sample| sample.healthy).count();
        say(&format!(
            "Everything is as it should be: {healthy} working trunks are registered, {} faulty ones report \
             why they are not.",
            SAMPLES.len() - healthy
        ))
    }
}

/// Returns a description of what the demo runs.
fn introduction() -> String {
    let healthy = SAMPLES.iter().filter(|sample| sample.healthy).count();
    format!(
        "Running on loopback, all of it real: an API server with {} sample trunks, a Requester, 4 SIP \
         registrars, and the registry.\n{healthy} trunks work and will be registered; {} are faulty and \
         report why they are not.",
        SAMPLES.len(),
        SAMPLES.len() - healthy
    )
}

/// Samples that are not, or not yet, as they should be.
fn unsettled(trunks: &[TrunkView]) -> Vec<String> {
    let states: HashMap<&str, &TrunkView> = trunks.iter().map(|trunk| (&*trunk.reference, trunk)).collect();
    SAMPLES
        .iter()
        .filter_map(|sample| {
            let trunk = states.get(sample.reference);
            let state = trunk.map(|trunk| trunk.state);
            let right = match (sample.healthy, state) {
                (true, Some(TrunkState::Registered)) => true,
                (false, Some(TrunkState::Failing | TrunkState::Invalid)) => {
                    trunk.is_some_and(|trunk| trunk.failure.is_some())
                }
                _ => false,
            };
            let is = state.map_or("not there", TrunkState::name);
            (!right).then(|| format!("{} is {is}", sample.reference))
        })
        .collect()
}

fn say_changes(
    trunks: &[TrunkView],
    shown: &mut HashMap<String, (TrunkState, Option<String>)>,
) -> Result<(), DemoError> {
    for trunk in trunks {
        let stands = (trunk.state, trunk.failure.as_ref().map(|failure| failure.message.clone()));
        if shown.get(&trunk.reference) != Some(&stands) {
            say(&table::line(trunk, routr_environment::unix_ms()))?;
            shown.insert(trunk.reference.clone(), stands);
        }
    }
    Ok(())
}

fn say(line: &str) -> Result<(), DemoError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(DemoError::io("cannot write to standard output"))
}

fn configuration(api: SocketAddr, requester: SocketAddr) -> Result<Config, DemoError> {
    config::parse(&configuration_text(api, requester), Format::Yaml).map_err(DemoError::part("the registry"))
}

fn configuration_text(api: SocketAddr, requester: impl std::fmt::Display) -> String {
    // One provider's registrar redirects to another's, which is another domain.
    format!(
        "kind: Registry\napiVersion: v2beta1\nmetadata: {{ name: demo }}\nspec:\n  apiAddr: {api}\n  requesterAddr: {requester}\n  \
         registerInterval: 2s\n  edgePorts: [{{ address: 127.0.0.1:5060 }}]\n  registration:\n    redirects: {{ domains: [127.0.0.0/8], \
         credentials: true }}\n"
    )
}

async fn loopback() -> Result<TcpListener, DemoError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    TcpListener::bind(address).await.map_err(DemoError::io(format!("cannot listen on {address}")))
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, DemoError> {
    listener.local_addr().map_err(DemoError::io("cannot tell the port"))
}
