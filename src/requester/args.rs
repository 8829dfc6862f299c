//! The subcommand: its flags, and how it runs.

mod contact;
mod listen;
mod sip_tls;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::{Args, FromArgMatches as _, Subcommand, ValueEnum, parser::ValueSource};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::listen::{any_address, listen_address};
pub use self::{contact::AdvertisedContact, sip_tls::SipTlsArgs};
use super::{
    AccessOptions, ContactHost, Error, HeaderRule, HttpPort, MethodRule, Options, Rules, Token, health,
    serve_with,
    trace::{self, Trace, TraceArgs},
};
use crate::admin;
use routr_net::{
    addresses::AddressRule,
    tls::{ServedFiles, ServedTls},
};
use routr_sip::client::{ConnectionBounds, ResponseOrigin};

/// The environment variable that holds the token, where no file does.
const TOKEN_VARIABLE: &str = "REQUESTER_TOKEN";

const PORT: u16 = 51909;

/// Headings of the help.
const CALLERS: &str = "Who may call";
const RULES: &str = "What callers may ask for";

/// Path of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Straight to the registrar; digest challenges are answered here.
    #[default]
    Direct,
    /// Through the EdgePort of the Route, which answers digest challenges.
    Proxied,
}

/// Serve Routr's Requester contract: take SIP requests over gRPC, send them over UDP, TCP or TLS, and return
/// the registrar's final response.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RequesterArgs {
    /// Another action than serving.
    #[command(subcommand)]
    pub action: Option<RequesterAction>,

    /// Address and port of the gRPC server. With 0.0.0.0:51909 it is reachable from elsewhere: then also set
    /// --token-file or --client-ca.
    #[arg(long, value_name = "ADDRESS", env = "BIND_ADDR", default_value = "127.0.0.1:51909", value_parser = listen_address, help_heading = CALLERS)]
    pub listen: SocketAddr,

    /// Address of the HTTP port for probes and metrics: /healthz (unless ENABLE_HEALTHCHECKS is false),
    /// /livez,
    /// /readyz, /metrics [default: 0.0.0.0:8080, or none where that is taken].
    #[arg(long, value_name = "ADDRESS", env = "REQUESTER_HTTP_LISTEN", help_heading = CALLERS)]
    pub http_listen: Option<SocketAddr>,

    /// File with the tokens that callers may present (authorization: Bearer TOKEN), one per line; any of them
    /// is accepted. Reread when it changes [default: the environment variable REQUESTER_TOKEN, else none].
    #[arg(long, value_name = "FILE", env = "REQUESTER_TOKEN_FILE", help_heading = CALLERS)]
    pub token_file: Option<PathBuf>,

    /// PEM file with the certificate of the gRPC server, for TLS. Reread when it changes [default: no TLS].
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = CALLERS)]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with the private key of --tls-cert.
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = CALLERS)]
    pub tls_key: Option<PathBuf>,

    /// PEM file with the authorities of callers' certificates; each caller then has to present one.
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = CALLERS)]
    pub client_ca: Option<PathBuf>,

    /// Maximum number of gRPC connections [default: 1024, or a quarter of the open files that are allowed].
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = CALLERS)]
    pub max_connections: Option<u32>,

    /// Method that may be sent, or any; may be repeated [default: any].
    /// INVITE, ACK and CANCEL are never sent.
    #[arg(long, value_name = "METHOD", value_delimiter = ',', help_heading = RULES)]
    pub allow_method: Vec<MethodRule>,

    /// Header field that callers may set although it identifies people or changes where requests go:
    /// P-Asserted-Identity and all others that start with P-, Privacy, Diversion, Path and the like; or any;
    /// may be repeated [default: none of these].
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = RULES)]
    pub allow_header: Vec<HeaderRule>,

    /// Networks that requests must not go to, checked after name resolution: a network, optionally with ports
    /// (10.0.0.0/8, [fd00::/8]:5060, any:25); may be repeated. If several rules match, the narrowest decides.
    /// Link-local, multicast and metadata addresses are always denied, unless an equally narrow
    /// --allow-target permits them.
    #[arg(long, value_name = "NETWORK[:PORTS]", value_delimiter = ',', help_heading = RULES)]
    pub deny_target: Vec<AddressRule>,

    /// Networks that requests may go to despite a wider --deny-target; with --deny-target any, the only ones;
    /// may be repeated.
    #[arg(long, value_name = "NETWORK[:PORTS]", value_delimiter = ',', help_heading = RULES)]
    pub allow_target: Vec<AddressRule>,

    /// Maximum number of TCP and TLS connections to registrars; a further one closes the one that has been
    /// idle longest [default: 16384, or half of the open files that are allowed].
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_sip_connections: Option<u32>,

    /// Seconds that a TCP or TLS connection to a registrar may be idle.
    #[arg(long, value_name = "SECONDS", default_value_t = 1200, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub sip_idle: u64,

    /// Path of requests.
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,

    /// Local IP address that SIP is sent from; 0.0.0.0 reaches IPv4 only, :: both families [default: ::, or
    /// 0.0.0.0 where there is no IPv6].
    #[arg(long, value_name = "IP")]
    pub sip_bind: Option<IpAddr>,

    /// Local UDP port that SIP is sent from; 0 picks a free one at each start.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub sip_port: u16,

    /// Contact that names the Requester itself (always when proxied and this is set; when direct, without a
    /// Route) [default: the local address].
    #[arg(long, value_name = "HOST[:PORT]")]
    pub contact: Option<AdvertisedContact>,

    /// Host of Contact in proxied mode without --contact: the EdgePort, which hears the calls, or the
    /// Requester itself, as with Routr's own (for providers that route calls by the source address).
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub proxied_contact: ContactHost,

    /// TLS to registrars.
    #[command(flatten)]
    pub sip_tls: SipTlsArgs,

    /// Send a keep-alive (RFC 5626) over a TCP or TLS connection that has been silent for this long; without
    /// a response within 10 s the next request opens a new connection. 0 for none. Useful if a NAT, a load
    /// balancer or the registrar drops silent connections without notice.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub keep_alive: u64,

    /// Addresses that a response over UDP may come from: the registrar's addresses and the port that the
    /// request went to; any port of these addresses; or anywhere, for registrars that respond from an address
    /// other than that of their name.
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub responses_from: ResponseOrigin,

    /// Keep the last SIP messages (200 at most, 1 MB in all) with credentials and nonces masked, and show
    /// them to callers on this machine: `routr-registry requester trace`, or /trace of the HTTP port.
    #[arg(long)]
    pub trace: bool,
}

