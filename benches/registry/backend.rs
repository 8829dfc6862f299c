//! The backend of the benchmarks, a process of its own: an API server that lists generated trunks, and a
//! Requester that responds to each REGISTER at once with 200 and what was asked. It counts what it is sent.

mod listing;
mod service;
mod tally;
mod wire;

use std::{
    io::{BufRead, Write},
    net::SocketAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use self::{listing::Listing, service::Shared, tally::Counters};
pub use self::{listing::user, tally::Tally};
use crate::role::Role;

/// Method by which trunks are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// `List`, page after page; `FindBy` refuses the size, as a server does that keeps to the 4 MB of gRPC.
    Pages,
    /// `FindBy`, all in one message; there is no `List`.
    AllInOne,
}

/// Settings that a backend is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Number of trunks.
    pub trunks: usize,
    /// Number of registrar hosts, used in turn.
    pub registrars: usize,
    /// Method by which they are listed.
    pub mode: Mode,
    /// The first REGISTER of a trunk is granted a time between this and what it asks, evenly spread, so that
    /// the refreshes that follow are spread as evenly as in an installation that has been up for long.
    /// `None`: all get what they ask.
    pub first_grant_s: Option<u32>,
    /// Some trunks are never granted more than this.
    #[serde(default)]
    pub short: Option<Short>,
}

/// Trunks whose registrations are short.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Short {
    /// Each so-manieth trunk is one of them.
    pub every: usize,
    /// Most seconds that they are granted; the first time up to twice that, evenly spread.
    pub seconds: u32,
}

/// A running backend, as the bench sees it.
pub struct Backend {
    role: Role,
    /// Address that it listens on.
    pub address: SocketAddr,
    /// Settings that it was started with.
    pub settings: Settings,
}

impl Backend {
    /// The role's name on the command line.
    pub const ROLE: &'static str = "backend";

    /// Starts one and waits until it listens.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let mut role = Role::start(Self::ROLE, &serde_json::to_string(settings)?)?;
        let address = role.hear()?.parse()?;
        Ok(Self { role, address, settings: settings.clone() })
    }

    /// Returns the counts since the last [`Backend::reset`].
    pub fn tally(&mut self) -> anyhow::Result<Tally> {
        Ok(serde_json::from_str(&self.role.ask("tally")?)?)
    }

    /// Forgets all that came: as if no trunk had ever been registered.
    pub fn reset(&mut self) -> anyhow::Result<()> {
        self.role.ask("reset").map(drop)
    }

    /// Counts again, and remembers who is registered: [`Tally::trunks`] goes on.
    pub fn mark(&mut self) -> anyhow::Result<()> {
        self.role.ask("mark").map(drop)
    }

    /// Refuses `each_second` registered trunks with 503 in each second from now on, each once.
    pub fn flap(&mut self, each_second: u32) -> anyhow::Result<()> {
        self.role.ask(&format!("flap {each_second}")).map(drop)
    }

    /// The first REGISTER that came, as it was on the wire (protobuf, in hexadecimal digits).
    pub fn sample(&mut self) -> anyhow::Result<String> {
        self.role.ask("sample")
    }

    /// The least that is left of any registration, in milliseconds; negative for one that has expired and did
    /// not come back.
    pub fn least_left_ms(&mut self) -> anyhow::Result<i64> {
        Ok(self.role.ask("least-left")?.parse()?)
    }

    /// Bytes of the whole list.
    pub fn listing_bytes(&mut self) -> anyhow::Result<u64> {
        Ok(self.role.ask("listing-bytes")?.parse()?)
    }
}

/// The role: serves until the bench that started it ends.
pub fn serve(settings: &str) -> anyhow::Result<()> {
    let settings: Settings = serde_json::from_str(settings)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let shared = Arc::new(Shared {
        listing: Listing::generate(settings.trunks, settings.registrars),
        counters: Counters::new(settings.trunks, settings.short),
        settings,
    });
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    runtime.spawn(service::accept(listener, Arc::clone(&shared)));
    for line in std::io::stdin().lock().lines() {
        let answer = match line?.as_str() {
            "tally" => serde_json::to_string(&shared.counters.tally())?,
            "reset" => {
                shared.counters.reset();
                "ok".to_owned()
            }
            "mark" => {
                shared.counters.mark();
                "ok".to_owned()
            }
            flap if flap.starts_with("flap ") => {
                shared.counters.flap(flap[5..].parse()?);
                "ok".to_owned()
            }
            "least-left" => shared.counters.least_left_ms().to_string(),
            "listing-bytes" => shared.listing.page(0, usize::MAX).0.len().to_string(),
            "sample" => shared.counters.sample(),
            other => format!("unknown: {other}"),
        };
        writeln!(out, "{answer}")?;
    }
    runtime.shutdown_background();
    Ok(())
}
