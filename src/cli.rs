//! The command line: subcommands and what they share.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{
    client::{RefreshArgs, TrunksArgs},
    demo::DemoArgs,
    devstack::field::command::DevstackArgs,
    operator::OperatorArgs,
    requester::RequesterArgs,
    standalone::RunArgs,
    telemetry::LogFormat,
};

/// Keeps the SIP registrations of Routr's trunks alive.
#[derive(Debug, Parser)]
#[command(name = "routr-registry", version, arg_required_else_help = true)]
pub struct Cli {
    /// How log lines look: text, json, or auto: text on a terminal and JSON otherwise
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
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep the registrations of all trunks alive, as a configuration file says
    Run(RunArgs),
    /// Run the Registry resources of a Kubernetes cluster
    Operator(OperatorArgs),
    /// Say whether a configuration file is good, without running it
    Check(CheckArgs),
    /// Show the trunks of a running registry, those in trouble first
    Trunks(TrunksArgs),
    /// Register one trunk of a running registry now
    Refresh(RefreshArgs),
    /// See it work: sample trunks and all that they need, on loopback
    Demo(DemoArgs),
    /// Play what registrars, name servers and EdgePorts of the field do: to debug a provider, or to test a client
    Devstack(DevstackArgs),
    /// Serve Routr's Requester: SIP requests over gRPC in, SIP over UDP, TCP and TLS out
    Requester(RequesterArgs),
    /// Print the CustomResourceDefinition of Registry resources as YAML, for kubectl apply --server-side -f -
    Crd,
}

/// Say whether a configuration file is good.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Configuration file [default: $CONFIG_PATH, else /etc/routr/registry.yaml, .yml or .json].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
