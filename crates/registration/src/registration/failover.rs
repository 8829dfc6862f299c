//! The order of other targets: what is tried instead of a URI, or of a URI and an EdgePort.

use super::{EdgePortRank, Registration, TargetRanks, UriRank, UriSet, time::Moment};

/// Another URI to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Its rank.
    pub rank: UriRank,
    /// The moment from which it may be asked.
    pub not_before: Moment,
    /// The moment from which the registrar of the URI before may be asked again.
    pub until: Moment,
}

impl Registration {
    /// Another URI than the one that is due, where the registrar of that one is not to be asked before
    /// `until`. `held` tells of which ranks the same is true. Where each other one asked this trunk to wait,
    /// it is the first of them that may be asked, if that is sooner.
    pub fn failover(
        &self,
        until: Moment,
        held: impl Fn(UriRank) -> bool,
        uris: u8,
        now: Moment,
    ) -> Option<Failover> {
        let shut_until =
            |rank: UriRank| self.failure.as_ref().map_or(now, |failure| failure.shut_until(rank).max(now));
        // One that was tried in this round would lead here again at once, by a redirection.
        let tried = self.failure.as_ref().map_or(UriSet::default(), |failure| failure.tried);
        let fresh = |rank: UriRank| !tried.contains(rank) || shut_until(rank) > now;
        let others =
            UriRank::first(uris).filter(|rank| *rank != self.target.uri && !held(*rank) && fresh(*rank));
        let soonest = others.map(|rank| (shut_until(rank), rank)).min();
        let (not_before, rank) = soonest.filter(|(from, _)| *from < until)?;
        Some(Failover { rank, not_before, until })
    }

    /// Turns to the URI of a [`Registration::failover`].
    pub fn fail_over(&mut self, Failover { rank, not_before, until }: Failover) {
        let uri = std::mem::replace(&mut self.target.uri, rank);
        let failure = self.failure_mut();
        if uri == UriRank::FIRST {
            failure.preferred_retry_at = failure.preferred_retry_at.max(until);
        }
        failure.forget_target();
        failure.tried.insert(uri);
        self.defer(not_before);
    }
}

/// Another way than by that URI and that EdgePort: over the rounds, each pair of the others has its turn.
/// Both change in the first round, for what is silent may be either. Both in every round would never reach
/// the good URI by the good EdgePort where one of each is dead.
pub(super) fn next_target_pair(target: TargetRanks, counts: (u8, u8), round: u16) -> TargetRanks {
    let (uris, edges) = (u16::from(counts.0.max(1)), u16::from(counts.1.max(1)));
    let ways = uris * edges;
    if ways <= 1 {
        return target;
    }
    // A diagonal through all pairs but (0, 0), which is the way that was silent; it moves over where it would
    // close too early.
    let turn = 1 + round % (ways - 1);
    let closes = uris * edges / common_divisor(uris, edges);
    TargetRanks {
        uri: UriRank(other(target.uri.0, turn % uris)),
        edge: other_edge(target.edge, (turn + turn / closes) % edges),
    }
}

/// The EdgePort that comes in a turn: as [`other`].
pub(super) fn other_edge(edge: EdgePortRank, turn: u16) -> EdgePortRank {
    EdgePortRank(other(edge.0, turn))
}

/// The rank that comes in a turn: the rank itself first, then the others, preferred first.
fn other(rank: u8, turn: u16) -> u8 {
    match u8::try_from(turn).unwrap_or(0) {
        0 => rank,
        turn if turn <= rank => turn - 1,
        turn => turn,
    }
}

fn common_divisor(one: u16, other: u16) -> u16 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_rounds_each_other_way_has_its_turn() {
        for (uris, edges) in (1..6).flat_map(|uris| (1..6).map(move |edges| (uris, edges))) {
            let all = UriRank::first(uris)
                .flat_map(|uri| EdgePortRank::first(edges).map(move |edge| TargetRanks { uri, edge }));
            for from in all {
                let ways = u16::from(uris) * u16::from(edges);
                let mut tried: Vec<_> =
                    (0..ways - 1).map(|round| next_target_pair(from, (uris, edges), round)).collect();
                assert!(
                    ways == 1 || uris == 1 || tried[0].uri != from.uri,
                    "{from:?} of {uris} x {edges}: {tried:?}"
                );
                assert!(
                    ways == 1 || edges == 1 || tried[0].edge != from.edge,
                    "{from:?} of {uris} x {edges}: {tried:?}"
                );
                tried.sort_unstable_by_key(|target| (target.uri, target.edge));
                tried.dedup();
                assert_eq!(tried.len(), usize::from(ways - 1), "{from:?} of {uris} x {edges}: {tried:?}");
                assert!(!tried.contains(&from), "{from:?} of {uris} x {edges}: {tried:?}");
            }
        }
    }
}
