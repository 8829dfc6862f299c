//! The subcommand: lists, shows and plays cases.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use tokio_util::sync::CancellationToken;

use super::{
    case::Over,
    library::{Library, LibraryError},
    player::{DEFAULT_PASSWORD, PlayError, PlayOptions, Player},
};
use routr_types::secret::Secret;

/// Play what registrars, name servers and EdgePorts do in the field, to see how a client reacts.
#[derive(Args, Clone, Debug)]
pub struct DevstackArgs {
    /// Subcommand to run.
    #[command(subcommand)]
    pub action: Action,
}

/// Actions with cases.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// List the cases: name, behaviour of the other side, and the right outcome
    List(Source),
    /// Print the file of a case, as a start for one of your own
    Show(ShowArgs),
    /// Play a case until Ctrl-C, and print the dialogue
    Play(PlayArgs),
}

/// Source of cases.
#[derive(Args, Clone, Debug)]
pub struct Source {
    /// Folder with case files [default: the built-in cases].
    #[arg(long, value_name = "DIR")]
    pub cases: Option<PathBuf>,
}

/// Case to show.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// The name of the case.
    pub case: String,
    /// Source of cases.
    #[command(flatten)]
    pub source: Source,
}

/// Case to play, and the addresses to play it at.
#[derive(Args, Clone, Debug)]
pub struct PlayArgs {
    /// The name of the case.
    pub case: String,
    /// Source of cases.
    #[command(flatten)]
    pub source: Source,
    /// Address and port of the first node; further nodes follow at the next loopback addresses, or at the
    /// next ports.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5060")]
    pub listen: SocketAddr,
    /// Transports, instead of those of the case.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TRANSPORT")]
    pub transport: Vec<Over>,
    /// Address and port of the first name server of the case; further ones follow at the next ports [default:
    /// a free port].
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Option<SocketAddr>,
    /// Address and port of the first EdgePort of the case; further ones follow at the next ports [default: a
    /// free port].
    #[arg(long, value_name = "ADDRESS")]
    pub edge_port: Option<SocketAddr>,
    /// File with the right password for any user [default: the password "field-password"].
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Folder to write ca.pem, client.pem and client-key.pem into, for TLS clients.
    #[arg(long, value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
}

/// Reason that the subcommand fails.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Cases cannot be had.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The case cannot be played.
    #[error(transparent)]
    Play(#[from] PlayError),
    /// A file, or the terminal.
    #[error("{what}: {source}")]
    Io {
        /// Action that failed.
        what: String,
        /// Error of the system.
        source: io::Error,
    },
}

impl CommandError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Runs the subcommand; a play lasts until `shutdown` is cancelled.
///
/// # Errors
/// When a case cannot be read or played, or a file cannot be read or written.
pub async fn run(args: DevstackArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    match args.action {
        Action::List(source) => print(&listing(&library(&source)?)),
        Action::Show(args) => print(&library(&args.source)?.find(&args.case)?.text),
        Action::Play(args) => play(args, shutdown).await,
    }
}

fn library(source: &Source) -> Result<Library, LibraryError> {
    source.cases.as_deref().map_or_else(Library::embedded, Library::folder)
}

/// The cases as a table.
fn listing(library: &Library) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["CASE", "THE OTHER SIDE", "RIGHT", "SOURCE"]);
    for entry in library.entries() {
        let case = &entry.case;
        table.add_row([&case.name, &case.summary, &case.outcome, &case.source].map(|text| text.trim()));
    }
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    format!("{table}\n")
}

async fn play(args: PlayArgs, shutdown: CancellationToken) -> Result<(), CommandError> {
    let library = library(&args.source)?;
    let case = &library.find(&args.case)?.case;
    let password = match &args.password_file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(CommandError::io(path.display().to_string()))?;
            Secret::new(text.trim_end_matches(['\r', '\n']))
        }
        None => Secret::new(DEFAULT_PASSWORD),
    };
    // Anyone who has seen enough may close the pipe; the play goes on for its client.
    let sink = Arc::new(|entry: &str| drop(writeln!(io::stdout().lock(), "{entry}")));
    let options = PlayOptions {
        listen: args.listen,
        transports: args.transport,
        password,
        dns: args.dns,
        edge_ports: args.edge_port,
        sink: Some(sink),
    };
    let player = Player::start(case, options, shutdown.clone()).await?;
    let mut text = format!("{}: {}\nRight: {}\n", case.name, case.summary.trim(), case.outcome.trim());
    let transports: Vec<String> = player.transports().iter().map(ToString::to_string).collect();
    for (name, address) in player.nodes() {
        text.push_str(&format!("node {name}: {address} {}\n", transports.join(" ")));
    }
    for (name, address) in player.name_servers() {
        text.push_str(&format!("name server {name}: {address}\n"));
    }
    for (name, address, _) in player.edge_ports() {
        text.push_str(&format!("EdgePort {name}: {address} UDP\n"));
    }
    if let Some(identities) = player.identities() {
        match &args.tls_dir {
            Some(folder) => {
                write(folder, "ca.pem", &identities.authority)?;
                write(folder, "client.pem", &identities.client.0)?;
                write(folder, "client-key.pem", &identities.client.1)?;
                text.push_str(&format!("certificates: {}\n", folder.display()));
            }
            None => {
                text.push_str("certificates: --tls-dir DIR writes the authority that a client has to trust\n")
            }
        }
    }
    print(&text)?;
    shutdown.cancelled().await;
    player.stop().await;
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), CommandError> {
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(CommandError::io(path.display().to_string()))
}

fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::io("cannot write to standard output")(error))
        }
        _ => Ok(()),
    }
}
