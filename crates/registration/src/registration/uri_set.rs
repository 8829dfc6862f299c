//! A small set of positions of a trunk's URIs.

/// Positions from 0 to 31; what lies beyond is not remembered. Trunks have two or three URIs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UriSet(u32);

impl UriSet {
    /// Adds a position.
    pub fn insert(&mut self, position: u8) {
        self.0 |= bit(position);
    }

    /// Takes a position out.
    pub fn remove(&mut self, position: u8) {
        self.0 &= !bit(position);
    }

    /// Takes all of these out.
    pub fn remove_all(&mut self, others: Self) {
        self.0 &= !others.0;
    }

    /// Returns whether both have a position.
    pub fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Returns whether it has this position.
    pub fn contains(self, position: u8) -> bool {
        self.0 & bit(position) != 0
    }

    /// Returns whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest one.
    pub fn first(self) -> Option<u8> {
        self.iter().next()
    }

    /// All of them, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..32).filter(move |position| self.contains(*position))
    }
}

impl Extend<u8> for UriSet {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, positions: I) {
        positions.into_iter().for_each(|position| self.insert(position));
    }
}

impl FromIterator<u8> for UriSet {
    fn from_iter<I: IntoIterator<Item = u8>>(positions: I) -> Self {
        let mut all = Self::default();
        all.extend(positions);
        all
    }
}

fn bit(position: u8) -> u32 {
    1_u32.checked_shl(u32::from(position)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_positions() {
        let mut positions: UriSet = [31, 3, 0, 3].into_iter().collect();
        assert_eq!(positions.iter().collect::<Vec<_>>(), [0, 3, 31]);
        positions.remove(0);
        positions.remove(7);
        assert_eq!(
            (positions.first(), positions.contains(0), positions.contains(31)),
            (Some(3), false, true)
        );
        positions.insert(32);
        positions.insert(255);
        assert_eq!(positions.iter().count(), 2, "another one was taken for a position beyond the last");
        assert!(!positions.contains(255) && !positions.is_empty() && UriSet::default().is_empty());
    }
}
