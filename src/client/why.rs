//! `routr-registry why REF`: the story of one trunk.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::{ClientError, ServiceArgs, quiet_pipe};
use crate::table::{self, Clock, Terminal};
use routr_registration::registration::state::TrunkState;

/// Explain one trunk of a running registry.
#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// Ref of the trunk, or its name if only one trunk has it
    #[arg(value_name = "REF")]
    pub reference: String,
    /// Location of the service.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Show times in UTC only, not in local time beside it
    #[arg(long)]
    pub utc: bool,
    /// Output: text, or json as the private port has it
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    pub output: WhyOutput,
}

/// Format of the output of `why`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhyOutput {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// Runs `routr-registry why REF` on standard output. Returns whether the trunk is registered.
///
/// # Errors
/// When the service cannot be asked, or knows no such trunk.
pub async fn why(args: WhyArgs) -> Result<bool, ClientError> {
    let mut well = false;
    let (terminal, clock) = (Terminal::detect(), if args.utc { Clock::utc() } else { Clock::local() });
    let result = print(&args, terminal, &clock, &mut std::io::stdout(), &mut well).await;
    quiet_pipe(result).map(|()| well)
}

/// Writes the story; `well` says afterwards whether the trunk is registered.
pub(super) async fn print(
    args: &WhyArgs,
    terminal: Terminal,
    clock: &Clock,
    out: &mut impl Write,
    well: &mut bool,
) -> Result<(), ClientError> {
    let api = args.service.api();
    let (_, detail) =
        api.by_ref_or_name(&args.reference, async |reference| api.detail(reference).await).await?;
    *well = detail.trunk.state == TrunkState::Registered;
    match args.output {
        WhyOutput::Json => {
            serde_json::to_writer_pretty(&mut *out, &detail)?;
            writeln!(out)?;
        }
        WhyOutput::Text => {
            let summary = api.summary().await?.summary;
            for line in table::why(&detail, &summary, clock, terminal.width(), terminal.colour) {
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(out.flush()?)
}
