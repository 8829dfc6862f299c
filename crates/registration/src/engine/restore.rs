//! A registration as the store kept it: what its record means by this process's clock and configuration.

use std::num::NonZeroU32;

use super::{Engine, packed_trunk::PackedTrunkRef};
use crate::registration::time::MIN_CLOCK_DIFFERENCE_MS;
use crate::{
    model::Record,
    registration::{
        Binding, EdgePortRank, Refusal, Registration, UriRank, backoff,
        outcome::Reason,
        time::{Moment, Now},
    },
};

impl Engine {
    /// Takes what the store kept, after the engine has begun: the store could not be read before, or another
    /// process wrote it. A trunk that nothing was sent for goes on from its record, as does one that the
    /// record knows later numbers of; of any other one the numbers count, and the binding is remembered as
    /// one that may exist. Returns how many registrations go on from there.
    pub fn handle_late_records(&mut self, records: Vec<Record>, now: Now) -> usize {
        let (at_least, read_at) = self.at_least;
        let by_now = if at_least > 0 { at_least.saturating_add(now.at.since(read_at)) } else { 0 };
        self.at_least = (latest_grant(&records).max(by_now), now.at);
        let (mut unlisted, mut taken) = (Vec::new(), 0);
        for record in records {
            for slot in self.slots.deregistering(&record.reference).to_vec() {
                if let Some(entry) = self.slots.get_mut(slot) {
                    entry.registration.raise_cseq(record.cseq);
                }
            }
            let usable = |slot: &u32| self.slots.get(*slot).is_some_and(|e| e.trunk.view().uris() > 0);
            match self.slots.find(&record.reference).filter(usable) {
                Some(slot) => taken += usize::from(self.merge_one(slot, &record, now)),
                None => unlisted.push(record),
            }
        }
        taken += unlisted.len();
        self.restored.extend(unlisted);
        taken
    }

    /// Returns whether the trunk goes on from its record.
    fn merge_one(&mut self, slot: u32, record: &Record, now: Now) -> bool {
        let Some(entry) = self.slots.get_mut(slot) else { return false };
        let registration = &mut entry.registration;
        let cseq = registration.cseq();
        let later = record.cseq > cseq && !registration.in_flight() && record.expires_at_ms > 0;
        if !registration.is_untouched() && !later {
            registration.raise_cseq(record.cseq);
            let (user, host) = record.aor.rsplit_once('@').unwrap_or_default();
            let trunk = entry.trunk.view();
            // It may have expired: a removal that was not needed does no harm.
            if record.expires_at_ms > 0
                && let Some(index) = trunk.index_of(user, host)
            {
                let same = trunk.same_as(index);
                entry.registration.assume_bound(index, same);
            }
            return false;
        }
        let trunk = entry.trunk.clone();
        // Nothing says when the trunk was last edited, so a wait after a refusal does not outlive this.
        let mut resumed = self.resumed(&trunk.view(), record, u32::MAX, now);
        resumed.raise_cseq(cseq);
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.registration = resumed;
        }
        self.slots.mark_dirty(slot);
        self.reschedule(slot, now);
        true
    }

    /// Returns whether a binding expires at another time by this clock than by the one that its record was
    /// written by.
    pub(super) fn expiry_differs(&self, record: &Record, now: Now) -> bool {
        expiry_ms(record, self.at_least, now).abs_diff(record.expires_at_ms) >= MIN_CLOCK_DIFFERENCE_MS
    }

    pub(super) fn resumed(
        &mut self,
        trunk: &PackedTrunkRef<'_>,
        record: &Record,
        updated_at_s: u32,
        now: Now,
    ) -> Registration {
        let index_of = |aor: &str| aor.rsplit_once('@').and_then(|(user, host)| trunk.index_of(user, host));
        let order = trunk.order();
        let binding = index_of(&record.aor).filter(|_| record.expires_at_ms > 0).map(|index| {
            let granted_s = NonZeroU32::new(record.granted_s.min(86_400)).unwrap_or(NonZeroU32::MIN);
            let expires_at = expiry(record, self.at_least, now);
            // Without one that is known a removal goes through the preferred one.
            let edge = self.edge_ports.of_key(&record.edge_port);
            let edge = edge.unwrap_or_else(|| self.edge_ports.prefer(trunk, EdgePortRank::FIRST));
            let rank = order.rank_of(index).unwrap_or_default();
            let binding = Binding { expires_at, granted_s, index, edge, longer: false };
            (binding, rank)
        });
        let bound_at = binding.map(|(binding, _)| binding.index);
        let settings = &self.settings.registration;
        let mut registration = Registration::resume(record.cseq, binding, settings, now.at, &mut self.rng);
        let Some(more) = record.more.as_deref() else { return registration };
        let (at_least, edges) = (self.at_least, &mut self.edge_ports);
        let earlier = more.earlier.iter().filter_map(|earlier| {
            let left = time_left(earlier.expires_at_ms, at_least, now);
            Some(Binding {
                expires_at: now.at.plus(left),
                granted_s: NonZeroU32::new(u32::try_from(left / 1_000).unwrap_or(0))
                    .unwrap_or(NonZeroU32::MIN),
                index: index_of(&earlier.aor)?,
                edge: edges.of_key(&earlier.edge_port)?,
                longer: false,
            })
        });
        registration.resume_earlier(earlier.filter(|binding| binding.expires_at > now.at).collect());
        let mut waits = false;
        for refusal in &more.refusals {
            let Some(index) = index_of(&refusal.aor) else { continue };
            let Some(rank) = order.rank_of(index) else { continue };
            let longest = if refusal.unknown_account {
                backoff::longest_after_rejection(u32::MAX)
            } else {
                backoff::longest_after_rejection(refusal.times.into())
            };
            // An edit that was not seen may have been one of the password, of which nothing is kept. What was
            // edited before the last refusal was refused as it is now.
            let last = refusal.until_ms.saturating_sub(longest).max(refusal.since_ms);
            let edited = u64::from(updated_at_s) * 1_000 > last;
            if edited || trunk.username().unwrap_or_default() != &*refusal.username {
                continue;
            }
            // Another clock may have written it. Nothing lasts longer than its whole wait, from when it was
            // read.
            let longest = longest.saturating_sub(now.at.since(at_least.1));
            let left = time_left(refusal.until_ms, at_least, now).min(longest);
            let refused = Refusal {
                index,
                reason: if refusal.unknown_account {
                    Reason::UnknownAccount
                } else {
                    Reason::CredentialsRejected
                },
                until: now.at.plus(left),
                times: refusal.times.max(1),
                since_unix_ms: refusal.since_ms,
            };
            registration.remember_refusal(rank, refused);
            if !waits && (rank == UriRank::FIRST || bound_at == Some(index)) {
                waits = true;
                registration.resume_refusal(refused, bound_at.is_some_and(|bound| bound != index));
            }
        }
        registration
    }
}

