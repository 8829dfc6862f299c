//! Misbehaviours of a registrar.

use std::{collections::HashMap, time::Duration};

/// Treatment of a REGISTER.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Treatment by the rules.
    #[default]
    Normal,
    /// 423 with this Min-Expires in seconds to everything that asks for less; otherwise normal.
    TooBrief {
        /// Seconds.
        min_expires: u32,
    },
    /// 503.
    Unavailable {
        /// Retry-After in seconds.
        retry_after: Option<u32>,
    },
    /// 301, 302 or 305 to another place.
    Redirect {
        /// The code.
        code: u16,
        /// Target of the redirection: a SIP URI, such as `sip:127.0.0.1:5062;transport=tcp`.
        contact: String,
        /// The `expires` parameter of the Contact, in seconds.
        expires: Option<u32>,
    },
    /// 420 with all tags of Require in Unsupported; normal where nothing is required.
    BadExtension,
    /// Any final response.
    Code {
        /// 200 to 699.
        code: u16,
        /// The reason phrase.
        phrase: String,
        /// Header fields on top of the usual ones.
        headers: Vec<(String, String)>,
    },
    /// No response at all.
    Silence,
    /// Over TCP the connection is closed without a response; over UDP silence.
    Disconnect,
    /// 100 at once, then after this time what is normal.
    TryingFirst(Duration),
    /// The normal response, but only after this time.
    Delay(Duration),
    /// 200 as normal, but with this `expires` on every Contact, whatever was granted.
    ClaimExpires(i64),
    /// Silence to the request of this number (counted from 1, from when the behaviour was set), normal to all
    /// others.
    DropNth(u64),
}

/// Behaviours that are set, for all users or for one.
#[derive(Default)]
pub(super) struct Rules {
    for_all: Rule,
    users: HashMap<String, Rule>,
}

#[derive(Default)]
struct Rule {
    behaviour: Behaviour,
    seen: u64,
    times: Option<u64>,
}

impl Rules {
    /// Sets the treatment of `user`, or of all that have no behaviour of their own, from now on; for that
    /// many requests, or for good.
    pub(super) fn set(&mut self, user: Option<&str>, behaviour: Behaviour, times: Option<u64>) {
        let rule = Rule { behaviour, seen: 0, times };
        match user {
            Some(user) => {
                self.users.insert(user.to_owned(), rule);
            }
            None => self.for_all = rule,
        }
    }

    /// `user` has no behaviour of its own any more.
    pub(super) fn unset(&mut self, user: &str) {
        self.users.remove(user);
    }

    /// Returns how to treat one request of `user` that has just arrived.
    pub(super) fn next(&mut self, user: &str) -> Behaviour {
        if let Some(behaviour) = self.users.get_mut(user).and_then(Rule::next) {
            return behaviour;
        }
        self.for_all.next().unwrap_or_default()
    }
}

impl Rule {
    /// `None` where the rule is used up.
    fn next(&mut self) -> Option<Behaviour> {
        if self.times.is_some_and(|times| self.seen >= times) {
            return None;
        }
        self.seen += 1;
        Some(match self.behaviour {
            Behaviour::DropNth(nth) if nth == self.seen => Behaviour::Silence,
            Behaviour::DropNth(_) => Behaviour::Normal,
            ref behaviour => behaviour.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_a_user_goes_before_that_for_all_until_it_is_used_up() {
        let mut rules = Rules::default();
        assert_eq!(rules.next("a"), Behaviour::Normal);
        rules.set(None, Behaviour::Silence, None);
        rules.set(Some("a"), Behaviour::BadExtension, Some(2));
        assert_eq!(rules.next("b"), Behaviour::Silence);
        let of_a: Vec<_> = (0..3).map(|_| rules.next("a")).collect();
        assert_eq!(of_a, [Behaviour::BadExtension, Behaviour::BadExtension, Behaviour::Silence]);
        rules.set(Some("a"), Behaviour::Disconnect, None);
        assert_eq!(rules.next("a"), Behaviour::Disconnect);
        rules.unset("a");
        assert_eq!(rules.next("a"), Behaviour::Silence);
    }

    #[test]
    fn the_nth_is_dropped_and_no_other() {
        let mut rules = Rules::default();
        rules.set(Some("a"), Behaviour::DropNth(2), None);
        let of_a: Vec<_> = (0..4).map(|_| rules.next("a")).collect();
        assert_eq!(of_a, [Behaviour::Normal, Behaviour::Silence, Behaviour::Normal, Behaviour::Normal]);
    }
}
