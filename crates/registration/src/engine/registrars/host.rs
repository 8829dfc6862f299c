//! A host: what its registrars share, whatever their port. A provider counts requests by host.

use super::budget::Budget;
use crate::registration::time::Moment;

/// Host that several registrars may share.
#[derive(Debug)]
pub(super) struct Host {
    pub name: Box<str>,
    pub budget: Budget,
    pub hold_until: Moment,
    pub min_expires_s: u32,
    pub min_expires_until: Moment,
    /// Its registrars.
    pub members: Vec<u32>,
}

impl Host {
    pub fn new(name: &str, rate: Option<f64>, now: Moment) -> Self {
        Self {
            name: name.into(),
            budget: Budget::new(rate, now),
            hold_until: Moment(0),
            min_expires_s: 0,
            min_expires_until: Moment(0),
            members: Vec::new(),
        }
    }

    /// Returns when it may be asked next.
    pub fn opens_at(&mut self, rate: Option<f64>, now: Moment) -> Moment {
        self.budget.token_at(rate, now).max(self.hold_until)
    }
}
