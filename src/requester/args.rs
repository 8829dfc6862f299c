//! The subcommand: its flags, and how it runs.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Error, Options, check, client_config, serve};
use crate::{sip::client::ResponseOrigin, trunk::UriHost};

/// Which way requests take.
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

/// Serve Routr's Requester contract: take SIP requests over gRPC, send them over UDP, TCP or TLS, answer with the
/// registrar's final response.
#[derive(Args, Clone, Debug)]
pub struct RequesterArgs {
    /// Address and port of the gRPC server.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:51909")]
    pub listen: SocketAddr,

    /// Which way requests take.
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,

    /// Local IP address that SIP is sent from; 0.0.0.0 reaches IPv4 only, :: both families [default: ::, or 0.0.0.0
    /// where there is no IPv6].
    #[arg(long, value_name = "IP")]
    pub sip_bind: Option<IpAddr>,

    /// Local UDP port that SIP is sent from; 0 takes any free one, a new one at each start.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub sip_port: u16,

    /// What Contact says where it names the Requester itself (always when proxied; when direct, without a Route)
    /// [default: the local address].
    #[arg(long, value_name = "HOST[:PORT]")]
    pub contact: Option<AdvertisedContact>,

    /// PEM file with the certificate authorities to trust for TLS to registrars [default: the system's].
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Send a keep-alive (RFC 5626) over a TCP or TLS connection that was silent for so long; without an answer within 10
    /// s the next request makes a new connection. 0 for none. Useful where a NAT, a load balancer or the registrar drops
    /// silent connections without a word.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub keep_alive: u64,

    /// Where a response over UDP may come from: the registrar's addresses and the port that the request went to; any port of
    /// these addresses; or anywhere, for registrars that respond from another address than that of their name.
    #[arg(long, value_enum, default_value_t, value_name = "WHERE")]
    pub responses_from: ResponseOrigin,
}

/// Runs the subcommand until `shutdown` is cancelled.
///
/// # Errors
/// When a port cannot be had, the CA file cannot be used, or the gRPC server breaks.
pub async fn run(args: RequesterArgs, shutdown: CancellationToken) -> Result<(), Error> {
    let tls = client_config(args.ca_file.as_deref())?;
    let address = args.listen;
    let listen = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    tracing::info!(listen = %bound, mode = ?args.mode, "the Requester is listening");
    let options = Options {
        mode: args.mode,
        sip_bind: args.sip_bind.unwrap_or_else(any_address),
        sip_port: args.sip_port,
        contact: args.contact,
        tls: Some(tls),
        keep_alive: (args.keep_alive > 0).then(|| Duration::from_secs(args.keep_alive)),
        responses_from: args.responses_from,
        ..Options::default()
    };
    serve(listener, options, shutdown).await
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
        assert_eq!((args.listen.to_string().as_str(), args.mode), ("0.0.0.0:51909", Mode::Direct));
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
    fn a_contact_that_makes_no_sense_is_refused() {
        for bad in ["", ":5060", "a:0", "a:b", "a b", "2001:db8::1", "a:70000", "a;x=y"] {
            assert!(parse(&["--contact", bad]).is_err(), "{bad:?}");
        }
    }
}
