//! The Requester, and the way of a REGISTER through it and an EdgePort to a registrar and back.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use routr_registry::ports::{Link, Local, LocalKind, Register, Reply, Requester, SendError};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    broken::Broken,
    registrar::code,
    world::{State, World},
};

/// A non-INVITE transaction ends then (RFC 3261 Timer F), and the Requester takes half a second of its own.
const TRANSACTION: u64 = 32_500;

/// What the Requester is like.
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
pub struct Way {
    pub mode: Mode,
    pub home: Mode,
    /// Cancelled when all its connections break.
    pub connections: CancellationToken,
    /// EdgePorts that are dead.
    pub dead_edges: Vec<String>,
}

impl Way {
    pub fn new(home: Mode) -> Self {
        Self { mode: home.clone(), home, connections: CancellationToken::new(), dead_edges: Vec::new() }
    }
}

/// What becomes of one call.
enum Fate {
    /// It fails after so many milliseconds; the request may go out nevertheless.
    Fails(u64, SendError, bool),
    Hangs(bool),
    Goes,
}

/// How one request travels, in milliseconds.
#[derive(Clone, Copy)]
pub struct Journey {
    departs: u64,
    there: u64,
    back: u64,
    lost: bool,
    reply_lost: bool,
    /// The Requester says that it made a 408 up itself.
    tells: bool,
    /// The reply tells the number that was used.
    numbered: bool,
    stale_nonce: bool,
}

impl State {
    fn fate(&mut self) -> Fate {
        let goes = self.rng.random_bool(0.5);
        match &self.way.mode {
            Mode::Up | Mode::Slots(_) | Mode::Slow(_) => Fate::Goes,
            Mode::Down => Fate::Fails(1, SendError::Unavailable("connection refused".into()), false),
            Mode::Refusing => Fate::Fails(3, SendError::Refused("INTERNAL: no transport".into()), false),
            Mode::Hanging => Fate::Hangs(goes),
        }
    }

    fn journey(&mut self, host: &str, at: u64) -> Journey {
        let departs = match &mut self.way.mode {
            Mode::Slots(slots) => {
                slots.sort_unstable();
                let from = slots[0].max(at);
                slots[0] = from + 500;
                from - at
            }
            Mode::Slow(ms) => *ms,
            _ => 1,
        };
        let (delay, loss, late) =
            self.hosts.get(host).map_or(((5, 60), 0.0, 0.0), |host| (host.delay, host.loss, host.late));
        let rng = &mut self.rng;
        let mut there = rng.random_range(delay.0..=delay.1);
        if late > 0.0 && rng.random_bool(late) {
            there += rng.random_range(1_000..60_000);
        }
        Journey {
            departs,
            there,
            back: rng.random_range(delay.0..=delay.1),
            lost: loss > 0.0 && rng.random_bool(loss),
            reply_lost: loss > 0.0 && rng.random_bool(loss),
            tells: rng.random_bool(0.5),
            numbered: rng.random_bool(0.8),
            stale_nonce: rng.random_bool(0.05),
        }
    }
}

/// The Requester as one run of an engine sees it.
pub struct Phone {
    pub world: Arc<World>,
    pub run: u32,
    pub link: watch::Sender<Link>,
}

/// A call that is open.
struct Open(Arc<World>, u64);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().flight_gone(self.1);
    }
}

impl Requester for Phone {
    async fn register(&self, mut request: Register, deadline: Duration) -> Result<Reply, SendError> {
        let world = &self.world;
        let (flight, fate, journey, cut) = {
            let mut state = world.lock();
            let at = state.now();
            let flight = state.sending(self.run, &mut request);
            let fate = state.fate();
            let journey = state.journey(&request.target.host, at);
            (flight, fate, journey, state.way.connections.clone())
        };
        let _open = Open(world.clone(), flight);
        let (reply, replied) = oneshot::channel();
        let goes = matches!(fate, Fate::Goes | Fate::Hangs(true) | Fate::Fails(_, _, true));
        if goes && !world.swallows(&request) {
            tokio::spawn(travel(world.clone(), request, journey, reply));
        } else if world.swallows(&request) {
            let _ = reply.send(Reply { contact_expires: Some(3_600), ..code(200) });
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
                    () = cut.cancelled() => Err(SendError::Unavailable("connection reset".into())),
                }
            }
            Fate::Goes => tokio::select! {
                biased;
                reply = timeout(deadline, replied) => match reply {
                    Ok(Ok(reply)) => Ok(reply),
                    _ => Err(SendError::Deadline(deadline)),
                },
                () = cut.cancelled() => Err(SendError::Unavailable("connection reset".into())),
            },
        };
        world.lock().delivered(flight, answer)
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }
}

impl World {
    /// A broken variant: removals are said to be done and are not.
    fn swallows(&self, request: &Register) -> bool {
        self.broken == Broken::LostRemoval && request.expires == 0
    }
}

async fn pass(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

/// The way of one request. It goes on when the process that sent it has died.
async fn travel(world: Arc<World>, request: Register, journey: Journey, reply: oneshot::Sender<Reply>) {
    pass(journey.departs).await;
    let edge = request.edge_port.host.to_string();
    let silent = |world: &World| {
        let edge_dead = world.lock().way.dead_edges.contains(&edge);
        edge_dead || journey.lost
    };
    let mut answer = None;
    if !silent(&world) {
        pass(journey.there).await;
        // A challenge, and a stale nonce, are each answered with the next number.
        let mut cseq = request.cseq;
        let (mut said, challenged) = world.lock().arrives(&request, cseq, 0);
        if challenged {
            let rounds = 1 + u32::from(journey.stale_nonce);
            for _ in 0..rounds {
                pass(journey.back + journey.there).await;
                cseq += 1;
            }
            said = world.lock().arrives(&request, cseq, rounds).0;
        }
        answer = said.map(|said| Reply { cseq: journey.numbered.then_some(cseq), ..said });
        pass(journey.back).await;
        if journey.reply_lost || silent(&world) {
            answer = None;
        }
    }
    if answer.is_none() {
        let spent = journey.departs + journey.there + journey.back;
        pass(TRANSACTION.saturating_sub(spent)).await;
    }
    let answer = answer.unwrap_or_else(|| Reply {
        local: journey.tells.then_some(Local { kind: LocalKind::Timeout, at: None }),
        ..code(408)
    });
    // Nobody may be there any more to hear it.
    let _ = reply.send(answer);
}
