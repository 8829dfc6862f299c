//! The calls under way.

use tokio::task::AbortHandle;

use routr_registration::engine::Ticket;

/// The tasks of the REGISTERs in flight, by ticket. Dropped, it ends them.
///
/// One token for all of them would be a lock that each of them takes with each poll.
#[derive(Debug, Default)]
pub(super) struct InFlightTasks(Vec<Option<AbortHandle>>);

impl InFlightTasks {
    /// A REGISTER is sent by this task from now on. Tickets are used again, so there are no more places than
    /// there were ever calls at the same time.
    pub fn began(&mut self, ticket: Ticket, task: AbortHandle) {
        if self.0.len() <= ticket {
            self.0.resize_with(ticket + 1, || None);
        }
        self.0[ticket] = Some(task);
    }

    /// Records that the REGISTER has ended.
    pub fn ended(&mut self, ticket: Ticket) {
        if let Some(place) = self.0.get_mut(ticket) {
            *place = None;
        }
    }

    /// Ends all of them; no one learns what becomes of them.
    pub fn end(&mut self) {
        for task in self.0.drain(..).flatten() {
            task.abort();
        }
    }
}

impl Drop for InFlightTasks {
    fn drop(&mut self) {
        self.end();
    }
}
