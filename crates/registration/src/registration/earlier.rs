//! Bindings made before the current one, elsewhere: they stay until they expire, and are removed with the
//! trunk.

use super::{Binding, Registration, SentTo, UriIndex, time::Moment};

/// Bindings beside the current one that are remembered.
const MAX_EARLIER_BINDINGS: usize = 4;

impl Registration {
    /// Bindings beside the current one that are still valid, at URIs of which `locate` says that the trunk
    /// has them no more.
    pub fn orphans(&self, locate: impl Fn(UriIndex) -> Option<UriIndex>, now: Moment) -> Vec<Binding> {
        let earlier = self.failure.as_ref().map_or(&[][..], |failure| &failure.earlier);
        let valid = earlier.iter().filter(|binding| binding.expires_at > now);
        valid.filter(|binding| locate(binding.index).is_none()).copied().collect()
    }

    /// Bindings that were made before the current one, elsewhere, and may still be valid.
    pub fn earlier_bindings(&self) -> &[Binding] {
        self.failure.as_ref().map_or(&[], |failure| &failure.earlier)
    }

    /// Takes over what is known of bindings at other places ([`Registration::earlier_bindings`]).
    pub fn resume_earlier(&mut self, bindings: Vec<Binding>) {
        if !bindings.is_empty() {
            self.failure_mut().earlier = bindings;
        }
    }

    /// Remembers what was bound elsewhere, until it expires: another URI, or another EdgePort and so another
    /// Contact.
    pub(super) fn record_earlier(&mut self, new: Binding, sent: SentTo<'_>) {
        let same_contact = |held: &Binding| {
            held.edge == new.edge && (held.index == new.index || sent.same.contains(held.index))
        };
        let before = self.binding.filter(|held| held.expires_at > sent.at && !same_contact(held));
        if before.is_none() && self.earlier_bindings().is_empty() {
            return;
        }
        let earlier = &mut self.failure_mut().earlier;
        earlier.retain(|held| held.expires_at > sent.at && !same_contact(held));
        if let Some(before) = before {
            earlier.retain(|held| (held.edge, held.index) != (before.edge, before.index));
            // The oldest ones expire first.
            if earlier.len() >= MAX_EARLIER_BINDINGS {
                earlier.remove(0);
            }
            earlier.push(before);
        }
    }
}
