//! `make demo-k8s`: the operator on a real control plane, live. scripts/demo-k8s.sh builds what it needs and
//! starts it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod show;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use routr_test_support as support;
use tokio::signal::unix::{SignalKind, signal};

use show::Screen;

/// The operator of routr-registry on a real Kubernetes control plane, live.
///
/// It starts etcd, kube-apiserver and kube-controller-manager on loopback, installs the chart, runs the
/// operator, applies a Registry, breaks one of its trunks, fixes it, and deletes the Registry. Nothing of it
/// is left at the end, nor after Ctrl-C, and no kubeconfig of yours is read or written.
#[derive(Parser)]
#[command(name = "demo-k8s", override_usage = "make demo-k8s [ARGS=--quick]")]
struct Args {
    /// Leave out the pauses that let a person follow.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let code = runtime.block_on(async {
        let screen = Screen::terminal(args.quick);
        // What `run` had started has been ended when one of these comes first: it is dropped there.
        tokio::select! {
            done = show::run(&screen) => match done {
                Ok(()) => 0,
                // A reader that has seen enough, such as `head`, is no failure.
                Err(problem) if problem.is_closed_pipe() => 0,
                Err(problem) => {
                    eprintln!("\nThe demo failed: {problem}");
                    1
                }
            },
            code = told_to_end() => code,
        }
    });
    // A kubectl that was just asking ends by itself now that no one responds.
    runtime.shutdown_timeout(Duration::from_secs(10));
    if code > 128 {
        eprintln!("\nInterrupted. All that the demo had started is ended, and its folder is gone.");
    }
    ExitCode::from(code)
}

/// Waits for Ctrl-C or SIGTERM, and returns the exit status that a shell gives to each.
async fn told_to_end() -> u8 {
    let mut interrupt = signal(SignalKind::interrupt()).expect("a handler for SIGINT");
    let mut terminate = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
    tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    }
}
