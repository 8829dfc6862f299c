//! The way of one request: through the Requester and an EdgePort to a registrar, and back. What comes back is
//! what this kind of Requester hands over.

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use routr_registration::model::{RegisterRequest, RegisterResponse};
use routr_types::{
    extension::{Hop, Local, LocalKind},
    host::Transport,
};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    arriving::Arrival,
    field::{Path, RequesterKind},
    network::{EdgeFault, Mode},
    registrar::code,
    world::{State, World},
};

/// A non-INVITE transaction ends then (RFC 3261 Timer F), and the Requester takes half a second of its own.
pub const TRANSACTION: u64 = 32_500;
/// Longer than any call waits, in milliseconds.
const FOREVER: u64 = 100_000;

/// Journey of one request, in milliseconds.
#[derive(Clone, Copy)]
pub struct Journey {
    departs: u64,
    there: u64,
    back: u64,
    lost: bool,
    reply_lost: bool,
    /// In a plain world: the Requester says that it made a 408 up itself.
    tells: bool,
    /// The response tells the number that was used.
    numbered: bool,
    stale_nonce: bool,
    /// The EdgePort gives up on a silent registrar before the Requester does.
    edge_first: bool,
    sent: u64,
}

impl State {
    pub fn journey(&mut self, host: &str, at: u64) -> Journey {
        let departs = match &mut self.requester.mode {
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
            edge_first: self.rules.field.is_some() && rng.random_bool(0.5),
            sent: at,
        }
    }

    /// Returns the fault of the EdgePort that a request goes through.
    fn edge_fault(&self, request: &RegisterRequest) -> Option<EdgeFault> {
        let direct = self.is_direct();
        if direct { None } else { self.requester.edge_fault(&request.edge_port.host) }
    }

    /// The next hop, as our Requester names it.
    fn next_hop(&self) -> Hop {
        match self.rules.field.map(|field| field.path) {
            Some(Path::Direct) => Hop::Registrar,
            _ => Hop::EdgePort,
        }
    }

    /// A response that the Requester makes up.
    fn made_up(&self, number: u16, kind: LocalKind) -> RegisterResponse {
        RegisterResponse { local: Some(Local { kind, at: Some(self.next_hop()) }), ..code(number) }
    }

    /// Returns what the Requester hands over; `None`: it never does.
    fn hand_over(&self, reply: RegisterResponse, journey: &Journey) -> Option<RegisterResponse> {
        let Some(field) = self.rules.field else {
            return Some(RegisterResponse { bindings: Vec::new(), authentication: None, ..reply });
        };
        match field.requester {
            RequesterKind::Ours { .. } => Some(reply),
            RequesterKind::Quiet | RequesterKind::Java => {
                let listed = !reply.bindings.is_empty();
                let mut reply =
                    RegisterResponse { bindings: Vec::new(), authentication: None, local: None, ..reply };
                reply.targets.truncate(1);
                if field.requester == RequesterKind::Quiet {
                    reply.cseq = reply.cseq.filter(|_| journey.numbered);
                    return Some(reply);
                }
                // Of a 200 the Contact alone, of a 302 the URI alone.
                if !reply.targets.is_empty() {
                    reply.contact_expires = None;
                    reply.targets.iter_mut().for_each(|target| target.expires = None);
                }
                if reply.code == Some(200) && listed {
                    reply.expires = None;
                }
                reply.code.is_none_or(has_response_type).then_some(reply)
            }
        }
    }
}

/// Returns whether Routr's contract has a response type for this code.
fn has_response_type(code: u16) -> bool {
    matches!(code,
        100 | 180..=183 | 200 | 202 | 300..=302 | 305 | 380 | 400..=408 | 410 | 413..=416 | 420 | 421 | 423
        | 480..=488 | 491 | 493 | 500..=505 | 513 | 600 | 603 | 604 | 606)
}

