//! Location of the servers of a domain: NAPTR, SRV, A and AAAA records (RFC 3263 §4, RFC 7984).

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
};

use futures_util::future::join;
use hickory_resolver::proto::rr::{
    RData, RecordType,
    rdata::{NAPTR, SRV},
};

use super::{ClientError, MAX_ADDRESSES, Names, join_all};
use crate::client::Destination;
use routr_types::host::Transport;

/// Most SRV records of a name that are looked at.
const MAX_SERVERS: usize = 16;
/// Most NAPTR records of a name that are followed.
const MAX_NAPTR: usize = 4;

/// One address of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Located {
    pub(in super::super) address: SocketAddr,
    /// Those of one group are as good as each other: lower ones go first.
    pub(in super::super) group: u32,
}

impl Names {
    /// The addresses of a destination that pass the filter, in the order to try them; at least one. Without a
    /// port the DNS names it, and the hosts. `seed` decides among servers of one priority, by their weights:
    /// with the same one it is the same server as long as the records are the same.
    pub(in super::super) async fn locate(
        &self,
        to: &Destination,
        seed: u64,
        usable: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<Located>, ClientError> {
        let one_group = |all: Vec<SocketAddr>| {
            all.into_iter().map(|address| Located { address, group: 0 }).collect::<Vec<_>>()
        };
        let default = to.transport.default_port();
        if to.port.is_some() || to.host.parse::<IpAddr>().is_ok() {
            return Ok(one_group(self.addresses(&to.host, to.port.unwrap_or(default), usable).await?));
        }
        let servers = self.servers_of(&to.host, to.transport, seed).await;
        if !servers.is_empty() {
            return self.addresses_of(servers, usable).await;
        }
        self.addresses(&to.host, default, usable).await.map(one_group)
    }

    /// The SRV records for a domain and a transport, in the order to try them. Where they cannot be looked up
    /// there are none: then the name itself may still have an address, or an error that says why not.
    async fn servers_of(&self, domain: &str, transport: Transport, seed: u64) -> Vec<SRV> {
        let (naptr, usual) =
            join(self.records(domain, RecordType::NAPTR), self.srv(&usual_name(domain, transport))).await;
        let naptr = naptr.ok().flatten();
        let records =
            naptr.iter().flat_map(|found| found.answers()).filter_map(|record| match &record.data {
                RData::NAPTR(naptr) => Some(naptr),
                _ => None,
            });
        let mut servers = Vec::new();
        for name in names_in(records, transport) {
            // What the usual name has is known.
            if name.trim_end_matches('.').eq_ignore_ascii_case(&usual_name(domain, transport)) {
                servers.extend(usual.iter().cloned());
            } else {
                servers.extend(self.srv(&name).await);
            }
            if !servers.is_empty() {
                break;
            }
        }
        if servers.is_empty() {
            servers = usual;
        }
        ordered(servers, seed)
    }

    async fn srv(&self, name: &str) -> Vec<SRV> {
        let found = match self.records(name, RecordType::SRV).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(name, %error, "no SRV records");
                None
            }
        };
        let records = found.iter().flat_map(|found| found.answers());
        records
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(srv.clone()),
                _ => None,
            })
            .collect()
    }

    /// The addresses of servers, those of each together. A server without a usable one is passed over.
    async fn addresses_of(
        &self,
        servers: Vec<SRV>,
        usable: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<Located>, ClientError> {
        // RFC 2782: a single "." says that the service is not there.
        if servers.iter().all(|server| server.target.is_root()) {
            return Err(ClientError::resolve(
                "the DNS says that there is no such service (SRV with target \".\")",
            ));
        }
        let servers = servers.iter().filter(|server| !server.target.is_root()).take(MAX_SERVERS);
        let look_ups = servers.map(|server| async {
            let found = self.addresses(&server.target.to_ascii(), server.port, &usable).await;
            (u32::from(server.priority), server.target.to_ascii(), found)
        });
        let (mut all, mut trouble) = (Vec::<Located>::new(), None);
        for (group, name, found) in join_all(look_ups).await {
            match found {
                Ok(found) => {
                    for address in found {
                        if !all.iter().any(|known| known.address == address) {
                            all.push(Located { address, group });
                        }
                    }
                }
                Err(error) => trouble = trouble.or(Some((name, error))),
            }
        }
        all.truncate(MAX_ADDRESSES);
        match trouble {
            Some((name, ClientError::Resolve(cause))) if all.is_empty() => {
                Err(ClientError::resolve(format!("{cause}: {name}, which an SRV record names")))
            }
            Some((_, error)) if all.is_empty() => Err(error),
            _ => Ok(all),
        }
    }
}

