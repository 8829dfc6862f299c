//! No line of a history holds a password.

use crate::{checks::Invariant, world::State};

impl State {
    /// Checks the lines since the last call.
    pub fn check_no_leak(&mut self) {
        let leak = self.history.leaks.pop();
        self.check(Invariant::NoSecret, leak.is_none(), |_| {
            "a line of the history holds a password, see above".to_owned()
        });
    }
}
