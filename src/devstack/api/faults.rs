//! Faults of the API server, and a count of its calls.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::Message;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// The calls of the `Trunks` service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rpc {
    /// `Get`.
    Get,
    /// `FindBy`.
    FindBy,
    /// `List`.
    List,
}

/// Status with which a server refuses a response that is too large: implementations differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeCode {
    /// `RESOURCE_EXHAUSTED`.
    ResourceExhausted,
    /// `OUT_OF_RANGE`.
    OutOfRange,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Respond `UNAVAILABLE`, as the PostgreSQL-backed server does when its database is down.
    Unavailable,
    /// Respond any other status.
    Refuse(Code, String),
    /// Do not respond at all, until the server is shut down.
    Hang,
    /// Respond well, but only after this time.
    Slow(Duration),
    /// Refuse responses of more than `limit` bytes.
    TooLarge {
        /// Largest message that is still sent, in bytes.
        limit: usize,
        /// Status of the refused ones.
        code: SizeCode,
    },
}

/// Faults in force, and counters, for each call.
#[derive(Debug, Default)]
pub(super) struct Faults {
    faults: Mutex<[Option<Fault>; 3]>,
    calls: [AtomicU64; 3],
}

impl Faults {
    pub(super) fn set(&self, rpc: Rpc, fault: Option<Fault>) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)[rpc as usize] = fault;
    }

    pub(super) fn calls(&self, rpc: Rpc) -> u64 {
        self.calls[rpc as usize].load(Ordering::Relaxed)
    }

    fn get(&self, rpc: Rpc) -> Option<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)[rpc as usize].clone()
    }

    /// Counts a call, and fails it where the fault comes before any response.
    pub(super) async fn before(&self, rpc: Rpc, shutdown: &CancellationToken) -> Result<(), Status> {
        self.calls[rpc as usize].fetch_add(1, Ordering::Relaxed);
        match self.get(rpc) {
            Some(Fault::Unavailable) => Err(Status::unavailable("the database cannot be reached")),
            Some(Fault::Refuse(code, message)) => Err(Status::new(code, message)),
            Some(Fault::Hang) => {
                shutdown.cancelled().await;
                Err(Status::unavailable("the server is shutting down"))
            }
            Some(Fault::Slow(time)) => {
                sleep(time).await;
                Ok(())
            }
            Some(Fault::TooLarge { .. }) | None => Ok(()),
        }
    }

    /// Fails a call whose response is too large.
    pub(super) fn after(&self, rpc: Rpc, answer: &impl Message) -> Result<(), Status> {
        let Some(Fault::TooLarge { limit, code }) = self.get(rpc) else { return Ok(()) };
        let size = answer.encoded_len();
        if size <= limit {
            return Ok(());
        }
        let message = format!("the answer has {size} bytes; at most {limit} can be sent");
        Err(match code {
            SizeCode::ResourceExhausted => Status::resource_exhausted(message),
            SizeCode::OutOfRange => Status::out_of_range(message),
        })
    }
}
