//! Numbers of a trunk's URIs: as configured, and as preferred; and sets of them.

use std::marker::PhantomData;

use crate::trunk::MAX_URIS;

/// Place of a URI in its trunk, as configured: 0 is the first, below [`MAX_URIS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UriIndex(pub u8);

/// Place of a URI in the order of preference ([`super::target::uri_order`]): 0 is the preferred one, below
/// [`MAX_URIS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UriRank(pub u8);

/// Place of an EdgePort in the order of preference of one trunk ([`super::target::edge_port`]): 0 is the
/// preferred one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgePortRank(pub u8);

/// A URI and an EdgePort, by rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetRanks {
    /// Rank of the URI.
    pub uri: UriRank,
    /// Rank of the EdgePort.
    pub edge: EdgePortRank,
}

macro_rules! number {
    ($($name:ident),+) => {$(
        impl $name {
            /// The first one, or the preferred one.
            pub const FIRST: Self = Self(0);

            /// Returns the first `count` of them.
            pub fn first(count: u8) -> impl Iterator<Item = Self> + Clone {
                (0..count).map(Self)
            }
        }

        impl From<u8> for $name {
            fn from(number: u8) -> Self {
                Self(number)
            }
        }

        impl From<$name> for u8 {
            fn from($name(number): $name) -> Self {
                number
            }
        }

        impl From<$name> for usize {
            fn from($name(number): $name) -> Self {
                Self::from(number)
            }
        }
    )+};
}

number!(UriIndex, UriRank, EdgePortRank);

impl TargetRanks {
    /// The preferred URI by the preferred EdgePort.
    pub const PREFERRED: Self = Self { uri: UriRank::FIRST, edge: EdgePortRank::FIRST };

    /// Returns whether both are the preferred ones.
    pub fn is_preferred(self) -> bool {
        self == Self::PREFERRED
    }
}

/// Set of a trunk's URIs, by index or by rank. A number from [`MAX_URIS`] on is not remembered: no trunk has
/// so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UriSet<N = UriIndex>(u32, PhantomData<N>);

const _: () = assert!(MAX_URIS == u32::BITS as usize, "one bit for each URI");

impl<N: Copy + From<u8> + Into<u8>> UriSet<N> {
    fn of_bits(bits: u32) -> Self {
        Self(bits, PhantomData)
    }

    /// Adds a URI.
    pub fn insert(&mut self, uri: N) {
        self.0 |= bit(uri.into());
    }

    /// Takes a URI out.
    pub fn remove(&mut self, uri: N) {
        self.0 &= !bit(uri.into());
    }

    /// Takes all of these out.
    pub fn remove_all(&mut self, others: Self) {
        self.0 &= !others.0;
    }

    /// Returns whether both have a URI.
    pub fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Returns whether it has this URI.
    pub fn contains(self, uri: N) -> bool {
        self.0 & bit(uri.into()) != 0
    }

    /// Returns whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one with the lowest number.
    pub fn first(self) -> Option<N> {
        self.iter().next()
    }

    /// All of them, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = N> {
        (0..32_u8).filter(move |number| self.0 & bit(*number) != 0).map(N::from)
    }
}

impl<N: Copy + From<u8> + Into<u8>> Extend<N> for UriSet<N> {
    fn extend<I: IntoIterator<Item = N>>(&mut self, uris: I) {
        uris.into_iter().for_each(|uri| self.insert(uri));
    }
}

impl<N: Copy + From<u8> + Into<u8>> FromIterator<N> for UriSet<N> {
    fn from_iter<I: IntoIterator<Item = N>>(uris: I) -> Self {
        let mut all = Self::of_bits(0);
        all.extend(uris);
        all
    }
}

fn bit(number: u8) -> u32 {
    1_u32.checked_shl(u32::from(number)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_uris() {
        let mut uris: UriSet = [31, 3, 0, 3].into_iter().map(UriIndex).collect();
        assert_eq!(uris.iter().collect::<Vec<_>>(), [0, 3, 31].map(UriIndex));
        uris.remove(UriIndex(0));
        uris.remove(UriIndex(7));
        assert_eq!(
            (uris.first(), uris.contains(UriIndex(0)), uris.contains(UriIndex(31))),
            (Some(UriIndex(3)), false, true)
        );
        uris.insert(UriIndex(32));
        uris.insert(UriIndex(255));
        assert_eq!(uris.iter().count(), 2, "another one was taken for a URI beyond the last");
        assert!(!uris.contains(UriIndex(255)) && !uris.is_empty() && UriSet::<UriRank>::default().is_empty());
        assert_eq!(size_of::<UriSet<UriRank>>(), 4);
    }
}
