//! Numbers of trunks that use each registrar: those that are there, whether they have asked it or not.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher},
};

use hashbrown::DefaultHashBuilder;

use super::packed_trunk::PackedTrunkRef;

/// Numbers of trunks by registrar. With a million trunks every byte counts: registrars are known by the hash
/// of their host and port. Two that share one seem to have more trunks than they have, which is the safe
/// side.
#[derive(Debug, Default)]
pub(super) struct RegistrarUsers {
    trunks: HashMap<u64, u32>,
    hasher: DefaultHashBuilder,
}

impl RegistrarUsers {
    /// A trunk is there.
    pub fn add(&mut self, trunk: &PackedTrunkRef<'_>) {
        for registrar in self.registrars(trunk) {
            *self.trunks.entry(registrar).or_default() += 1;
        }
    }

    /// It is there no more, or no more as it was.
    pub fn remove(&mut self, trunk: &PackedTrunkRef<'_>) {
        for registrar in self.registrars(trunk) {
            if let Some(trunks) = self.trunks.get_mut(&registrar) {
                *trunks -= 1;
                if *trunks == 0 {
                    self.trunks.remove(&registrar);
                }
            }
        }
    }

    /// Returns whether no other trunk than this one, which is there, uses a registrar.
    pub fn is_only_user(&self, trunk: &PackedTrunkRef<'_>, (host, port): (&str, u16)) -> bool {
        let registrar = self.hash((host, port));
        let own = u32::from(self.registrars(trunk).contains(&registrar));
        self.trunks.get(&registrar).copied().unwrap_or(0) <= own
    }

    /// Each registrar of a trunk once.
    fn registrars(&self, trunk: &PackedTrunkRef<'_>) -> Vec<u64> {
        let mut all: Vec<u64> = trunk.all_uris().map(|uri| self.hash(uri.next_hop())).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn hash(&self, (host, port): (&str, u16)) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        host.bytes().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
        hasher.write_u16(port);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::packed_trunk::PackedTrunk,
        trunk::{Trunk, TrunkUri},
    };
    use routr_types::host::{HostPort, Transport};

    fn trunk(uris: &[(&str, u16)]) -> PackedTrunk {
        let uri = |(host, port): &(&str, u16)| TrunkUri {
            user: "u".into(),
            registrar: HostPort::new(host, *port),
            names_port: true,
            transport: Transport::Udp,
            priority: 0,
            weight: 1,
        };
        PackedTrunk::new(&Trunk {
            reference: "t".into(),
            name: "".into(),
            region: None,
            uris: uris.iter().map(uri).collect(),
            credentials: None,
            digest: routr_types::digest_minimum::DigestMinimum::default(),
            tls_uri_scheme: None,
            outbound_proxy: None,
            problem: None,
            updated_at_s: 0,
        })
    }

    #[test]
    fn a_trunk_is_alone_until_another_one_has_the_same_registrar() {
        let mut users = RegistrarUsers::default();
        let (one, other) = (trunk(&[("a", 5060), ("a", 5060), ("b", 5060)]), trunk(&[("a", 5060)]));
        let alone = |users: &RegistrarUsers, trunk: &PackedTrunk, host, port| {
            users.is_only_user(&trunk.view(), (host, port))
        };
        users.add(&one.view());
        assert!(alone(&users, &one, "a", 5060) && alone(&users, &one, "b", 5060));
        users.add(&other.view());
        assert!(!alone(&users, &one, "A", 5060) && alone(&users, &one, "b", 5060));
        assert!(!alone(&users, &other, "b", 5060) && alone(&users, &other, "A", 5070));
        users.remove(&one.view());
        assert!(alone(&users, &other, "a", 5060));
        users.remove(&other.view());
        assert!(users.trunks.is_empty());
    }
}
