//! Contacts that a registrar's 200 lists: those that it holds for an address of record, in the ways of the
//! field.

use rand::{RngExt, rngs::SmallRng};
use routr_registration::model::RegisterResponse;
use routr_types::extension::ReportedBinding;

use crate::registrar::{Bound, code};

/// Way in which a registrar lists Contacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listing {
    /// All that it holds, as they were sent; older ones first.
    #[default]
    AsSent,
    /// Another device's binding first, which has that many seconds left at most.
    OtherDeviceFirst(u32),
    /// Each Contact rewritten: none looks like what was sent.
    Rewritten,
    /// Another device's binding first, and ours rewritten.
    OtherDeviceFirstRewritten(u32),
    /// One that is being removed first, with `expires=0`.
    RemovedFirst,
    /// No `expires` in the Contact; an Expires header field.
    InHeader,
}

impl Listing {
    /// Draws one. `tells_all`: the Requester hands over all Contacts, so that a first one with `expires=0`
    /// does no harm. `short`: the registrar grants little, so that a Requester which hands over the first
    /// Contact alone would mislead for good.
    pub fn draw(rng: &mut SmallRng, tells_all: bool, short: bool) -> Self {
        let seconds = [45, 300, 3_600][rng.random_range(0..if short && !tells_all { 2 } else { 3 })];
        match rng.random_range(0..12) {
            0 => Self::OtherDeviceFirst(seconds),
            1 => Self::Rewritten,
            2 => Self::OtherDeviceFirstRewritten(seconds),
            3 if tells_all => Self::RemovedFirst,
            4 => Self::InHeader,
            _ => Self::AsSent,
        }
    }

    /// The 200 that lists `bound` as of `at`, where `granted` seconds are granted to it.
    pub fn response(self, bound: &Bound, granted: u32, at: u64) -> RegisterResponse {
        let binding = |expires: u32, own: bool| ReportedBinding { expires: Some(expires), own };
        let left = |expires_at: u64| u32::try_from(expires_at.saturating_sub(at) / 1_000).unwrap_or(0);
        let rewritten = matches!(self, Self::Rewritten | Self::OtherDeviceFirstRewritten(_));
        let mut bindings = match self {
            // It registers again and again, as we do.
            Self::OtherDeviceFirst(seconds) | Self::OtherDeviceFirstRewritten(seconds) => {
                let elapsed = u32::try_from(at / 1_000 % (u64::from(seconds) / 2 + 1)).unwrap_or(0);
                vec![binding(seconds - elapsed, false)]
            }
            Self::RemovedFirst => vec![binding(0, false)],
            _ => Vec::new(),
        };
        bindings.extend(bound.older.iter().map(|(_, expires_at)| binding(left(*expires_at), false)));
        bindings.push(binding(granted, !rewritten));
        let number = |seconds: u32| i32::try_from(seconds).ok();
        let first = bindings.first().and_then(|first| first.expires).and_then(number);
        let (contact_expires, expires) = match self {
            Self::InHeader => (None, number(granted)),
            _ => (first, None),
        };
        RegisterResponse { contact_expires, expires, bindings, ..code(200) }
    }
}
