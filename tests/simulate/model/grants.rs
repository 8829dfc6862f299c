//! Grant of a 200, as a reader of the specification has it.

use routr_registration::model::RegisterResponse;

use crate::{model::Grant, rules::SECOND};

/// An expiry is that of another binding if it differs from what is left of that by no more than this, in
/// seconds.
pub const SAME_EXPIRY: u64 = 2;

/// The longest expiry that is believed, in seconds; and the same of what is longer than the configured one,
/// which a 423 wanted: a registrar may reject nothing that lasts an hour (RFC 3261 §10.3), and a forged 423
/// must not have a registration looked after once a day.
pub const MAX_EXPIRES: u32 = 86_400;

pub const MAX_WANTED: u32 = 3_600;

/// The longest expiry that is believed where so much was asked, in seconds.
pub fn longest(asked: u32, configured: u32) -> u32 {
    if asked > configured { configured.max(MAX_WANTED) } else { MAX_EXPIRES }
}

/// Grant of a 2xx, as a reader of the specification has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// `None`: nothing.
    pub seconds: Option<u32>,
    /// The most that a reader may come to.
    pub most: u32,
    /// Not every reader comes to the same.
    pub unsure: bool,
    /// It depends on a second more or less.
    pub border: bool,
}

/// Reads what is granted: never more than what was asked, or `longest`. `held` is the grant of before, if it
/// is certain.
pub fn granted(
    reply: &RegisterResponse,
    (asked, longest): (u32, u32),
    held: Option<&Grant>,
    certain: bool,
    (sent, at): (u64, u64),
) -> Granted {
    let sure = |seconds: Option<u32>| {
        let seconds = seconds.filter(|seconds| *seconds > 0).map(|seconds| seconds.min(asked).min(longest));
        Granted { seconds, most: seconds.unwrap_or(0), unsure: false, border: false }
    };
    if asked == 0 {
        return Granted { seconds: Some(0), most: 0, unsure: false, border: false };
    }
    if let Some(own) = reply.bindings.iter().find(|binding| binding.own) {
        return sure(own.expires.or(Some(asked)));
    }
    let listed: Vec<u32> = if reply.bindings.is_empty() {
        let said =
            reply.contact_expires.filter(|seconds| *seconds > 0).or(reply.expires).or(reply.contact_expires);
        let Some(said) = said else { return sure(Some(asked)) };
        u32::try_from(said).into_iter().filter(|seconds| *seconds > 0).collect()
    } else {
        reply.bindings.iter().filter_map(|binding| binding.expires).filter(|seconds| *seconds > 0).collect()
    };
    let Some(least) = listed.iter().copied().min() else { return sure(None) };
    // What is granted in full is no remainder of anything.
    if !certain && least < asked {
        // It may look like what is left of the binding before: then the last grant is kept.
        let before = held.map_or(0, |held| u32::try_from(held.granted_ms / SECOND).unwrap_or(asked));
        let most = listed.iter().copied().max().unwrap_or(0).max(before).min(asked);
        return Granted { unsure: true, border: true, most, ..sure(Some(least)) };
    }
    // What was left of it is somewhere between the two; further off by so much, it is another one.
    let left = |held: &Grant, at: u64| (held.sent + held.granted_ms).saturating_sub(at) / SECOND;
    let apart = |held: &Grant| {
        let (shortest, longest) = (left(held, at), left(held, sent));
        let least = u64::from(least);
        shortest.saturating_sub(least).max(least.saturating_sub(longest))
    };
    match (held, held.map(apart)) {
        (Some(held), Some(apart)) if apart <= SAME_EXPIRY + 2 => {
            let before = u32::try_from(held.granted_ms / SECOND).unwrap_or(asked);
            let border = apart + 1 >= SAME_EXPIRY;
            let seconds = if apart <= SAME_EXPIRY { before } else { least };
            // Of several, the next one may count.
            let next = listed.iter().copied().filter(|other| *other != least).min().unwrap_or(0);
            let unsure = border || next > 0 || before != least;
            // A reader who is off by a second takes it for the one of before.
            let other = if border { before } else { 0 };
            Granted { unsure, border, most: seconds.max(next).max(other).min(asked), ..sure(Some(seconds)) }
        }
        _ => sure(Some(least)),
    }
}
