//! The embedded Requester over UDP: SIP transactions per second, beside a bare ping-pong of datagrams of the
//! same sizes.
//!
//! Four pairs of processes, one after the other, each with the same number of requests under way:
//!
//! * `ping-pong` (the reference, before and after the others): two processes, one socket each, no SIP.
//! * `SIP alone`: the Requester's service and its SIP client in the process of the load; the registrar is
//!   another.
//! * `through gRPC`: the real binary (`routr-registry requester`) between a load, which uses the product's
//!   own gRPC port, and the registrar: three processes, as it is in production.
//! * `gRPC alone`: the same load, and a server that responds without sending anything: the share of gRPC.
//!
//! A REGISTER that is challenged is two SIP transactions (REGISTER and 401, REGISTER with credentials and
//! 200). Rates are of transactions; the ping-pong then takes the sizes of both in turn.

mod load;
mod pingpong;
mod registrar;

use std::time::Duration;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use self::{pingpong::Sizes, registrar::Seen};
use crate::{
    report::{Bench, Figure},
    role::Role,
    support::{ports, service::Service, wait::wait_for},
    usage,
};

/// Time before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);
const PASSWORD: &str = "correct horse battery";
const SECTION: &str = "Requester over UDP";
const REFERENCE: &str = "bare UDP ping-pong";

/// Counts of a load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Counted {
    done: u64,
    /// Number of datagrams of a ping-pong that were sent again.
    failed: u64,
    seconds: f64,
}

impl Counted {
    fn rate(self) -> f64 {
        self.done as f64 / self.seconds
    }
}

/// Instructions for a load.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    /// Port of the one that is asked: of the Requester, where there is one in between.
    port: u16,
    /// Port of the registrar.
    registrar: u16,
    in_flight: usize,
    seconds: f64,
    /// Sizes of what a ping-pong sends and returns, in turn.
    sizes: Vec<Sizes>,
}

/// Runs one of this section's roles; `None` for another name.
pub fn role(name: &str, argument: &str) -> Option<anyhow::Result<()>> {
    let order = || Ok::<Order, anyhow::Error>(serde_json::from_str(argument)?);
    Some(match name {
        "udp-pong" => bare(pingpong::pong()),
        "sip-registrar" => bare(registrar::run(argument == "digest")),
        "grpc-pong" => as_the_product(load::grpc_pong()),
        "udp-ping" => order().and_then(|order| say(bare(pingpong::ping(order)))),
        "sip-load" => order().and_then(|order| say(as_the_product(load::in_process(order)))),
        "grpc-load" => order().and_then(|order| say(as_the_product(load::through_grpc(order)))),
        _ => return None,
    })
}

fn say(counted: anyhow::Result<Counted>) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&counted?)?);
    Ok(())
}

/// Prints the server's port, then its counts at each line that it receives, until there is no more.
fn serve<T: Serialize>(port: u16, counted: impl Fn() -> T + Send + 'static) {
    println!("{port}");
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            match (line, serde_json::to_string(&counted())) {
                (Ok(_), Ok(text)) => println!("{text}"),
                _ => break,
            }
        }
        std::process::exit(0);
    });
}

/// One thread: a reference is not to pay for what it does not need.
fn bare<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// A thread for each core, as the real binary.
fn as_the_product<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

/// Runs the section.
pub async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let (seconds, in_flight): (f64, &[usize]) =
        if bench.quick { (0.5, &[1, 100]) } else { (3.0, &[1, 10, 100, 1000]) };
    for digest in [false, true] {
        let mut harness = UdpHarness::start(digest, seconds).await?;
        for &in_flight in in_flight {
            bench.progress(&format!("REGISTERs over UDP, {}, {in_flight} in flight", harness.words()));
            harness.measure(bench, in_flight)?;
        }
    }
    Ok(())
}

/// A server of this section, and its port on 127.0.0.1.
struct Server {
    role: Role,
    port: u16,
}

impl Server {
    fn start(name: &'static str, argument: &str) -> anyhow::Result<Self> {
        let mut role = Role::start(name, argument)?;
        let port = role.hear()?.parse()?;
        Ok(Self { role, port })
    }
}

/// The servers.
struct UdpHarness {
    digest: bool,
    seconds: f64,
    pong: Server,
    grpc_pong: Server,
    registrar: Server,
    requester: Service,
    requester_port: u16,
    sizes: Vec<Sizes>,
}

