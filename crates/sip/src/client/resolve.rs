//! Host names to addresses: A and AAAA records and the hosts file here, NAPTR and SRV in [`locate`]. hickory
//! asks the name servers, and keeps what they say as long as its TTL, what does not exist too (RFC 2308).
//!
//! Beyond what hickory does: the settings of the system are read again when they change, and where one name
//! server answers with a failure each of the others is asked.

mod locate;
mod system;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;
#[cfg(any(test, feature = "testing"))]
use hickory_resolver::{Hosts, config::ResolverOpts};
use hickory_resolver::{
    config::ResolverConfig,
    lookup::Lookup,
    net::{DnsError, NetError},
    proto::{op::ResponseCode, rr::RecordType},
};
use tokio::{sync::Semaphore, time::timeout};

pub(super) use self::locate::Located;
use self::system::{Followed, System};
use super::error::{ClientError, io_cause};
use routr_net::{addresses::AddressPolicy, connect::interleave};

/// Most addresses of one name, and of one registrar with all its names, that are looked at.
const MAX_ADDRESSES: usize = 16;

/// Most names that are looked up at a time.
const MAX_LOOK_UPS: usize = 4096;

/// Most name servers that an error names.
const MAX_SERVERS: usize = 3;

pub(super) struct Names {
    system: Followed,
    within: Duration,
    /// Addresses that may be used.
    targets: AddressPolicy,
    /// Each look-up has a socket.
    looking_up: Semaphore,
}

impl Names {
    /// Uses the system's name servers; where it names none, the hosts file only.
    pub(super) fn new(within: Duration) -> Result<Self, ClientError> {
        Ok(Self::of(Followed::start()?, within))
    }

    fn of(system: Followed, within: Duration) -> Self {
        Self { system, within, targets: AddressPolicy::default(), looking_up: Semaphore::new(MAX_LOOK_UPS) }
    }

    /// Restricts it to these addresses, and to this number of look-ups at a time.
    pub(super) fn restricted(self, targets: AddressPolicy, look_ups: usize) -> Self {
        Self { targets, looking_up: Semaphore::new(look_ups.clamp(1, MAX_LOOK_UPS)), ..self }
    }

    #[cfg(test)]
    pub(super) fn with(
        config: ResolverConfig,
        options: ResolverOpts,
        within: Duration,
    ) -> Result<Self, ClientError> {
        Ok(Self::of(Followed::fixed(System::new(config, options)?), within))
    }

    /// With a hosts file of this text and no name servers.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn with_hosts(text: &str) -> Result<Self, ClientError> {
        let nowhere = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(text.as_bytes()).map_err(|error| ClientError::resolve(error.to_string()))?;
        let system = System::new(nowhere, ResolverOpts::default())?.with_hosts(hosts);
        Ok(Self::of(Followed::fixed(system), Duration::from_secs(5)))
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
        let mut denied = None;
        // Each address is checked each time, wherever its name came from: what a name stands for changes.
        let usable =
            all.iter().filter(|a| usable(**a)).map(|address| SocketAddr::new(*address, port)).filter(|at| {
                let checked = self.targets.check(*at);
                checked.map_err(|error| denied.get_or_insert(error).address).is_ok()
            });
        let fit: Vec<_> = interleave(usable.collect()).into_iter().take(MAX_ADDRESSES).collect();
        if let (true, Some(denied)) = (fit.is_empty(), denied) {
            return Err(ClientError::Denied(Box::new(denied)));
        }
        if fit.is_empty() {
            let text = format!("no address of the family that SIP is sent from here (it has {all:?})");
            return Err(ClientError::resolve(text));
        }
        Ok(fit)
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, ClientError> {
        let system = self.system.now();
        // It is never closed.
        let _turn = self.looking_up.acquire().await;
        match timeout(self.within, system.lookup_ip(host)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(ClientError::resolve(system.cause(&error))),
            Err(_) => Err(self.late(&system)),
        }
    }

    /// The records of a type, none where there are none. `name` is taken as it is, without search domains.
    async fn records(&self, name: &str, kind: RecordType) -> Result<Option<Lookup>, ClientError> {
        let system = self.system.now();
        if !system.has_servers() {
            return Ok(None);
        }
        let name = format!("{}.", name.trim_end_matches('.'));
        let _turn = self.looking_up.acquire().await;
        match timeout(self.within, system.lookup(&name, kind)).await {
            Ok(Ok(found)) => Ok(Some(found)),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none))))
                if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                Ok(None)
            }
            Ok(Err(error)) => Err(ClientError::resolve(system.cause(&error))),
            Err(_) => Err(self.late(&system)),
        }
    }

    fn late(&self, system: &System) -> ClientError {
        let (servers, seconds) = (system.servers(), self.within.as_secs_f32());
        ClientError::resolve(format!("cannot be looked up: no response from {servers} within {seconds} s"))
    }
}

impl System {
    fn servers(&self) -> &str {
        self.shown().unwrap_or("a name server")
    }

    /// The words for a look-up that failed, the cause first; without the host name.
    fn cause(&self, error: &NetError) -> String {
        let servers = self.servers();
        let answered = |code: ResponseCode| format!("cannot be looked up: {servers} answered {}", name(code));
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => "unknown to the DNS".to_owned(),
                ResponseCode::NoError => "no address in the DNS (neither an A nor an AAAA record)".to_owned(),
                code => answered(code),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => answered(*code),
            _ if self.shown().is_none() => "cannot be looked up: no name server is configured".to_owned(),
            NetError::Timeout => format!("cannot be looked up: no response from {servers}"),
            NetError::Io(error) => format!("cannot be looked up: {servers}: {}", io_cause(error)),
            NetError::NoConnections => format!("cannot be looked up: {servers}: no connection"),
            other => format!("cannot be looked up: {other} ({servers})"),
        }
    }
}

fn servers(config: &ResolverConfig) -> Option<String> {
    let all = config.name_servers();
    let listed: Vec<String> = all
        .iter()
        .take(MAX_SERVERS)
        .map(|server| {
            let port = server.connections.first().map_or(53, |connection| connection.port);
            SocketAddr::new(server.ip, port).to_string()
        })
        .collect();
    let listed = listed.join(", ");
    match all.len() {
        0 => None,
        1 => Some(format!("name server {listed}")),
        count if count > MAX_SERVERS => {
            Some(format!("name servers {listed} and {} more", count - MAX_SERVERS))
        }
        _ => Some(format!("name servers {listed}")),
    }
}

/// The code as dig and the RFCs write it.
fn name(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => other.to_string(),
    }
}
