//! Events from elsewhere than a registrar: an edit of the trunk, other settings, commands, the passing of
//! time.

use rand::Rng;

use super::{
    Binding, Phase, Priority, Registration, Settings, TargetRanks, UriIndex, UriRank,
    outcome::{Failure, Reason},
    refresh,
    state::TrunkState,
    time::Moment,
};

impl Registration {
    /// The trunk changed, and has `uris` URIs now: everything learnt about it is void but refusals, and it
    /// registers at once, unless what was refused (user, password, registrar) is what would be offered again.
    /// `locate` tells where the URI of an index is now, `keeps` the same with its rank where the account
    /// there is still the same. Bindings, and what may be bound, where the trunk has no URI any more are
    /// another registration's to remove ([`Registration::removal`], [`Registration::orphans`]).
    pub fn changed(
        &mut self,
        locate: impl Fn(UriIndex) -> Option<UriIndex>,
        keeps: impl Fn(UriIndex) -> Option<(UriIndex, UriRank)>,
        uris: u8,
        now: Moment,
    ) {
        self.unconfirmed = self.unconfirmed.iter().filter_map(&locate).collect();
        let moved = |binding: Binding| Some(Binding { index: locate(binding.index)?, ..binding });
        self.binding = self.binding.filter(|binding| binding.may_still_exist(now)).and_then(moved);
        let mut same_account = false;
        if let Some(failure) = self.failure.as_mut() {
            failure.earlier = failure.earlier.drain(..).filter_map(moved).collect();
            failure.refused_uris.changed(&keeps);
            // Nor does silence of a registrar that is offered the same as before begin again.
            let silent = failure.silent.drain(..);
            failure.silent = silent.filter_map(|(at, since)| Some((keeps(at)?.0, since))).collect();
            same_account =
                failure.refused_at.and_then(&keeps).is_some_and(|(_, rank)| rank == UriRank::FIRST);
            failure.refused_at = failure.refused_at.and_then(&locate);
        }
        self.without_tags = 0;
        let refused = self.failure.as_ref().is_some_and(|failure| failure.rejections > 0);
        if same_account && refused && (self.flight.is_some() || self.due > now) {
            (self.target, self.probe_next) = (TargetRanks::PREFERRED, false);
            return;
        }
        (self.failures, self.backed_off) = (0, 0);
        self.outdated = self.flight.is_some();
        self.start_over(now);
        self.pass_over_refused(uris, now);
    }

    pub(super) fn start_over(&mut self, now: Moment) {
        (self.target, self.probe_next) = (TargetRanks::PREFERRED, false);
        if let Some(failure) = self.failure.as_mut() {
            failure.keep_only_reason();
        }
        self.class = if self.remaining_ms(now).is_some() { Priority::Refresh } else { Priority::Retry };
        self.due = now;
    }

    /// Forgets which option tags to leave out: their list is another one.
    pub fn forget_tags(&mut self) {
        self.without_tags = 0;
    }

    /// Registers at once, because a person asks for it.
    pub fn refresh_now(&mut self, now: Moment) {
        if self.phase == Phase::Active && self.flight.is_none() {
            self.class = Priority::Refresh;
            self.due = now;
            self.probe_next = false;
        }
    }

    /// The Contact of the Requester may have changed: a valid binding is refreshed early, spread over a
    /// quarter of what is left of it.
    pub fn refresh_early(&mut self, now: Moment, rng: &mut impl Rng) {
        // What is in flight may still bind the old one.
        self.early = self.flight.is_some() && self.phase == Phase::Active;
        // What is in trouble waits for a reason: refused credentials, or a registrar that asked for time.
        let asked =
            self.failure.as_ref().is_some_and(|failure| failure.retry_after_until(self.target.uri) > now);
        if self.cause().is_some() || asked {
            return;
        }
        if let (Phase::Active, None, Some(left)) = (self.phase, self.flight, self.remaining_ms(now)) {
            let early = refresh::early_refresh(left, now, rng);
            if early < self.due {
                self.due = early;
                self.class = Priority::Refresh;
                self.probe_next = false;
            }
        }
    }

    /// Settings changed: the refresh of a registered trunk moves to its new time.
    pub fn reschedule(&mut self, settings: &Settings, now: Moment, rng: &mut impl Rng) {
        let waits = self.flight.is_none() && self.state(now) == TrunkState::Registered && self.due > now;
        if let (true, false, Some(binding)) = (waits, self.probe_next, self.binding) {
            self.due = refresh(&binding, settings, now, rng);
        }
    }

    /// The binding expired while its refresh was waiting for its turn, or for what is named.
    pub fn expired_while_waiting(&mut self, waiting_for: Option<&str>, unix_ms: u64) {
        if self.cause().is_none() {
            let message = match waiting_for {
                Some(what) => format!("the binding expired while its refresh waited for {what}"),
                None => "the binding expired before its refresh got a response".to_owned(),
            };
            let message = message.into();
            self.failure_mut()
                .record_failure(Failure { reason: Reason::BindingExpired, code: None, message }, unix_ms);
        }
    }

    /// Not before that moment, for a reason that lies outside the registration.
    pub fn defer(&mut self, until: Moment) {
        self.due = self.due.max(until);
    }

    /// There is no time, or no way, for the probe that is next: the binding is refreshed as if there had been
    /// none.
    pub fn skip_probe(&mut self, settings: &Settings, now: Moment, rng: &mut impl Rng) {
        if let (true, Some(binding)) = (std::mem::take(&mut self.probe_next), self.binding) {
            self.due = refresh(&binding, settings, now, rng);
        }
    }
}