/// The latest time, in Unix milliseconds, at which one of them was granted.
pub(super) fn latest_grant(records: &[Record]) -> u64 {
    let granted_at =
        |record: &Record| record.expires_at_ms.saturating_sub(u64::from(record.granted_s) * 1_000);
    records.iter().map(granted_at).max().unwrap_or(0)
}

/// Milliseconds that are left until a moment of the store's, which may have been written by another clock.
fn time_left(until_ms: u64, (at_least, read_at): (u64, Moment), now: Now) -> u64 {
    until_ms.saturating_sub(now.unix_ms.max(at_least.saturating_add(now.at.since(read_at))))
}

/// Returns when the binding of a record expires. `at_least` is what [`Engine`] has under that name.
fn expiry(record: &Record, (at_least, read_at): (u64, Moment), now: Now) -> Moment {
    // A clock that is behind the one it was written by must not make a binding last longer: rather refreshed
    // early. The trunks may be read long after the cache: the time between counts.
    let unix_ms = now.unix_ms.max(at_least.saturating_add(now.at.since(read_at)));
    let granted_ms = u64::from(record.granted_s.clamp(1, 86_400)) * 1_000;
    let left = record.expires_at_ms.saturating_sub(unix_ms).min(granted_ms);
    let overdue = unix_ms.saturating_sub(record.expires_at_ms);
    now.at.plus(left).minus(overdue)
}

/// The same by this process's wall clock; 0 where there is no binding.
fn expiry_ms(record: &Record, at_least: (u64, Moment), now: Now) -> u64 {
    if record.expires_at_ms == 0 { 0 } else { now.unix_ms_of(expiry(record, at_least, now)) }
}

/// A record as this process would write it.
pub(super) fn by_this_clock(record: &Record, at_least: (u64, Moment), now: Now) -> Record {
    Record { expires_at_ms: expiry_ms(record, at_least, now), ..record.clone() }
}
