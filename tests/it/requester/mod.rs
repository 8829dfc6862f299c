//! The Requester as a product: calls that arrive, refreshes in one transaction, every registrar that the DNS
//! names, and what stands in for Routr's own.

mod calls;
mod documented;
mod drop_in;
mod reaching;
mod readme;
mod refreshes;
mod traced;

use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::field::harness::trunk;
use crate::support::kamailio::Kamailio;
use routr_registry::devstack::api::ApiServer;

/// Serves an API server at this port, with one trunk: alice's, at a Kamailio. Dropping the guard ends it.
async fn serve_alice(kamailio: &Kamailio, port: u16) -> DropGuard {
    let at = ([127, 0, 0, 1], kamailio.udp_port()).into();
    let api = ApiServer::from_trunks(vec![trunk("alice", "alice", at, "UDP")]);
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let end = CancellationToken::new();
    let guard = end.clone().drop_guard();
    tokio::spawn(async move { api.serve(listener, end).await });
    guard
}
