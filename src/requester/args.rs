//! The subcommand: its flags, and how it runs.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use clap::{Args, FromArgMatches as _, ValueEnum, parser::ValueSource};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    AccessOptions, ContactHost, Error, HeaderRule, HttpPort, MethodRule, Options, Rules, Token, check,
    client_config, health, serve_with,
};
use crate::admin;
use routr_net::{
    addresses::AddressRule,
    tls::{ServedFiles, ServedTls},
};
use routr_sip::client::{ConnectionBounds, ResponseOrigin};
use routr_types::host::UriHost;

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

/// A host and perhaps a port, as Contact shows them: `HOST`, `HOST:PORT`, an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedContact {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// The port; `None` leaves it to the transport's default.
    pub port: Option<u16>,
}

impl FromStr for AdvertisedContact {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?}; expected HOST or HOST:PORT, an IPv6 address in brackets");
        let (host, port) = match text.parse::<Ipv6Addr>() {
            Ok(_) => return Err(bad()),
            Err(_) if text.ends_with(']') => (text, None),
            Err(_) => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let host = check::host("host", host).map_err(|_| bad())?;
        let port =
            port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)).transpose()?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for AdvertisedContact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", UriHost(&self.host))?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Serve Routr's Requester contract: take SIP requests over gRPC, send them over UDP, TCP or TLS, and return
/// the registrar's final response.
#[derive(Args, Clone, Debug)]
pub struct RequesterArgs {
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

    /// PEM file with the certificate authorities to trust for TLS to registrars [default: the system's].
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

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
}

/// Runs the subcommand until `shutdown` is cancelled.
///
/// # Errors
/// When a port cannot be had, the CA file cannot be used, or the gRPC server breaks.
pub async fn run(args: RequesterArgs, shutdown: CancellationToken) -> Result<(), Error> {
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
        let tls = client_config(args.ca_file.as_deref())?;
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

/// Reads `IP:PORT`, or what other programs take for it: `:PORT` for all addresses, `localhost:PORT`, an IP
/// address or a port alone.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if text.is_empty() {
        // A variable that is there and empty says nothing.
        return Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
    }
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let with = |host: &str, port: &str| {
        let host = match host {
            "" | "*" => any,
            _ if host.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
            _ => return None,
        };
        Some(SocketAddr::new(host, port.parse().ok()?))
    };
    let bare = || {
        text.trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok()
            .map(|ip: IpAddr| SocketAddr::new(ip, PORT))
    };
    let read = text
        .parse()
        .ok()
        .or_else(bare)
        .or_else(|| text.rsplit_once(':').and_then(|(host, port)| with(host, port)));
    read.ok_or_else(|| {
        format!("expected an IP address and a port, such as 127.0.0.1:{PORT} or 0.0.0.0:{PORT}")
    })
}

/// Every local address: of both families, where this machine has IPv6.
fn any_address() -> IpAddr {
    let both = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    match std::net::UdpSocket::bind((both, 0)) {
        Ok(_) => both,
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: RequesterArgs,
    }

    fn parse(flags: &[&str]) -> Result<RequesterArgs, clap::Error> {
        Command::try_parse_from([&["requester"], flags].concat()).map(|command| command.args)
    }

    #[test]
    fn defaults_and_flags() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.listen.to_string().as_str(), args.mode), ("127.0.0.1:51909", Mode::Direct));
        let args =
            parse(&["--mode", "proxied", "--contact", "[2001:db8::1]:5080", "--sip-port", "5090"]).unwrap();
        assert_eq!((args.mode, args.sip_port), (Mode::Proxied, 5090));
        assert_eq!((args.keep_alive, parse(&["--keep-alive", "30"]).unwrap().keep_alive), (0, 30));
        assert_eq!(args.responses_from, ResponseOrigin::Registrar);
        let anywhere = parse(&["--responses-from", "anywhere"]).unwrap();
        assert_eq!(anywhere.responses_from, ResponseOrigin::Anywhere);
        for bad in ["-1", "3601", "soon"] {
            let text = parse(&["--keep-alive", bad]).unwrap_err().to_string();
            assert!(text.contains("--keep-alive") && text.contains(bad), "{text}");
        }
        assert_eq!(args.contact.unwrap().to_string(), "[2001:db8::1]:5080");
        assert_eq!(parse(&["--contact", "edge.example.com"]).unwrap().contact.unwrap().port, None);
    }

    #[test]
    fn an_address_to_listen_on_is_read_as_people_write_it() {
        for (text, read) in [
            ("0.0.0.0:51909", "0.0.0.0:51909"),
            ("", "127.0.0.1:51909"),
            (":5000", "0.0.0.0:5000"),
            ("*:5000", "0.0.0.0:5000"),
            ("localhost:5000", "127.0.0.1:5000"),
            ("10.0.0.1", "10.0.0.1:51909"),
            ("::1", "[::1]:51909"),
            ("[::]:5000", "[::]:5000"),
        ] {
            assert_eq!(listen_address(text).map(|read| read.to_string()), Ok(read.to_owned()));
        }
        for bad in ["registrar.test:5060", "10.0.0.1:99999", ":"] {
            assert!(listen_address(bad).unwrap_err().contains("127.0.0.1:51909"), "{bad:?}");
        }
    }

    #[test]
    fn the_door_and_its_rules_are_read() {
        let args = parse(&[
            "--deny-target",
            "10.0.0.0/8,any:25",
            "--allow-target",
            "10.0.0.9",
            "--allow-header",
            "Path",
        ]);
        let args = args.unwrap();
        assert_eq!((args.deny_target.len(), args.allow_target.len(), args.allow_header.len()), (2, 1, 1));
        for (flags, named) in [
            (&["--tls-cert", "c"][..], "--tls-key"),
            (&["--client-ca", "c"], "--tls-cert"),
            (&["--deny-target", "registrar.test"], "names are no rules"),
            (&["--allow-method", "INVITE"], "INVITE transactions"),
            (&["--allow-header", "a b"], "no name of a header field"),
        ] {
            let text = parse(flags).unwrap_err().to_string();
            assert!(text.contains(named), "{text}");
        }
    }

    #[test]
    fn any_method_is_sent_unless_some_are_named() {
        let methods = |flags: &[&str]| rules(&parse(flags).unwrap()).to_string();
        assert_eq!(methods(&["--listen", "0.0.0.0:1"]), "any");
        let flags = ["--listen", "0.0.0.0:1", "--allow-method", "register,MESSAGE"];
        assert_eq!(methods(&flags), "REGISTER, MESSAGE");
    }

    #[test]
    fn a_contact_that_makes_no_sense_is_refused() {
        for bad in ["", ":5060", "a:0", "a:b", "a b", "2001:db8::1", "a:70000", "a;x=y"] {
            assert!(parse(&["--contact", bad]).is_err(), "{bad:?}");
        }
    }
}
