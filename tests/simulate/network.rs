//! The Requester as an engine sees it: what it is like, and what becomes of a call. [`crate::travel`] has
//! what a request meets.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use routr_registration::model::{Link, RegisterRequest, RegisterResponse, SendError};
use routr_registry::runtime::ports::Requester;
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    checks::{after_responses::recheck_later, mutants::Mutant},
    registrar::code,
    travel::travel,
    world::{State, World},
};

/// Fault of an EdgePort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeFault {
    /// It takes what is sent, and nothing comes back.
    Dead,
    /// It takes no connection.
    Refuses,
    /// Its name does not resolve.
    Unknown,
}

/// State of the Requester.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    Up,
    /// Takes so many at a time, half a second each, as the Java one does.
    Slots(Vec<u64>),
    Down,
    /// Answers with a gRPC error.
    Refusing,
    /// Takes requests, sends some of them, and never answers.
    Hanging,
    /// Takes so many milliseconds for each.
    Slow(u64),
}

/// The Requester of a world.
pub struct RequesterState {
    pub mode: Mode,
    pub home: Mode,
    /// Cancelled when all its connections break.
    pub connections: CancellationToken,
    /// EdgePorts that have a fault, and which.
    pub dead_edges: Vec<(String, EdgeFault)>,
    /// Number of times that the Requester was started again: Routr's Java one writes another port into the
    /// Contact each time.
    pub restarts: u32,
    /// EdgePorts that gave way to others.
    pub replaced: u32,
}

impl RequesterState {
    pub fn new(home: Mode) -> Self {
        let connections = CancellationToken::new();
        Self { mode: home.clone(), home, connections, dead_edges: Vec::new(), restarts: 0, replaced: 0 }
    }

    /// Returns the fault of an EdgePort, if it has one.
    pub fn edge_fault(&self, host: &str) -> Option<EdgeFault> {
        self.dead_edges.iter().find(|(name, _)| name == host).map(|(_, fault)| *fault)
    }
}

/// Fate of one call.
enum Fate {
    /// It fails after so many milliseconds; the request may go out nevertheless.
    Fails(u64, SendError, bool),
    Hangs(bool),
    /// Its connection hangs, until that is replaced.
    Stuck(CancellationToken, bool),
    Goes,
}

impl State {
    fn fate(&mut self, reference: &str) -> Fate {
        let goes = self.rng.random_bool(0.5);
        if matches!(self.requester.mode, Mode::Up | Mode::Slots(_) | Mode::Slow(_)) {
            // With a Requester that does not say which binding is ours, no one could know of the one that was
            // made.
            let goes = goes && self.rules.field.is_some_and(|field| field.is_ours());
            if let Some(error) = self.call_failure(reference) {
                // What is refused goes nowhere.
                let sent_on = matches!(error, SendError::Failed(_) | SendError::Disconnected { .. });
                return Fate::Fails(3, error, goes && sent_on);
            }
            if let Some(hung) = self.next_connection_hangs() {
                return Fate::Stuck(hung, goes);
            }
        }
        match &self.requester.mode {
            Mode::Up | Mode::Slots(_) | Mode::Slow(_) => Fate::Goes,
            Mode::Down => Fate::Fails(1, SendError::Unavailable("connection refused".into()), false),
            Mode::Refusing => Fate::Fails(3, SendError::Refused("INTERNAL: no transport".into()), false),
            Mode::Hanging => Fate::Hangs(goes),
        }
    }
}

/// The Requester as one run of an engine sees it.
pub struct SimRequester {
    pub world: Arc<World>,
    pub run: u32,
    pub link: watch::Sender<Link>,
}

/// A call that is open.
struct Open(Arc<World>, u64);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().close_call(self.1);
    }
}

impl Requester for SimRequester {
    async fn register(
        &self,
        mut request: RegisterRequest,
        deadline: Duration,
    ) -> Result<RegisterResponse, SendError> {
        let world = &self.world;
        if world.broken == Mutant::Unfair && &*request.target.host == "h0" {
            sleep(Duration::from_secs(8)).await;
        }
        let (flight, fate, journey, cut) = {
            let mut state = world.lock();
            let at = state.now();
            let flight = state.register_sent(self.run, &mut request);
            let reference = state.reference(&request.call_id);
            let fate = state.fate(&reference);
            let journey = state.journey(&request.target.host, at);
            (flight, fate, journey, state.requester.connections.clone())
        };
        let _open = Open(world.clone(), flight);
        let (reply, replied) = oneshot::channel();
        let goes =
            matches!(fate, Fate::Goes | Fate::Hangs(true) | Fate::Stuck(_, true) | Fate::Fails(_, _, true));
        if goes && !world.swallows(&request) {
            tokio::spawn(travel(world.clone(), request, journey, reply));
        } else if world.swallows(&request) {
            let _ = reply.send(RegisterResponse { contact_expires: Some(3_600), ..code(200) });
        }
        let answer = match fate {
            Fate::Fails(ms, error, _) => {
                sleep(Duration::from_millis(ms)).await;
                Err(error)
            }
            Fate::Hangs(_) => {
                tokio::select! {
                    biased;
                    () = sleep(deadline) => Err(SendError::Deadline(deadline)),
                    () = cut.cancelled() => Err(disconnected("connection reset")),
                }
            }
            Fate::Stuck(hung, _) => {
                tokio::select! {
                    biased;
                    () = sleep(deadline) => Err(SendError::Deadline(deadline)),
                    () = cut.cancelled() => Err(disconnected("connection reset")),
                    () = hung.cancelled() => Err(disconnected("it hung")),
                }
            }
            Fate::Goes => tokio::select! {
                biased;
                reply = timeout(deadline, replied) => match reply {
                    Ok(Ok(reply)) => Ok(reply),
                    _ => Err(SendError::Deadline(deadline)),
                },
                () = cut.cancelled() => Err(disconnected("connection reset")),
            },
        };
        let mut state = world.lock();
        let recheck =
            state.model.in_flight.get(&flight).cloned().and_then(|flight| state.recheck(&flight, &answer));
        let answer = state.response_delivered(flight, answer);
        drop(state);
        if let Some(recheck) = recheck {
            recheck_later(world, recheck);
        }
        answer
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }
}

impl World {
    /// Returns whether it is a removal that a mutant swallows: said to be done, and not sent.
    fn swallows(&self, request: &RegisterRequest) -> bool {
        self.broken == Mutant::LostRemoval && request.expires == 0
    }
}

fn disconnected(cause: &str) -> SendError {
    SendError::Disconnected { cause: cause.into(), after_response: false }
}
