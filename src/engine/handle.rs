//! The way into a running engine: ask what it knows, tell it to act.

use tokio::sync::{mpsc, oneshot};

use super::view::{Filter, Page, Summary, Troubles, TrunkView};

/// Most trunks that one [`Page`] holds.
pub const MAX_PAGE: usize = 500;

/// What [`EngineHandle::refresh`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The REGISTER is queued and goes out as soon as the budgets allow.
    Queued,
    /// One is in flight already.
    InFlight,
    /// The trunk cannot be registered as it is configured.
    Invalid,
    /// There is no such trunk.
    NotFound,
}

/// What became of the bindings that [`EngineHandle::leave`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaveReport {
    /// The registrar says that they are gone.
    pub removed: u64,
    /// It did not say so in any of the tries.
    pub given_up: u64,
}

/// The engine is no longer there to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct EngineStopped;

/// What the loop is asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// See [`EngineHandle::summary`].
    Summary(oneshot::Sender<Summary>),
    /// See [`EngineHandle::list`].
    List { filter: Filter, after: Option<String>, limit: usize, answer: oneshot::Sender<Page> },
    /// See [`EngineHandle::get`].
    Get { reference: String, answer: oneshot::Sender<Option<TrunkView>> },
    /// See [`EngineHandle::refresh`].
    Refresh { reference: String, answer: oneshot::Sender<Refresh> },
    /// See [`EngineHandle::sync_now`].
    SyncNow,
    /// See [`EngineHandle::troubles`].
    Troubles { most: usize, answer: oneshot::Sender<Troubles> },
    /// See [`EngineHandle::pause`].
    Pause(bool),
    /// See [`EngineHandle::leave`].
    Leave { presume: bool, answer: oneshot::Sender<LeaveReport> },
}

/// A cheap, cloneable way to talk to one engine.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    /// Boxed, as all that a channel of the engine carries: a channel has room for 32 values from the start, and there may be
    /// thousands of engines.
    commands: mpsc::Sender<Box<Command>>,
}

impl EngineHandle {
    /// A handle and the receiving end that the loop reads.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Box<Command>>) {
        let (commands, receiver) = mpsc::channel(64);
        (Self { commands }, receiver)
    }

    /// Whether both talk to the same engine.
    pub fn is_same(&self, other: &Self) -> bool {
        self.commands.same_channel(&other.commands)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, EngineStopped> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Box::new(command(answer))).await.map_err(|_| EngineStopped)?;
        answered.await.map_err(|_| EngineStopped)
    }

    /// The engine at one glance.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn summary(&self) -> Result<Summary, EngineStopped> {
        self.ask(Command::Summary).await
    }

    /// Trunks that pass the filter, ordered by ref, after the page token `after`; at most [`MAX_PAGE`].
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn list(
        &self,
        filter: Filter,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page, EngineStopped> {
        let limit = limit.clamp(1, MAX_PAGE);
        self.ask(|answer| Command::List { filter, after, limit, answer }).await
    }

    /// One trunk, by its ref; `None` where there is no such trunk.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn get(&self, reference: String) -> Result<Option<TrunkView>, EngineStopped> {
        self.ask(|answer| Command::Get { reference, answer }).await
    }

    /// Registers one trunk now.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn refresh(&self, reference: String) -> Result<Refresh, EngineStopped> {
        self.ask(|answer| Command::Refresh { reference, answer }).await
    }

    /// The worst `most` troubles, and how many there are of each kind.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn troubles(&self, most: usize) -> Result<Troubles, EngineStopped> {
        self.ask(|answer| Command::Troubles { most, answer }).await
    }

    /// `true`: sends nothing any more, while bindings stay and trunks are still read; `false`: goes on.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn pause(&self, paused: bool) -> Result<(), EngineStopped> {
        self.commands.send(Box::new(Command::Pause(paused))).await.map_err(|_| EngineStopped)
    }

    /// Removes the bindings of all trunks, and returns when that is done: each was removed, or given up after its tries, and
    /// the store knows. With `presume`, trunks that this engine has sent nothing for are removed too: a predecessor without a
    /// cache may have registered them.
    ///
    /// An engine that has not read its trunks yet reads them first. The trunks are not read again afterwards.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn leave(&self, presume: bool) -> Result<LeaveReport, EngineStopped> {
        self.ask(|answer| Command::Leave { presume, answer }).await
    }

    /// Reads the trunks again without waiting for the interval.
    ///
    /// # Errors
    /// When the engine has stopped.
    pub async fn sync_now(&self) -> Result<(), EngineStopped> {
        self.commands.send(Box::new(Command::SyncNow)).await.map_err(|_| EngineStopped)
    }
}
