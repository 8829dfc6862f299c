//! Parses the command line, starts the logs, and dispatches to a subcommand.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use routr_net::descriptors;
use routr_registry::{
    cli::{Cli, Command},
    client, config, operator, requester,
    spec::crd,
    standalone,
    telemetry::{self, Lines},
};
#[cfg(feature = "demo")]
use routr_registry::{demo, devstack::field::command as devstack};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use zeroizing_alloc::ZeroAlloc;

/// Trunks stay for months between buffers of calls that last milliseconds: the allocator of glibc scatters
/// the ones between the holes of the others, and its threads wait for each other.
///
/// Memory is cleared when it is freed: a password passes through buffers of gRPC, HTTP and Kubernetes clients
/// that clear nothing.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<mimalloc::MiMalloc> = ZeroAlloc(mimalloc::MiMalloc);

fn main() -> ExitCode {
    // First of all: no core file and no other process of this user gets at the passwords. Where the system
    // has no such protection, everything else works without it.
    let protected = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let cli = Cli::parse();
    let service = is_service(&cli.command);
    let log = match start_log(&cli, service) {
        Ok(log) => log,
        Err(error) => return fail(&error),
    };
    if let Err(error) = protected {
        tracing::warn!(%error, "memory is not protected from core dumps: prctl(PR_SET_DUMPABLE) failed");
    }
    let open_files = descriptors::raise_limit();
    tracing::debug!(open_files, "limit on open files");
    match dispatch(cli) {
        Ok(code) => code,
        // Anyone who collects a service's lines as JSON gets the last one so, too.
        Err(error) if service && log == Some(Lines::Json) && tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!("{}", telemetry::error_chain(error.as_ref()));
            ExitCode::FAILURE
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    // There is nowhere left to report a standard error that is gone.
    let _ = writeln!(std::io::stderr(), "error: {}", telemetry::error_chain(error.as_ref()));
    ExitCode::FAILURE
}

/// Returns whether a command runs until it is ended, for others.
fn is_service(command: &Command) -> bool {
    match command {
        Command::Run(_) | Command::Operator(_) => true,
        Command::Requester(args) => args.action.is_none(),
        _ => false,
    }
}

/// The services always log. The others speak for themselves; their logs are there for who asks for them.
fn start_log(cli: &Cli, service: bool) -> anyhow::Result<Option<Lines>> {
    let asked = ["RUST_LOG", "LOGS_LEVEL"].iter().any(|name| std::env::var_os(name).is_some());
    Ok((service || asked).then(|| telemetry::init(cli.log_format)).transpose()?)
}

/// A thread for each processor, but never one alone: what keeps it busy for a moment, such as a scrape of
/// thousands of Registries, must not delay a renewal of the Lease.
fn start_runtime() -> std::io::Result<Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    Builder::new_multi_thread().worker_threads(threads.max(2)).enable_all().build()
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = start_runtime().context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        match &cli.command {
            command if is_service(command) => shutdown_on_signal(shutdown.clone(), &SHUTDOWN_SIGNALS)?,
            // Its terminal may be closed: it has a folder to clear away.
            #[cfg(feature = "demo")]
            Command::Devstack(_) => shutdown_on_signal(shutdown.clone(), &SHUTDOWN_SIGNALS)?,
            #[cfg(feature = "demo")]
            Command::Demo(_) => {
                shutdown_on_signal(shutdown.clone(), &[SHUTDOWN_SIGNALS[0], SHUTDOWN_SIGNALS[1], HANGUP])?
            }
            // Nothing of the others needs an orderly end.
            _ => {}
        }
        match cli.command {
            Command::Run(args) => standalone::run(args, shutdown).await?,
            Command::Operator(args) => operator::run(args, shutdown).await?,
            Command::Check(args) => {
                let checked = config::check(args.config.as_deref());
                std::io::stdout().write_all(checked.text.as_bytes())?;
                return Ok(ExitCode::from(checked.code));
            }
            Command::Trunks(args) => client::trunks(args).await?,
            Command::Refresh(args) => client::refresh(args).await?,
            Command::Why(args) => {
                let well = client::why(args).await?;
                return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            #[cfg(feature = "demo")]
            Command::Devstack(args) => devstack::run(args, shutdown).await?,
            #[cfg(feature = "demo")]
            Command::Demo(args) => demo::run(args, shutdown).await?,
            #[cfg(not(feature = "demo"))]
            Command::Demo(_) | Command::Devstack(_) => anyhow::bail!(
                "this build has neither `demo` nor `devstack`: build routr-registry with its default features"
            ),
            Command::Requester(args) => requester::run(*args, shutdown).await?,
            Command::Crd => std::io::stdout().write_all(crd::yaml()?.as_bytes())?,
        }
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Signals that end a process in an orderly way.
const SHUTDOWN_SIGNALS: [SignalKind; 2] = [SignalKind::terminate(), SignalKind::interrupt()];
#[cfg(feature = "demo")]
const HANGUP: SignalKind = SignalKind::hangup();

/// Ends the process in an orderly way on the first of these signals, at once on the next one.
fn shutdown_on_signal(shutdown: CancellationToken, kinds: &[SignalKind]) -> anyhow::Result<()> {
    let (sender, mut received) = mpsc::unbounded_channel();
    for kind in kinds {
        let number = kind.as_raw_value();
        let mut signals = signal(*kind).with_context(|| format!("cannot receive signal {number}"))?;
        let sender = sender.clone();
        tokio::spawn(async move { while signals.recv().await.is_some() && sender.send(number).is_ok() {} });
    }
    tokio::spawn(async move {
        received.recv().await;
        shutdown.cancel();
        if let Some(number) = received.recv().await {
            tracing::warn!(signal = number, "second signal: exiting immediately");
            std::process::exit(128 + number);
        }
    });
    Ok(())
}
