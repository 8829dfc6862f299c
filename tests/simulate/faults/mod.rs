//! Events of a world, drawn from its seed: faults here, and what users do in [`crate::users`].

use std::{sync::Arc, time::Duration};

use rand::RngExt;
use tokio::time::sleep;

use crate::{
    faults::{
        edge_ports::EdgePorts,
        processes::ProcessFault,
        registrars::{Outage, RegistrarFault},
        requester::RequesterFault,
    },
    field::Path,
    rules::SECOND,
    users::{Edit, UserAction},
    world::{State, World},
};

pub mod calls;
mod dependencies;
mod edge_ports;
mod healing;
mod processes;
pub mod registrars;
mod requester;

pub use self::healing::heal;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Registrar(RegistrarFault),
    Outage(Outage),
    EdgePorts(EdgePorts),
    Requester(RequesterFault),
    /// The API server does not list the trunks as it should.
    ApiFails,
    /// A sync lacks trunks.
    ListingShrinks,
    StoreFails,
    StoreLosesData,
    Process(ProcessFault),
    /// The API server of Kubernetes gives no Lease.
    LeaseOutage,
    /// The wall clock of a machine is set.
    ClockJumps,
}

/// Something that happens: a fault, or what a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Fault(Fault),
    User(UserAction),
}

impl Event {
    /// The name in histories and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.name(),
            Self::User(action) => action.name(),
        }
    }
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Registrar(RegistrarFault::AnswersOtherwise) => "registrar answers otherwise",
            Self::Registrar(RegistrarFault::LosesPackets) => "registrar loses packets",
            Self::Registrar(RegistrarFault::IsLate) => "registrar is late",
            Self::Registrar(RegistrarFault::IsSlow) => "registrar is slow",
            Self::Registrar(RegistrarFault::Forgets) => "registrar forgets",
            Self::Outage(Outage::OneRegistrar) => "registrar outage",
            Self::Outage(Outage::SeveralSilent) => "several registrars silent",
            Self::EdgePorts(EdgePorts::One) => "edge port dead",
            Self::EdgePorts(EdgePorts::All) => "all edge ports dead",
            Self::Requester(RequesterFault::Down) => "requester down",
            Self::Requester(RequesterFault::Hangs) => "requester hangs",
            Self::Requester(RequesterFault::Refuses) => "requester refuses",
            Self::Requester(RequesterFault::IsSlow) => "requester slow",
            Self::Requester(RequesterFault::Reconnects) => "requester reconnects",
            Self::ApiFails => "api fails",
            Self::ListingShrinks => "listing shrinks",
            Self::StoreFails => "store fails",
            Self::StoreLosesData => "store loses data",
            Self::Process(ProcessFault::Kill) => "kill",
            Self::Process(ProcessFault::Restart) => "restart",
            Self::Process(ProcessFault::Freeze) => "freeze",
            Self::LeaseOutage => "lease outage",
            Self::ClockJumps => "clock jumps",
        }
    }
}

/// Lets things happen until their time is over.
pub async fn play(world: Arc<World>) {
    let (until, gap) = {
        let state = world.lock();
        (state.rules.faults_ms, state.rules.gap_ms)
    };
    loop {
        let pause = world.lock().rng.random_range(SECOND..2 * gap);
        sleep(Duration::from_millis(pause)).await;
        if world.now() >= until {
            return;
        }
        let what = world.lock().draw_event();
        what.happen(&world).await;
        world.lock().update_model();
    }
}

