//! Parses the command line, starts the logs, and dispatches to a subcommand.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use routr_registry::{
    cli::{Cli, Command},
    client, config, demo, requester, standalone, telemetry,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            // There is nowhere left to report a standard error that is gone.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Run(_) | Command::Requester(_) => telemetry::init(cli.log_format)?,
        // The others speak for themselves; logs are there for who asks for them.
        _ if ["RUST_LOG", "LOGS_LEVEL"].iter().any(|name| std::env::var_os(name).is_some()) => {
            telemetry::init(cli.log_format)?;
        }
        _ => {}
    }
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        cancel_at_signal(shutdown.clone())?;
        match cli.command {
            Command::Run(args) => standalone::run(args, shutdown).await?,
            Command::Check(args) => {
                let checked = config::check(args.config.as_deref());
                std::io::stdout().write_all(checked.text.as_bytes())?;
                return Ok(ExitCode::from(checked.code));
            }
            Command::Trunks(args) => client::trunks(args).await?,
            Command::Refresh(args) => client::refresh(args).await?,
            Command::Demo(args) => demo::run(args, shutdown).await?,
            Command::Requester(args) => requester::run(args, shutdown).await?,
        }
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// SIGTERM and Ctrl-C end the process in an orderly way.
fn cancel_at_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot receive SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot receive SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(())
}