async fn pass(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

/// Outcome of a request on its way.
enum Outcome {
    Response(RegisterResponse),
    /// Nothing within the transaction's time; whether an EdgePort was there to see it.
    Silence {
        passed_on: bool,
    },
    Refused,
    Never,
}

/// The way of one request. It continues when the process that sent it has died.
pub async fn travel(
    world: Arc<World>,
    request: RegisterRequest,
    journey: Journey,
    reply: oneshot::Sender<RegisterResponse>,
) {
    pass(journey.departs).await;
    let outcome = go(&world, &request, &journey).await;
    let response = match outcome {
        Outcome::Response(response) => Some(response),
        Outcome::Refused => refused(&world, &request, &journey).await,
        Outcome::Silence { passed_on } => {
            let spent = journey.departs + journey.there + journey.back;
            pass(TRANSACTION.saturating_sub(spent)).await;
            Some(silence(&world, &journey, passed_on))
        }
        Outcome::Never => None,
    };
    let response = response.and_then(|response| world.lock().hand_over(response, &journey));
    match response {
        // The process may not be there any more to hear it.
        Some(response) => drop(reply.send(response)),
        None => {
            pass(FOREVER).await;
            drop(reply);
        }
    }
}

async fn go(world: &Arc<World>, request: &RegisterRequest, journey: &Journey) -> Outcome {
    let silent_edge = || world.lock().edge_fault(request) == Some(EdgeFault::Dead);
    let fault = world.lock().edge_fault(request);
    match fault {
        Some(EdgeFault::Unknown) => {
            pass(20).await;
            let state = world.lock();
            return match state.rules.field {
                Some(field) if field.is_ours() => {
                    Outcome::Response(state.made_up(503, LocalKind::UnknownHost))
                }
                _ => Outcome::Never,
            };
        }
        Some(EdgeFault::Refuses) => {
            pass(5).await;
            return Outcome::Response(world.lock().made_up(503, LocalKind::Transport));
        }
        Some(EdgeFault::Dead) => return Outcome::Silence { passed_on: false },
        None if journey.lost => return Outcome::Silence { passed_on: false },
        None => {}
    }
    pass(journey.there).await;
    // A challenge, and a stale nonce, are each answered with the next number.
    let mut cseq = request.cseq;
    let mut arrival = world.lock().arrives(request, cseq, 0, journey.sent);
    if matches!(arrival, Arrival::Challenge) {
        let rounds = 1 + u32::from(journey.stale_nonce);
        for _ in 0..rounds {
            pass(journey.back + journey.there).await;
            cseq += 1;
        }
        arrival = world.lock().arrives(request, cseq, rounds, journey.sent);
    }
    pass(journey.back).await;
    let silence = Outcome::Silence { passed_on: true };
    match arrival {
        _ if journey.reply_lost || silent_edge() => silence,
        Arrival::Response(response) => {
            let field = world.lock().rules.field;
            let numbered = field.is_some() || journey.numbered;
            Outcome::Response(RegisterResponse { cseq: numbered.then_some(cseq), ..response })
        }
        Arrival::Refused => Outcome::Refused,
        Arrival::Silence | Arrival::Challenge => silence,
        // The call is over long before the loop is.
        Arrival::Loop => Outcome::Silence { passed_on: true },
    }
}

/// The registrar takes no connection.
async fn refused(
    world: &Arc<World>,
    request: &RegisterRequest,
    journey: &Journey,
) -> Option<RegisterResponse> {
    let path = world.lock().rules.field.map(|field| field.path);
    if path == Some(Path::Direct) {
        let kind = if request.transport == Transport::Tls && journey.tells {
            LocalKind::Tls
        } else {
            LocalKind::Transport
        };
        return Some(world.lock().made_up(503, kind));
    }
    // The EdgePort's own words.
    if request.transport == Transport::Udp {
        pass(TRANSACTION).await;
        return Some(code(408));
    }
    Some(code(503))
}

/// Returns the response that the Requester makes of a silence.
fn silence(world: &Arc<World>, journey: &Journey, passed_on: bool) -> RegisterResponse {
    let state = world.lock();
    match state.rules.field {
        None => RegisterResponse {
            local: journey.tells.then_some(Local { kind: LocalKind::Timeout, at: None }),
            ..code(408)
        },
        // An EdgePort that is there may say 408 before the Requester does.
        Some(field) if field.path != Path::Direct && passed_on && journey.edge_first => code(408),
        Some(_) => state.made_up(408, LocalKind::Timeout),
    }
}
