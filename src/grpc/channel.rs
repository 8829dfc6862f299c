//! Makes channels to a gRPC dependency.

use std::sync::atomic::AtomicBool;

use tokio::{net::UnixStream, time::timeout};
use tonic::codegen::http::uri::{Authority, Scheme};

pub use super::balance::Channel;
use super::{
    GrpcError,
    balance::Source,
    guard::Guard,
    peer::{At, Dialing},
};
use crate::{
    config::{Endpoint, Target},
    connect::{self, Resolver},
    quota::sockets::Payers,
};
use routr_net::{
    connect::{CONNECT_TIMEOUT, SocketOptions},
    tls::Followed,
};

/// Returns whether one of the addresses takes a connection, which counts for the `payers`.
pub(super) async fn listens(endpoint: &Endpoint, payers: &Payers) -> bool {
    let options = SocketOptions::within(CONNECT_TIMEOUT, &endpoint.policy);
    match &source(&endpoint.address, &Resolver::system()) {
        Source::Name(host, resolver) => connect::dial(host, resolver, &options, payers).await.is_ok(),
        Source::Given(all) => {
            let attempt = async |at: &At| {
                let Ok(_socket) = payers.socket() else { return false };
                match at {
                    At::Ip(address) => routr_net::connect::tcp(*address, &options).await.is_ok(),
                    At::Unix(path) => UnixStream::connect(path).await.is_ok(),
                }
            };
            for at in all {
                if timeout(CONNECT_TIMEOUT, attempt(at)).await == Ok(true) {
                    return true;
                }
            }
            false
        }
    }
}

/// Opens a channel that connects at its first call, and again after each loss; `guard` looks after its
/// streams, which count for the `payers`.
///
/// # Errors
/// When the address or a file of TLS cannot be used.
pub fn open(endpoint: &Endpoint, guard: &Guard, payers: &Payers) -> Result<Channel, GrpcError> {
    open_with(endpoint, Some(guard), &Resolver::system(), payers)
}

/// Opens as [`open`] does, with another resolver of names.
pub(super) fn open_with(
    endpoint: &Endpoint,
    guard: Option<&Guard>,
    resolver: &Resolver,
    payers: &Payers,
) -> Result<Channel, GrpcError> {
    let wrong = |problem: String| GrpcError::Address { address: endpoint.address.to_string(), problem };
    let scheme = if endpoint.tls { Scheme::HTTPS } else { Scheme::HTTP };
    // The name that the service is asked for by.
    let (authority, host) = match &endpoint.address {
        Target::Host(host) => (host.to_string(), host.host.clone()),
        Target::Addresses(all) => {
            let first = all.first().ok_or_else(|| wrong("no address".to_owned()))?;
            (first.to_string(), first.ip().to_string().into())
        }
        Target::Unix(_) => ("localhost".to_owned(), "localhost".into()),
    };
    let authority = authority.parse::<Authority>().map_err(|error| wrong(error.to_string()))?;
    let tls = match endpoint.tls {
        true => Some((Followed::new(endpoint.files.clone(), "spec.tls", &[b"h2"])?, host)),
        false => None,
    };
    let dialing = Dialing {
        tls,
        policy: endpoint.policy.clone(),
        guard: guard.cloned(),
        payers: payers.clone(),
        several: AtomicBool::new(false),
        doubtful: AtomicBool::new(false),
    };
    // Many registries must not all begin with the same address.
    let turn = usize::try_from(routr_environment::random() % 1024).unwrap_or_default();
    let channel = Channel::new(source(&endpoint.address, resolver), scheme, authority, dialing, turn);
    match &endpoint.token {
        Some(token) => channel.with_token(token).map_err(|problem| wrong(problem.to_owned())),
        None => Ok(channel),
    }
}

fn source(target: &Target, resolver: &Resolver) -> Source {
    match target {
        Target::Host(host) => match host.as_socket_addr() {
            Some(address) => Source::Given(vec![At::Ip(address)]),
            None => Source::Name(host.clone(), resolver.clone()),
        },
        Target::Addresses(all) => Source::Given(all.iter().copied().map(At::Ip).collect()),
        Target::Unix(path) => Source::Given(vec![At::Unix(path.clone())]),
    }
}
