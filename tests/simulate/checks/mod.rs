//! Invariants: what must hold in every world, a file for each. A check says what must hold unless the world
//! has an excuse, which is a fact of the world and never a statement of the engine. [`mutants`] has a world
//! for each check that it must find wrong.

use routr_registration::model::RegisterRequest;

use crate::{
    runs,
    world::{State, Violation},
};

pub mod after_responses;
pub mod all_deregistered;
pub mod at_the_end;
pub mod back_after_an_outage;
pub mod budget;
pub mod cseq_rises;
pub mod fair;
pub mod few_probes_in_an_outage;
pub mod identity;
pub mod mutants;
pub mod new_from_tag;
pub mod no_binding_expires;
pub mod no_expiry_too_long;
pub mod no_false_refusal;
pub mod no_panic;
pub mod no_secret;
pub mod nothing_outlives_its_engine;
pub mod offers_of_a_refused_password;
pub mod one_in_flight;
pub mod one_leader;
pub mod places_in_flight;
pub mod refresh_window;
pub mod registered_beside_failing_calls;
pub mod registered_in_time;
pub mod registered_once;
pub mod rejected_password;
pub mod removal_with_a_reason;
pub mod removed_is_removed;
pub mod retry_after;
pub mod store_equals_engine;
pub mod views_are_true;
pub mod wake_ups;
pub mod what_was_bound_is_removed;

/// Every invariant of a world; the file of the same name checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    Identity,
    CseqRises,
    NewFromTag,
    OneInFlight,
    OneLeader,
    PlacesInFlight,
    Budget,
    RetryAfter,
    RejectedPassword,
    RefreshWindow,
    RemovalWithAReason,
    WhatWasBoundIsRemoved,
    NoFalseRefusal,
    NoExpiryTooLong,
    OffersOfARefusedPassword,
    Fair,
    FewProbesInAnOutage,
    BackAfterAnOutage,
    RegisteredInTime,
    RegisteredBesideFailingCalls,
    NoBindingExpires,
    RemovedIsRemoved,
    WakeUps,
    RegisteredOnce,
    ViewsAreTrue,
    StoreEqualsEngine,
    AllDeregistered,
    NoSecret,
    NothingOutlivesItsEngine,
    NoPanic,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::Identity,
        Self::CseqRises,
        Self::NewFromTag,
        Self::OneInFlight,
        Self::OneLeader,
        Self::PlacesInFlight,
        Self::Budget,
        Self::RetryAfter,
        Self::RejectedPassword,
        Self::RefreshWindow,
        Self::RemovalWithAReason,
        Self::WhatWasBoundIsRemoved,
        Self::NoFalseRefusal,
        Self::NoExpiryTooLong,
        Self::OffersOfARefusedPassword,
        Self::Fair,
        Self::FewProbesInAnOutage,
        Self::BackAfterAnOutage,
        Self::RegisteredInTime,
        Self::RegisteredBesideFailingCalls,
        Self::NoBindingExpires,
        Self::RemovedIsRemoved,
        Self::WakeUps,
        Self::RegisteredOnce,
        Self::ViewsAreTrue,
        Self::StoreEqualsEngine,
        Self::AllDeregistered,
        Self::NoSecret,
        Self::NothingOutlivesItsEngine,
        Self::NoPanic,
    ];

    /// The name in the table, in histories and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::CseqRises => "CSeq rises",
            Self::NewFromTag => "new From tag",
            Self::OneInFlight => "one in flight",
            Self::OneLeader => "one leader",
            Self::PlacesInFlight => "places in flight",
            Self::Budget => "budget",
            Self::RetryAfter => "Retry-After",
            Self::RejectedPassword => "rejected password",
            Self::RefreshWindow => "refresh window",
            Self::RemovalWithAReason => "removal with a reason",
            Self::WhatWasBoundIsRemoved => "what was bound is removed",
            Self::NoFalseRefusal => "no false refusal",
            Self::NoExpiryTooLong => "no expiry too long",
            Self::OffersOfARefusedPassword => "offers of a refused password",
            Self::Fair => "fair",
            Self::FewProbesInAnOutage => "few probes in an outage",
            Self::BackAfterAnOutage => "back after an outage",
            Self::RegisteredInTime => "registered in time",
            Self::RegisteredBesideFailingCalls => "registered beside calls that fail",
            Self::NoBindingExpires => "no binding expires",
            Self::RemovedIsRemoved => "removed is removed",
            Self::WakeUps => "wake-ups",
            Self::RegisteredOnce => "registered once",
            Self::ViewsAreTrue => "views are true",
            Self::StoreEqualsEngine => "store equals engine",
            Self::AllDeregistered => "all deregistered",
            Self::NoSecret => "no secret",
            Self::NothingOutlivesItsEngine => "nothing outlives its engine",
            Self::NoPanic => "no panic",
        }
    }
}

impl State {
    /// Counts a check of an invariant, and records a violation where it does not hold; `explain` says what is
    /// wrong.
    pub fn check(&mut self, invariant: Invariant, holds: bool, explain: impl FnOnce(&Self) -> String) {
        let name = invariant.name();
        *self.tally.checks.entry(name).or_default() += 1;
        if !holds && self.violations.len() < 20 && !runs::is_left_out(name) {
            let what = explain(self);
            self.say(format_args!("BROKEN «{name}»: {what}"));
            self.violations.push(Violation { invariant, what });
        }
    }

    /// The checks of a REGISTER as it leaves a process.
    pub fn check_register(&mut self, run: u32, name: &str, request: &RegisterRequest, at: u64) {
        self.check_identity(name, request);
        self.check_cseq(name, request);
        self.check_from_tag(name, request);
        self.check_one_in_flight(run, name, request);
        self.check_one_leader(run, name);
        self.check_places(run, name);
        self.check_budget(run, name, request, at);
        let reference = self.reference(&request.call_id);
        self.check_few_probes(run, name, request, &reference, at);
        self.fair_sent(run, &request.target.host, &request.call_id, at);
        if request.expires == 0 {
            self.check_removal(run, name, request, &reference, at);
            self.check_contact(run, name, request);
        } else {
            self.check_retry_after(run, name, request, &reference, at);
            self.check_rejected_password(name, request, &reference, at);
            self.check_refresh_window(run, name, request, &reference, at);
        }
    }

    /// The checks of each minute.
    pub fn check_each_minute(&mut self) {
        self.tick += 1;
        self.update_model();
        let at = self.now();
        self.check_registered(at);
        self.check_removed(at);
        self.check_returns(at);
        self.check_all_fair(at);
        self.check_wakeups();
        self.check_no_leak();
    }
}