/// Default names of the SRV records of a domain (RFC 3263 §4.1).
fn usual_name(domain: &str, transport: Transport) -> String {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tls => "_sips._tcp",
        Transport::Sctp => "_sip._sctp",
        Transport::Tcp => "_sip._tcp",
        // RFC 7118 §5.3 leaves it at that of HTTP.
        Transport::Ws => "_sip._ws",
        Transport::Wss => "_sips._ws",
    };
    format!("{service}.{}", domain.trim_end_matches('.'))
}

/// The names of SRV records for a transport, by order and preference. The flag of RFC 3263 is `s`; a
/// replacement without one stands for the same in the field.
fn names_in<'a>(records: impl Iterator<Item = &'a NAPTR>, transport: Transport) -> Vec<String> {
    let service: &[u8] = match transport {
        Transport::Udp => b"SIP+D2U",
        Transport::Tcp => b"SIP+D2T",
        Transport::Tls => b"SIPS+D2T",
        Transport::Sctp => b"SIP+D2S",
        Transport::Ws => b"SIP+D2W",
        Transport::Wss => b"SIPS+D2W",
    };
    let mut fit: Vec<&NAPTR> = records
        .filter(|one| one.services.eq_ignore_ascii_case(service) && !one.replacement.is_root())
        .filter(|one| one.flags.is_empty() || one.flags.eq_ignore_ascii_case(b"s"))
        .collect();
    fit.sort_by_key(|one| (one.order, one.preference));
    fit.into_iter().take(MAX_NAPTR).map(|one| one.replacement.to_ascii()).collect()
}

/// By priority; among equals at random by weight (RFC 2782), with the same seed always the same: weighted
/// rendezvous hashing, so that a server that comes or goes moves only its own share.
fn ordered(servers: Vec<SRV>, seed: u64) -> Vec<SRV> {
    let mut scored: Vec<(u16, f64, SRV)> = servers
        .into_iter()
        .map(|server| {
            let mut hash = DefaultHasher::new();
            (seed, server.target.to_ascii(), server.port).hash(&mut hash);
            // «A very small chance of being selected» for weight 0.
            let weight = if server.weight == 0 { 0.01 } else { f64::from(server.weight) };
            (server.priority, -weight / unit(hash.finish()).ln(), server)
        })
        .collect();
    scored.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    scored.into_iter().map(|(_, _, server)| server).collect()
}

/// A number in (0, 1) from the upper 53 bits of a hash.
#[allow(clippy::cast_precision_loss)]
fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_str(text).unwrap()
    }

    fn naptr(order: u16, preference: u16, flags: &str, service: &str, replacement: &str) -> NAPTR {
        let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
        NAPTR::new(order, preference, bytes(flags), bytes(service), bytes(""), name(replacement))
    }

    #[test]
    fn naptr_records_of_the_transport_count_by_order_and_preference() {
        let records = [
            naptr(20, 1, "s", "SIP+D2U", "third.test."),
            naptr(10, 9, "S", "sip+d2u", "second.test."),
            naptr(10, 5, "s", "SIP+D2U", "first.test."),
            naptr(1, 1, "s", "SIPS+D2T", "tls.test."),
            naptr(1, 1, "u", "SIP+D2U", "regexp.test."),
            naptr(1, 1, "s", "SIP+D2U", "."),
            naptr(1, 1, "s", "E2U+sip", "enum.test."),
        ];
        let names = names_in(records.iter(), Transport::Udp);
        assert_eq!(names, ["first.test.", "second.test.", "third.test."]);
        assert_eq!(names_in(records.iter(), Transport::Tls), ["tls.test."]);
        assert!(names_in(records.iter(), Transport::Tcp).is_empty());
    }

    #[test]
    fn servers_go_by_priority_and_weight_and_stay_with_their_seed() {
        let servers = || {
            vec![
                SRV::new(20, 100, 5060, name("backup.test.")),
                SRV::new(10, 75, 5060, name("large.test.")),
                SRV::new(10, 25, 5060, name("small.test.")),
                SRV::new(10, 0, 5060, name("none.test.")),
            ]
        };
        let mut first = [0; 3];
        for seed in 0..4_000 {
            let order = ordered(servers(), seed);
            assert_eq!(order, ordered(servers().into_iter().rev().collect(), seed));
            assert_eq!(order[3].target, name("backup.test."));
            first[["large.test.", "small.test.", "none.test."]
                .iter()
                .position(|host| order[0].target == name(host))
                .unwrap()] += 1;
        }
        assert!((2_800..3_200).contains(&first[0]) && first[2] < 20, "{first:?}");
    }
}
