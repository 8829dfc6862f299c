//! No line of a history holds a password, and nothing that can be shown of an engine.

use crate::{checks::Invariant, history::SECRET, world::State};

impl State {
    /// Checks the lines since the last call.
    pub fn check_no_leak(&mut self) {
        let leak = self.history.leaks.pop();
        self.check(Invariant::NoSecret, leak.is_none(), |_| {
            "a line of the history holds a password, see above".to_owned()
        });
    }

    /// Checks what is shown of an engine.
    pub fn check_shown(&mut self, shown: &str) {
        let discreet = !shown.contains(SECRET);
        self.check(Invariant::NoSecret, discreet, |_| "the engine shows a password".to_owned());
    }
}
