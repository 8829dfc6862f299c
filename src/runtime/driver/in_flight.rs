//! The REGISTERs in flight: each is a task of its own until its response.

use std::time::Duration;

use tokio::{sync::mpsc, task::AbortHandle};
use tracing::Instrument as _;

use super::Driver;
use crate::runtime::ports::{Observer, Requester, Store, TrunkSource};
use routr_registration::{
    engine::Ticket,
    model::{RegisterResponse, SendError},
};

/// Responses that are handled in one turn.
const MAX_RESPONSES_PER_TURN: usize = 512;

/// A REGISTER that has ended.
pub(super) type Completion = Box<(Ticket, Result<RegisterResponse, SendError>)>;

/// The REGISTERs that have ended and that the loop has not handled yet.
///
/// The channel is made for the first REGISTER: thousands of registries never send one.
#[derive(Debug, Default)]
pub(super) struct Completions(
    Option<(mpsc::UnboundedSender<Completion>, mpsc::UnboundedReceiver<Completion>)>,
);

impl Completions {
    fn sender(&mut self) -> mpsc::UnboundedSender<Completion> {
        self.0.get_or_insert_with(mpsc::unbounded_channel).0.clone()
    }

    /// Waits for the first, and takes all that are there, up to the limit for one turn.
    pub(super) async fn next(&mut self) -> Vec<Completion> {
        let Some((_, receiver)) = &mut self.0 else { return std::future::pending().await };
        let mut completions = Vec::new();
        receiver.recv_many(&mut completions, MAX_RESPONSES_PER_TURN).await;
        completions
    }

    /// Takes those that are there, up to the limit for one turn.
    fn ready(&mut self) -> Vec<Completion> {
        let Some((_, receiver)) = &mut self.0 else { return Vec::new() };
        let waiting = receiver.len().min(MAX_RESPONSES_PER_TURN);
        (0..waiting).map_while(|_| receiver.try_recv().ok()).collect()
    }
}

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

impl<S: TrunkSource, R: Requester, T: Store, O: Observer> Driver<S, R, T, O> {
    /// Sends all REGISTERs that the engine wants sent now.
    pub(super) fn transmit_due(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit(self.clock.now()) {
            let (requester, completions) = (self.ports.requester.clone(), self.completions.sender());
            if let Some(late) = transmit.late_ms {
                self.observer.refresh_sent(seconds(late));
            }
            let call = Box::pin(async move {
                let deadline = Duration::from_millis(transmit.deadline_ms);
                let result = requester.register(transmit.register, deadline).await;
                // No one is there to hear it only after the end.
                let _ = completions.send(Box::new((transmit.ticket, result)));
            });
            // Its lines are this registry's.
            let call = tokio::spawn(call.in_current_span());
            self.in_flight.began(transmit.ticket, call.abort_handle());
        }
    }

    /// Handles the responses that are there, without waiting for more.
    pub(super) fn handle_ready_responses(&mut self) {
        let completions = self.completions.ready();
        self.handle_responses(completions);
    }

    pub(super) fn handle_responses(&mut self, completions: Vec<Completion>) {
        for completion in completions {
            let (ticket, result) = *completion;
            self.in_flight.ended(ticket);
            self.has_responded |= result.is_ok();
            if let Some(finished) = self.engine.handle_response(ticket, &result, self.clock.now()) {
                self.observer.register_finished(
                    &finished.registrar,
                    finished.outcome,
                    seconds(finished.took_ms),
                );
            }
        }
    }
}

#[allow(clippy::cast_precision_loss)] // Far below 2^53.
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}