/// Action on a Requester that runs already.
#[derive(Clone, Debug, Subcommand)]
pub enum RequesterAction {
    /// Print the last SIP messages of a Requester that was started with --trace
    Trace(TraceArgs),
}

/// Runs the subcommand until `shutdown` is cancelled.
///
/// # Errors
/// When a port cannot be had, a file of TLS cannot be used, or the gRPC server breaks.
pub async fn run(args: RequesterArgs, shutdown: CancellationToken) -> Result<(), Error> {
    if let Some(RequesterAction::Trace(args)) = args.action {
        return Ok(trace::run(args).await?);
    }
    let mut prepared = Prepared::new(args).await?;
    let healthz = admin::healthz_wanted(std::env::var("ENABLE_HEALTHCHECKS").ok().as_deref());
    let http = health::bind(prepared.http_listen).await.map_err(Error::Http)?;
    prepared.http = http.map(|listener| HttpPort { listener, healthz });
    prepared.serve(shutdown).await
}

/// A Requester within another program: with the flags of the subcommand in one text, and without an HTTP port
/// of its own. Where the flags do not say where it listens, it is `listen`.
///
/// # Errors
/// What is wrong with the flags, or why a port or a file cannot be had.
pub async fn prepare(flags: &str, listen: SocketAddr) -> Result<Prepared, String> {
    let command = RequesterArgs::augment_args(clap::Command::new("requester").no_binary_name(true));
    let matches =
        command.try_get_matches_from(flags.split_whitespace()).map_err(|error| error.to_string())?;
    let mut args = RequesterArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    if args.action.is_some() || args.trace {
        return Err(
            "trace: only a Requester that runs as a process of its own has the HTTP port for it".to_owned()
        );
    }
    // BIND_ADDR is for one that is there for others.
    if matches.value_source("listen") != Some(ValueSource::CommandLine) {
        args.listen = listen;
    }
    Prepared::new(args).await.map_err(|error| error.to_string())
}

