//! A binding does not expire where its path worked from before its refresh was due.

use crate::{checks::Invariant, rules::MINUTE, world::State};

impl State {
    /// Drops expired bindings of the registrars, and checks that each was allowed to expire.
    pub fn drop_expired(&mut self, at: u64) {
        let mut expired = Vec::new();
        for (name, host) in &mut self.hosts {
            for (call, bound) in &host.bindings {
                if bound.expires <= at {
                    expired.push((name.clone(), call.clone(), bound.clone()));
                }
            }
            host.bindings.retain(|_, bound| bound.expires > at);
        }
        let margin = self.slack() + MINUTE;
        for (host, call, bound) in expired {
            let name = self.model.call_name(&self.catalogue, &call);
            self.say(format_args!("{host}: {name} expired at {} ms", bound.expires));
            let Some(known) = self.catalogue.calls.get(&call) else { continue };
            let Some(entry) =
                self.catalogue.entries.get(&known.reference).filter(|_| self.catalogue.wants(&call))
            else {
                continue;
            };
            let elsewhere = self.is_bound(entry, bound.expires);
            let reference = known.reference.clone();
            let lasted = bound.expires.saturating_sub(bound.made);
            let trunk = self.model.trunk(&reference);
            let in_time = trunk.well_since.is_some_and(|well| {
                well + margin <= bound.expires || (well + margin <= bound.made && lasted >= 2 * MINUTE)
            });
            let misled = self.model.calls.get(&call).is_some_and(|call| call.misled_until > bound.expires);
            let trunk = self.model.trunk(&reference);
            let waits = misled || trunk.patience > bound.expires.saturating_sub(margin);
            let well = trunk.well_since;
            // Two places, taken nearly all of the time: refreshes of others, and silent registrars, had them.
            let taken = self.model.taken_ms(bound.made, at);
            let crowded = taken * 4 > lasted * 3 || self.model.was_full(bound.expires, at, self.queue_ms());
            let holds = elsewhere || !in_time || waits || crowded;
            self.check(Invariant::NoBindingExpires, holds, |_| {
                format!(
                    "{name}: made at {}, expired at {}, all well since {well:?}",
                    bound.made, bound.expires
                )
            });
        }
        self.check(Invariant::NoBindingExpires, true, |_| String::new());
    }
}