impl UdpHarness {
    async fn start(digest: bool, seconds: f64) -> anyhow::Result<Self> {
        let requester_port = ports::free();
        let listen = format!("127.0.0.1:{requester_port}");
        let requester = Service::start(["requester", "--listen", &listen], &[]);
        let connects = async || tokio::net::TcpStream::connect(&listen).await.map(drop);
        wait_for(connects, Duration::from_secs(10), "the Requester to listen").await;
        let registrar = if digest { "digest" } else { "open" };
        let mut harness = Self {
            digest,
            seconds,
            pong: Server::start("udp-pong", "")?,
            grpc_pong: Server::start("grpc-pong", "")?,
            registrar: Server::start("sip-registrar", registrar)?,
            requester,
            requester_port,
            sizes: Vec::new(),
        };
        // The first ones tell the sizes.
        let order = harness.order(requester_port, 10);
        harness.load("grpc-load", &Order { seconds: 0.2, ..order })?;
        harness.sizes = harness.seen()?.sizes();
        ensure!(harness.sizes.len() == if digest { 2 } else { 1 }, "{:?}", harness.sizes);
        Ok(harness)
    }

    fn words(&self) -> &'static str {
        if self.digest { "digest" } else { "no digest" }
    }

    fn order(&self, port: u16, in_flight: usize) -> Order {
        Order {
            port,
            registrar: self.registrar.port,
            in_flight,
            seconds: self.seconds,
            sizes: self.sizes.clone(),
        }
    }

    fn seen(&mut self) -> anyhow::Result<Seen> {
        Ok(serde_json::from_str(&self.registrar.role.ask("seen")?)?)
    }

    /// Runs a load, and makes sure that what it measured is a success.
    fn load(&self, role: &'static str, order: &Order) -> anyhow::Result<Counted> {
        let counted: Counted =
            serde_json::from_str(&Role::start(role, &serde_json::to_string(order)?)?.hear()?)?;
        ensure!(role == "udp-ping" || counted.failed == 0, "{role} {order:?}: {counted:?}");
        ensure!(counted.done > 0, "{role} {order:?}: {counted:?}");
        Ok(counted)
    }

    fn measure(&mut self, bench: &mut Bench, in_flight: usize) -> anyhow::Result<()> {
        let ping = self.order(self.pong.port, in_flight);
        let before = self.load("udp-ping", &ping)?;
        let alone = self.load("sip-load", &self.order(self.registrar.port, in_flight))?;
        let (seen, cpu) = (self.seen()?.all(), self.cpu()?);
        let whole = self.load("grpc-load", &self.order(self.requester_port, in_flight))?;
        let (cpu, seen) = (self.cpu()? - cpu, self.seen()?.all() - seen);
        let wrong = self.seen()?.wrong;
        ensure!(wrong == 0, "{wrong} digests were wrong");
        let grpc = self.load("grpc-load", &self.order(self.grpc_pong.port, in_flight))?;
        let after = self.load("udp-ping", &ping)?;

        let reference = (before.rate() + after.rate()) / 2.0;
        let each = if self.digest { 2.0 } else { 1.0 };
        let mut figure = |what: &str, counted: Counted, note: String| {
            bench.figure(Figure {
                section: SECTION,
                what: format!(
                    "{}, {in_flight} in flight, {what}",
                    if self.digest { "digest" } else { "no digest" }
                ),
                value: counted.rate() * each,
                unit: "transactions/s",
                reference: Some((reference, REFERENCE)),
                goal: None,
                note,
            });
        };
        figure("SIP alone", alone, format!("{:.0} REGISTER/s", alone.rate()));
        let note = format!(
            "{:.0} REGISTER/s; {:.0} µs of CPU each; gRPC alone: {:.0} calls/s",
            whole.rate(),
            // All that the process did, the warm-up as well: so is what the registrar counted.
            cpu.as_secs_f64() / (seen as f64 / each) * 1e6,
            grpc.rate()
        );
        figure("through gRPC", whole, note);
        Ok(())
    }

    /// Processor time of the Requester.
    fn cpu(&self) -> anyhow::Result<Duration> {
        usage::cpu(u32::try_from(self.requester.pid())?)
    }
}
