//! Redirections: all their targets in order, the next one when one fails, never in a circle (RFC 3261
//! §8.1.3.4).

use super::{
    MAX_REDIRECTS, Priority, Registration, SentTo, backoff,
    outcome::{RedirectLifetime, RedirectOffer},
    time::{Moment, Now},
};
use crate::model::RedirectTarget;
use routr_types::host::{HostPort, Transport};

/// One target of a redirection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    pub to: RedirectTarget,
    /// Holds until then.
    pub until: Moment,
    /// Holds for the request at hand only.
    pub once: bool,
    /// The credentials are not offered there.
    pub without_credentials: bool,
}

/// Target that a registration is redirected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirected<'a> {
    /// Target.
    pub to: &'a RedirectTarget,
    /// Until when the redirection, or the binding that it led to, holds; then the configured registrar is
    /// asked again.
    pub until: Moment,
}

impl Registration {
    /// Follows a redirection to the first of its targets that was not asked yet. Returns whether there is
    /// one.
    pub(super) fn follow(&mut self, from: SentTo<'_>, targets: &[RedirectOffer], now: Now) -> bool {
        let failure = self.failure_mut();
        failure.hops.push((from.address.clone(), from.transport));
        let redirects = targets.iter().filter_map(|offer| redirect(from.transport, offer, now));
        // Those of the last response first: the others are what is left when all of these fail.
        let earlier = std::mem::take(&mut failure.redirects);
        failure.redirects = redirects.chain(earlier).collect();
        self.next_redirect()
    }

    /// Turns to the next target of the redirections of this round. Returns whether there is one.
    fn next_redirect(&mut self) -> bool {
        let failure = self.failure_mut();
        failure.redirect = None;
        while !failure.redirects.is_empty() && failure.hops.len() <= MAX_REDIRECTS {
            let next = failure.redirects.remove(0);
            let hop = (next.to.address.clone(), next.to.transport.unwrap_or(Transport::Udp));
            if failure.hops.contains(&hop) {
                continue;
            }
            failure.redirect = Some(next);
            // Another registrar.
            failure.ask_s = 0;
            return true;
        }
        false
    }

    /// Returns where it is redirected to: where its binding is, or the next attempt goes, because of a
    /// redirection.
    pub fn redirected(&self, now: Moment) -> Option<Redirected<'_>> {
        let failure = self.failure.as_ref()?;
        let binding = self.binding.filter(|binding| binding.expires_at > now);
        let until_binding_ends = binding.map_or(now, |binding| binding.expires_at);
        let followed = failure.redirect.as_ref().filter(|followed| followed.until > now);
        let followed = followed.map(|followed| Redirected {
            to: &followed.to,
            until: if followed.once { until_binding_ends } else { followed.until },
        });
        let bound = failure.bound_redirect.as_ref().filter(|_| binding.is_some());
        followed.or(bound.map(|to| Redirected { to, until: until_binding_ends }))
    }

    /// Notes by which redirection the binding was made. Returns whether that is another one than before.
    pub(super) fn record_redirection(
        &mut self,
        before: Option<&RedirectTarget>,
        to: Option<&RedirectTarget>,
    ) -> bool {
        if let Some(to) = to {
            self.failure_mut().bound_redirect = Some(to.clone());
        } else if let Some(failure) = self.failure.as_mut() {
            failure.bound_redirect = None;
        }
        before != to
    }

    /// Asks the configured registrar first again: which redirections are allowed has changed.
    pub fn forget_redirections(&mut self) {
        if let Some(failure) = self.failure.as_mut() {
            (failure.redirect, failure.redirects) = (None, Vec::new());
        }
    }

    /// The target of a redirection failed: the next one, if there is one, after `pause_ms`. Returns whether
    /// there is one.
    pub(super) fn next_redirect_after(&mut self, from: SentTo<'_>, pause_ms: u64, now: Now) -> bool {
        let Some(failure) = self.failure.as_mut().filter(|failure| failure.redirect.is_some()) else {
            return false;
        };
        failure.hops.push((from.address.clone(), from.transport));
        let found = self.next_redirect();
        if found {
            self.class =
                if self.remaining_ms(now.at).is_some() { Priority::Refresh } else { Priority::Retry };
            self.due = now.at.plus(pause_ms);
        }
        found
    }
}

/// A target as it is to be asked; `None` where that would leave TLS: `sips:` must not (RFC 3261 §26.2.2).
fn redirect(from: Transport, offer: &RedirectOffer, now: Now) -> Option<Redirect> {
    let RedirectOffer { to, hold, without_credentials } = offer;
    let transport = to.transport.unwrap_or(from);
    if from.is_secure() && !transport.is_secure() {
        return None;
    }
    // Without a port it is that of the transport, and no one speaks TLS where UDP is expected.
    let port = match (to.transport, to.address.port) {
        (None, port) if port == Transport::Udp.default_port() => transport.default_port(),
        (_, port) => port,
    };
    let to = RedirectTarget { address: HostPort { port, ..to.address.clone() }, transport: Some(transport) };
    let until = match hold {
        RedirectLifetime::Seconds(seconds) => now.at.plus(u64::from(*seconds) * backoff::SECOND_MS),
        RedirectLifetime::Once => Moment::NEVER,
    };
    let (once, without_credentials) = (*hold == RedirectLifetime::Once, *without_credentials);
    Some(Redirect { to, until, once, without_credentials })
}