/// A Requester that listens, and takes no calls yet.
#[derive(Debug)]
pub struct Prepared {
    listener: TcpListener,
    options: Options,
    http_listen: Option<SocketAddr>,
    http: Option<HttpPort>,
}

impl Prepared {
    /// Takes calls until `shutdown` is cancelled.
    ///
    /// # Errors
    /// When the SIP side cannot start, or the gRPC server breaks.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), Error> {
        serve_with(self.listener, self.options, self.http, shutdown).await
    }

    async fn new(args: RequesterArgs) -> Result<Self, Error> {
        let tls = args.sip_tls.load()?;
        let address = args.listen;
        let access = access(&args)?;
        let rules = rules(&args);
        let connections = ConnectionBounds::default();
        let connections = ConnectionBounds {
            most: args
                .max_sip_connections
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or(connections.most),
            idle: Duration::from_secs(args.sip_idle),
            ..connections
        };
        let listen = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let (who, open) = access.who(bound);
        tracing::info!(listen = %bound, mode = ?args.mode, methods = %rules, "the Requester is listening: {who}");
        if open {
            tracing::warn!(
                "{who}, from this machine's addresses, without a login: set --token-file (or REQUESTER_TOKEN) or \
                 --client-ca with --tls-cert, or listen on loopback (--listen 127.0.0.1:{})",
                bound.port()
            );
        }
        let options = Options {
            mode: args.mode,
            sip_bind: args.sip_bind.unwrap_or_else(any_address),
            sip_port: args.sip_port,
            contact: args.contact,
            proxied_contact: args.proxied_contact,
            tls: Some(tls),
            keep_alive: (args.keep_alive > 0).then(|| Duration::from_secs(args.keep_alive)),
            access,
            rules,
            connections,
            responses_from: args.responses_from,
            trace: args.trace.then(Trace::default),
            ..Options::default()
        };
        Ok(Self { listener, options, http_listen: args.http_listen, http: None })
    }
}

/// Returns who may call.
fn access(args: &RequesterArgs) -> Result<AccessOptions, Error> {
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (certificate.clone(), key.clone());
            let files = ServedFiles { certificate, key, client_authorities: args.client_ca.clone() };
            Some(Arc::new(ServedTls::new(files, ["--tls-cert", "--tls-key", "--client-ca"])?))
        }
        _ => None,
    };
    let variable = std::env::var_os(TOKEN_VARIABLE).filter(|value| !value.is_empty());
    let file = args.token_file.as_ref().filter(|file| !file.as_os_str().is_empty());
    let token = match (file, variable) {
        (Some(_), Some(_)) => {
            return Err(Error::Flags("--token-file and REQUESTER_TOKEN are both given; keep one of them"));
        }
        (Some(file), None) => Some(Token::from_file(file.clone())?),
        (None, Some(value)) => Some(Token::from_variable(TOKEN_VARIABLE, &value.to_string_lossy())?),
        (None, None) => None,
    };
    let access = AccessOptions { tls, token: token.map(Arc::new), ..AccessOptions::default() };
    let most =
        args.max_connections.and_then(|most| usize::try_from(most).ok()).unwrap_or(access.max_connections);
    Ok(AccessOptions { max_connections: most, ..access })
}

/// Returns what callers may ask for.
fn rules(args: &RequesterArgs) -> Rules {
    let methods = if args.allow_method.is_empty() { &[MethodRule::Any][..] } else { &args.allow_method };
    Rules::new(methods, &args.allow_header, args.allow_target.clone(), args.deny_target.clone())
}

#[cfg(test)]
mod tests;
