//! Host names to addresses: A and AAAA records, cached, and the hosts file. No NAPTR or SRV: a destination always has a
//! transport and a port.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use tokio::time::timeout;

use super::error::ClientError;

/// Most addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 4;

pub(super) struct Names {
    resolver: TokioResolver,
    within: Duration,
}

impl Names {
    /// With the system's name servers; where it names none, with the hosts file only.
    pub(super) fn new(within: Duration) -> Result<Self, ClientError> {
        let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no name servers are configured: only the hosts file and IP addresses will do");
            let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            TokioResolver::builder_with_config(nowhere, TokioRuntimeProvider::default())
        });
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder
            .build()
            .map_err(|error| ClientError::resolve(format!("the resolver cannot be set up: {error}")))?;
        Ok(Self { resolver, within })
    }

    /// With a hosts file of this text and no name servers.
    #[cfg(test)]
    pub(super) fn with_hosts(text: &str) -> Result<Self, ClientError> {
        let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        let builder = TokioResolver::builder_with_config(nowhere, TokioRuntimeProvider::default());
        let error = |error: &dyn std::fmt::Display| ClientError::resolve(error.to_string());
        let mut resolver = builder.build().map_err(|e| error(&e))?;
        let mut hosts = hickory_resolver::Hosts::default();
        hosts.read_hosts_conf(text.as_bytes()).map_err(|e| error(&e))?;
        resolver.set_hosts(std::sync::Arc::new(hosts));
        Ok(Self { resolver, within: Duration::from_secs(5) })
    }

    /// The addresses of a host that pass the filter, in the order to try them; at least one.
    pub(super) async fn addresses(
        &self,
        host: &str,
        port: u16,
        usable: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<SocketAddr>, ClientError> {
        let all = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.look_up(host).await?,
        };
        let fit: Vec<_> = all.iter().filter(|a| usable(**a)).take(MAX_ADDRESSES).collect();
        if fit.is_empty() {
            let text =
                format!("{host}: no address of the family that this side is bound to (it has {all:?})");
            return Err(ClientError::resolve(text));
        }
        Ok(fit.into_iter().map(|address| SocketAddr::new(*address, port)).collect())
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, ClientError> {
        let found = timeout(self.within, self.resolver.lookup_ip(host)).await;
        match found {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) if error.is_no_records_found() => {
                Err(ClientError::resolve(format!("host name {host} is unknown to the DNS")))
            }
            Ok(Err(error)) => {
                Err(ClientError::resolve(format!("host name {host} cannot be looked up: {error}")))
            }
            Err(_) => Err(ClientError::resolve(format!(
                "host name {host} cannot be looked up: no answer from the DNS within {} s",
                self.within.as_secs_f32()
            ))),
        }
    }
}
