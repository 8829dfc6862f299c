//! The command line: subcommands and what they share.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[cfg(feature = "demo")]
use crate::{demo::DemoArgs, devstack::field::command::DevstackArgs};

use crate::{
    client::{RefreshArgs, TrunksArgs, WhyArgs},
    operator::OperatorArgs,
    requester::RequesterArgs,
    standalone::RunArgs,
    telemetry::LogFormat,
};

/// Keeps the SIP registrations of Routr's trunks alive.
#[derive(Debug, Parser)]
#[command(name = "routr-registry", version, arg_required_else_help = true)]
pub struct Cli {
    /// Format of log lines: text, json, or auto (text on a terminal, JSON otherwise)
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        env = "LOGS_FORMAT",
        default_value = "auto",
        hide_possible_values = true,
        display_order = 900
    )]
    pub log_format: LogFormat,
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the registrations of all trunks alive, as configured in a file
    Run(RunArgs),
    /// Run the Registry resources of a Kubernetes cluster
    Operator(OperatorArgs),
    /// Validate a configuration file without running it
    Check(CheckArgs),
    /// Show the trunks of a running registry, unhealthy ones first
    Trunks(TrunksArgs),
    /// Explain one trunk of a running registry: what is wrong, since when, why, what happens next
    ///
    /// The exit code is 0 where the trunk is registered, failed over or not; 1 where it is at risk, failing,
    /// invalid or pending, and where the service cannot be asked or knows no such trunk.
    Why(WhyArgs),
    /// Register one trunk of a running registry now
    Refresh(RefreshArgs),
    /// See it run: sample trunks and everything that they need, on loopback
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Play what registrars, name servers and EdgePorts do in the field: to debug a provider, or to test a
    /// client
    #[cfg(feature = "demo")]
    Devstack(DevstackArgs),
    /// Left out of this build
    #[cfg(not(feature = "demo"))]
    #[command(hide = true, disable_help_flag = true)]
    Demo(LeftOut),
    /// Left out of this build
    #[cfg(not(feature = "demo"))]
    #[command(hide = true, disable_help_flag = true)]
    Devstack(LeftOut),
    /// Serve Routr's Requester: SIP requests over gRPC in, SIP over UDP, TCP and TLS out
    Requester(Box<RequesterArgs>),
    /// Print the CustomResourceDefinition of Registry resources as YAML, for kubectl apply --server-side -f -
    Crd,
}

/// The arguments of a subcommand that this build leaves out: none is read.
#[cfg(not(feature = "demo"))]
#[derive(Clone, Debug, clap::Args)]
pub struct LeftOut {
    /// Anything.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// Validate a configuration file.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Configuration file [default: $CONFIG_PATH, else /etc/routr/registry.yaml, .yml or .json].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
