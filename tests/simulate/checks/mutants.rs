//! Mutants: worlds and ports that are wrong on purpose. Each invariant's check must find its own. What the
//! checks believe stays right; what they inspect is wrong.

use crate::checks::Invariant;

/// A world or a port that is wrong on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    #[default]
    Nothing,
    /// Numbers stand still: each request goes out with the number of the first.
    FrozenNumbers,
    /// Requests go out under a foreign Call-ID.
    ForeignIdentity,
    /// A constant From tag.
    SameTag,
    /// A call that is open is opened a second time.
    Twice,
    /// The engine has four times the budget.
    Budget,
    /// The engine may have more in flight than it should.
    Places,
    /// The engine is told of another failure when its password is refused.
    Hammering,
    /// Retry-After is taken out of the replies.
    Impatient,
    /// The engine believes in a shorter interval between its syncs, and in a lead of its own.
    Early,
    /// The right to send outlives the lease.
    Usurper,
    /// Listings are empty now and then, twice in a row.
    WrongList,
    /// A trunk never reaches its registrar, though nothing is said to be wrong.
    Blackhole,
    /// The registrar holds bindings for less than it says.
    ShortBindings,
    /// Removals are said to be done and are not.
    LostRemoval,
    /// The store forgets what it is given.
    DeafStore,
    /// A password is logged.
    Leak,
    /// The link to the Requester flaps a thousand times a second.
    Spinning,
    /// REGISTERs for one registrar are kept waiting.
    Unfair,
    /// The server in front of a registrar offers each refused password five times.
    Insisting,
    /// The engine is told of another failure than an outage.
    Eager,
    /// A registrar that is back responds to one trunk a minute late.
    SlowReturn,
    /// The granted time is doubled on its way to the engine.
    Doubled,
    /// Removals go through another EdgePort.
    WrongContact,
    /// The engine is told that credentials were refused that were never sent.
    Slandered,
    /// A call that fails for its trunk alone is told to the engine as a Requester that cannot be reached.
    Contagious,
    /// Connections that end in order count as a restart of the Requester.
    EndIsRestart,
}

impl Mutant {
    /// All that are broken, each with the invariant whose check has to find it.
    pub const ALL: [(Self, Invariant); 26] = [
        (Self::FrozenNumbers, Invariant::CseqRises),
        (Self::ForeignIdentity, Invariant::Identity),
        (Self::SameTag, Invariant::NewFromTag),
        (Self::Twice, Invariant::OneInFlight),
        (Self::Budget, Invariant::Budget),
        (Self::Places, Invariant::PlacesInFlight),
        (Self::Hammering, Invariant::RejectedPassword),
        (Self::Impatient, Invariant::RetryAfter),
        (Self::Early, Invariant::RefreshWindow),
        (Self::Usurper, Invariant::OneLeader),
        (Self::WrongList, Invariant::RemovalWithAReason),
        (Self::Blackhole, Invariant::RegisteredInTime),
        (Self::ShortBindings, Invariant::NoBindingExpires),
        (Self::LostRemoval, Invariant::RemovedIsRemoved),
        (Self::DeafStore, Invariant::StoreEqualsEngine),
        (Self::Leak, Invariant::NoSecret),
        (Self::Spinning, Invariant::WakeUps),
        (Self::Unfair, Invariant::Fair),
        (Self::Insisting, Invariant::OffersOfARefusedPassword),
        (Self::Eager, Invariant::FewProbesInAnOutage),
        (Self::SlowReturn, Invariant::BackAfterAnOutage),
        (Self::Doubled, Invariant::NoExpiryTooLong),
        (Self::WrongContact, Invariant::WhatWasBoundIsRemoved),
        (Self::Slandered, Invariant::NoFalseRefusal),
        (Self::Contagious, Invariant::RegisteredBesideFailingCalls),
        (Self::EndIsRestart, Invariant::RefreshWindow),
    ];
}
