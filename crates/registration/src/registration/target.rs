//! Targets in their order: URIs by priority and weight, EdgePorts by region and rendezvous hashing.
//!
//! Both orders depend only on the trunk and the configuration, so they are the same after a restart and for
//! every replica; a rank in them (0 is preferred) is all that a registration has to remember.

use super::{EdgePortRank, UriChoice, UriIndex, UriRank, identity::stable_hash};
use crate::trunk::MAX_URIS;

/// Fields that the order of URIs depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UriPreference {
    /// Lower first.
    pub priority: i32,
    /// Share among equal priorities (RFC 2782); 0 counts as the smallest share.
    pub weight: u16,
}

/// Order of preference of a trunk's URIs: an index for each rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriOrder(Vec<UriIndex>);

impl UriOrder {
    /// The URI of a rank.
    pub fn index_of(&self, rank: UriRank) -> Option<UriIndex> {
        self.0.get(usize::from(rank)).copied()
    }

    /// The rank of a URI.
    pub fn rank_of(&self, index: UriIndex) -> Option<UriRank> {
        self.rank_that(|other| other == index)
    }

    /// The preferred one of the URIs that a condition holds for.
    pub fn rank_that(&self, holds: impl Fn(UriIndex) -> bool) -> Option<UriRank> {
        let rank = self.0.iter().position(|index| holds(*index))?;
        u8::try_from(rank).ok().map(UriRank)
    }

    /// The preferred URI.
    pub fn preferred(&self) -> Option<UriIndex> {
        self.0.first().copied()
    }

    /// The URI that an attempt means: of a rank that the trunk does not have, the preferred one.
    pub fn resolve(&self, choice: UriChoice) -> UriIndex {
        match choice {
            UriChoice::Rank(rank) => self.index_of(rank).or(self.preferred()).unwrap_or_default(),
            UriChoice::Index(index) => index,
        }
    }

    /// All of them, preferred first.
    pub fn iter(&self) -> impl Iterator<Item = UriIndex> {
        self.0.iter().copied()
    }
}

/// Orders URIs by priority; among equals at random by weight, but always the same for a trunk.
///
/// The draw is weighted rendezvous hashing: `-weight / ln(u)`, `u` uniform in (0, 1) by hash, highest first.
/// A change of one URI's weight moves only trunks from or to that URI.
pub fn uri_order(trunk: &str, uris: impl ExactSizeIterator<Item = UriPreference>) -> UriOrder {
    let count = u8::try_from(uris.len().min(MAX_URIS)).unwrap_or(u8::MAX);
    if count <= 1 {
        return UriOrder(UriIndex::first(count).collect());
    }
    let mut scored: Vec<(i32, f64, UriIndex)> = UriIndex::first(count)
        .zip(uris)
        .map(|(index, uri)| {
            // RFC 2782 gives weight 0 "a very small chance of being selected".
            let weight = if uri.weight == 0 { 0.01 } else { f64::from(uri.weight) };
            let hash = stable_hash(&[b"uri", trunk.as_bytes(), &[index.0]]);
            (uri.priority, -weight / unit(hash).ln(), index)
        })
        .collect();
    scored.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
    UriOrder(scored.into_iter().map(|(_, _, index)| index).collect())
}

/// A number in (0, 1) from the upper 53 bits of a hash.
#[allow(clippy::cast_precision_loss)]
fn unit(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// The EdgePort of rank `rank` (0 is preferred) for a trunk: those of the trunk's region first, then by
/// rendezvous hashing, so that an EdgePort that comes or goes moves only its own share of the trunks.
/// `usable` leaves out the ones that are known to be silent; where none is usable, all are.
///
/// Returns an index in `edge_ports`; 0 where there are none.
pub fn edge_port<'a>(
    trunk: &str,
    region: Option<&str>,
    edge_ports: impl Iterator<Item = (&'a str, Option<&'a str>, bool)>,
    rank: EdgePortRank,
) -> usize {
    let mut all: Vec<(bool, bool, u64, usize)> = edge_ports
        .enumerate()
        .map(|(index, (address, at, usable))| {
            let far = region.is_some() && at != region;
            let hash = stable_hash(&[b"edge", trunk.as_bytes(), address.as_bytes()]);
            (!usable, far, u64::MAX - hash, index)
        })
        .collect();
    if all.len() <= 1 {
        return 0;
    }
    all.sort_unstable();
    let usable = all.iter().filter(|edge| !edge.0).count();
    let among = if usable == 0 { all.len() } else { usable };
    all[usize::from(rank) % among].3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(trunk: &str, uris: &[(i32, u16)]) -> Vec<u8> {
        let order = uri_order(
            trunk,
            uris.iter().map(|(priority, weight)| UriPreference { priority: *priority, weight: *weight }),
        );
        order.iter().map(u8::from).collect()
    }

    #[test]
    fn lower_priority_first() {
        assert_eq!(order("t", &[(20, 1), (10, 1), (30, 1)]), [1, 0, 2]);
        assert_eq!(order("t", &[(5, 1)]), [0]);
    }

    #[test]
    fn weight_shares_the_load_among_equals() {
        let first =
            (0..10_000).filter(|n| order(&format!("trunk-{n}"), &[(10, 30), (10, 10)])[0] == 0).count();
        assert!((7_200..7_800).contains(&first), "3 to 1 was asked, got {first} of 10000");
        let zero = (0..10_000).filter(|n| order(&format!("trunk-{n}"), &[(10, 0), (10, 10)])[0] == 0).count();
        assert!(zero < 100, "weight 0 was chosen {zero} times");
    }

    #[test]
    fn the_order_is_the_same_each_time() {
        assert_eq!(order("t-7", &[(1, 5), (1, 5), (1, 5)]), order("t-7", &[(1, 5), (1, 5), (1, 5)]));
    }

    fn edge(
        trunk: &str,
        region: Option<&str>,
        edges: &[(&'static str, Option<&'static str>, bool)],
        rank: u8,
    ) -> usize {
        edge_port(trunk, region, edges.iter().copied(), EdgePortRank(rank))
    }

    #[test]
    fn edge_ports_share_the_trunks_and_keep_them_when_one_leaves() {
        let three = [("a:5060", None, true), ("b:5060", None, true), ("c:5060", None, true)];
        let two = [("a:5060", None, true), ("b:5060", None, true)];
        let mut counts = [0; 3];
        for n in 0..3_000 {
            let trunk = format!("trunk-{n}");
            let with = edge(&trunk, None, &three, 0);
            counts[with] += 1;
            if with < 2 {
                assert_eq!(edge(&trunk, None, &two, 0), with, "{trunk} moved though its EdgePort stayed");
            }
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_region_goes_first_and_ranks_visit_each_edge_port_once() {
        let edges =
            [("a:5060", Some("eu"), true), ("b:5060", Some("us"), true), ("c:5060", Some("us"), true)];
        let visited: Vec<usize> = (0..3).map(|rank| edge("t", Some("us"), &edges, rank)).collect();
        assert_ne!(visited[0], 0);
        assert_ne!(visited[1], 0);
        assert_eq!(visited[2], 0);
    }

    #[test]
    fn silent_edge_ports_are_passed_over_unless_all_are() {
        let one_down = [("a:5060", None, false), ("b:5060", None, true)];
        let all_down = [("a:5060", None, false), ("b:5060", None, false)];
        for n in 0..50 {
            assert_eq!(edge(&format!("t{n}"), None, &one_down, 0), 1);
        }
        assert!((0..50).any(|n| edge(&format!("t{n}"), None, &all_down, 0) == 0));
        assert_eq!(edge("t", None, &[], 3), 0);
    }
}
