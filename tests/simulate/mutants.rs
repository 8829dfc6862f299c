//! Variants of the world and of the ports that are broken on purpose: each invariant's check has to find its
//! own. What the checks believe stays right; what is broken is what they look at.

/// See the module.
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
    /// What stands before a registrar offers each refused password five times.
    Insisting,
    /// The engine is told of another failure than an outage.
    Eager,
    /// A registrar that is back responds to one trunk a minute late.
    SlowReturn,
    /// What is granted is doubled on its way to the engine.
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
    pub const ALL: [(Self, &'static str); 26] = [
        (Self::FrozenNumbers, "CSeq rises"),
        (Self::ForeignIdentity, "identity"),
        (Self::SameTag, "new From tag"),
        (Self::Twice, "one in flight"),
        (Self::Budget, "budget"),
        (Self::Places, "places in flight"),
        (Self::Hammering, "rejected password"),
        (Self::Impatient, "Retry-After"),
        (Self::Early, "refresh window"),
        (Self::Usurper, "one leader"),
        (Self::WrongList, "removal with a reason"),
        (Self::Blackhole, "registered in time"),
        (Self::ShortBindings, "no expire"),
        (Self::LostRemoval, "removed is removed"),
        (Self::DeafStore, "store equals engine"),
        (Self::Leak, "no secret"),
        (Self::Spinning, "wake-ups"),
        (Self::Unfair, "fair"),
        (Self::Insisting, "offers of a refused password"),
        (Self::Eager, "few probes in an outage"),
        (Self::SlowReturn, "back after an outage"),
        (Self::Doubled, "no expiry too long"),
        (Self::WrongContact, "what was bound is removed"),
        (Self::Slandered, "no false refusal"),
        (Self::Contagious, "registered beside calls that fail"),
        (Self::EndIsRestart, "refresh window"),
    ];
}