impl State {
    /// Draws what happens next, each as often as its weight beside the others.
    pub fn draw_event(&mut self) -> Event {
        let lease = u32::from(self.rules.lease.is_some());
        let (store, clock) =
            (u32::from(self.rules.store_fails && self.rules.durable), u32::from(self.rules.clock_jumps));
        let field = u32::from(self.rules.field.is_some());
        let outages = self.rules.field.map_or(0, |field| field.outages);
        let edges = self.rules.field.map_or(3, |field| if field.path == Path::Direct { 0 } else { 3 });
        let all: [(u32, Event); 32] = [
            (10, Event::Fault(Fault::Registrar(RegistrarFault::AnswersOtherwise))),
            (3, Event::Fault(Fault::Registrar(RegistrarFault::LosesPackets))),
            (2, Event::Fault(Fault::Registrar(RegistrarFault::IsLate))),
            (1, Event::Fault(Fault::Registrar(RegistrarFault::IsSlow))),
            (1, Event::Fault(Fault::Registrar(RegistrarFault::Forgets))),
            (2, Event::Fault(Fault::Requester(RequesterFault::Down))),
            (2, Event::Fault(Fault::Requester(RequesterFault::Hangs))),
            (1, Event::Fault(Fault::Requester(RequesterFault::Refuses))),
            (1, Event::Fault(Fault::Requester(RequesterFault::IsSlow))),
            (2, Event::Fault(Fault::Requester(RequesterFault::Reconnects))),
            (edges, Event::Fault(Fault::EdgePorts(EdgePorts::One))),
            (4, Event::Fault(Fault::ApiFails)),
            (2, Event::Fault(Fault::ListingShrinks)),
            (3 * store, Event::Fault(Fault::StoreFails)),
            (2 * store, Event::Fault(Fault::StoreLosesData)),
            (3, Event::Fault(Fault::Process(ProcessFault::Kill))),
            (2, Event::Fault(Fault::Process(ProcessFault::Restart))),
            (2 + 2 * lease, Event::Fault(Fault::Process(ProcessFault::Freeze))),
            (3 * lease, Event::Fault(Fault::LeaseOutage)),
            (3 * clock, Event::Fault(Fault::ClockJumps)),
            (9, Event::User(UserAction::Edit(Edit::Drawn))),
            (1, Event::User(UserAction::Edit(Edit::MassRemoval))),
            (2, Event::User(UserAction::RefreshOne)),
            (1, Event::User(UserAction::SyncNow)),
            (2, Event::User(UserAction::Suspend)),
            (3, Event::User(UserAction::Reload)),
            (3, Event::User(UserAction::Edit(Edit::ProviderChangesPassword))),
            (outages, Event::Fault(Fault::Outage(Outage::OneRegistrar))),
            (outages.min(4), Event::Fault(Fault::Outage(Outage::SeveralSilent))),
            (outages.min(edges), Event::Fault(Fault::EdgePorts(EdgePorts::All))),
            (2 * field, Event::User(UserAction::Edit(Edit::MistypedPassword))),
            (field, Event::User(UserAction::ReplaceEdgePort)),
        ];
        let total: u32 = all.iter().map(|(weight, _)| weight).sum();
        let mut at = self.rng.random_range(0..total);
        for (weight, what) in all {
            if at < weight {
                return what;
            }
            at -= weight;
        }
        Event::User(UserAction::Edit(Edit::Drawn))
    }

    /// Returns how long a fault lasts, in milliseconds: most of them not long.
    pub fn lasts(&mut self) -> u64 {
        let most = self.rules.fault_ms as f64;
        let share: f64 = self.rng.random_range(0.0..1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let ms = (most * share * share * share) as u64;
        ms.max(2 * SECOND)
    }
}

impl Event {
    async fn happen(self, world: &Arc<World>) {
        let ms = {
            let mut state = world.lock();
            let name = self.name();
            state.count(name);
            let ms = state.lasts();
            state.say(format_args!("* {name} ({} s)", ms / 1_000));
            ms
        };
        match self {
            Self::Fault(fault) => fault.begin(world, ms),
            Self::User(action) => action.act(world, ms).await,
        }
    }
}

impl Fault {
    /// Begins it; it is undone after `ms`, if it is one that lasts.
    fn begin(self, world: &Arc<World>, ms: u64) {
        match self {
            Self::Registrar(fault) => registrars::begin(world, fault, ms),
            Self::Outage(outage) => registrars::begin_outage(world, outage),
            Self::EdgePorts(which) => edge_ports::begin(world, which, ms),
            Self::Requester(fault) => requester::begin(world, fault, ms),
            Self::ApiFails => dependencies::api_fails(world, ms),
            Self::ListingShrinks => dependencies::shrink_listing(&mut world.lock()),
            Self::StoreFails => dependencies::store_fails(world, ms),
            Self::StoreLosesData => dependencies::store_loses_data(&mut world.lock()),
            Self::Process(fault) => processes::begin(world, fault, ms),
            Self::LeaseOutage => {
                world.lock().lease.out = true;
                later(world, ms, |state| state.lease.out = false);
            }
            Self::ClockJumps => processes::set_clock(&mut world.lock()),
        }
    }
}

/// Undoes a fault after its time.
pub fn later(world: &Arc<World>, ms: u64, undo: impl FnOnce(&mut State) + Send + 'static) {
    let world = world.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(ms)).await;
        let mut state = world.lock();
        if state.calm_since.is_none() {
            undo(&mut state);
            state.update_model();
        }
    });
}
