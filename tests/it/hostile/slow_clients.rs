//! Attacks with HTTP/1.1 on the public and the private port, of the operator and of the stand-alone program:
//! clients that are slow on purpose, that send without end, and that do not read. Probes are answered all the
//! time.

use std::io;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::SOON;
use super::crowd::{Bounds, Crowd, drip, flood, hold, withstands};
use crate::operator::harness::Installation;
use crate::standalone::test_registry::TestRegistry;
use crate::support::control_plane::ControlPlane;
use crate::support::http;
use crate::support::process::Process;
use crate::support::wait::wait_until;

/// Connections that each port serves at a time.
const PLACES: usize = 128;
/// Attackers of each port: more than it has places.
const ATTACKERS: usize = PLACES + PLACES / 4;

async fn attack(mut stream: TcpStream, number: usize) -> io::Result<()> {
    match number % 10 {
        // Half a request line, for ever; the rest of the head, byte by byte.
        0 => {
            stream.write_all(b"GET /live").await?;
            hold(&mut stream).await
        }
        1 => {
            stream.write_all(b"GET /livez HTTP/1.1\r\n").await?;
            drip(&mut stream, b"X-A: b\r\n").await
        }
        // A request line, a header field, and a number of them, without end.
        2 => flood(&mut stream, &[b'a'; 1_000]).await,
        3 => {
            stream.write_all(b"GET /livez HTTP/1.1\r\nX-A: ").await?;
            flood(&mut stream, &[b'a'; 1_000]).await
        }
        4 => {
            stream.write_all(b"GET /livez HTTP/1.1\r\n").await?;
            flood(&mut stream, &b"X-A: b\r\n".repeat(100)).await
        }
        // Requests one after the other, and no response is read.
        5 => {
            let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
            flood(&mut stream, &request.repeat(20)).await
        }
        6 => {
            let request = b"GET /registrations?limit=500 HTTP/1.1\r\nHost: localhost\r\n\r\n";
            flood(&mut stream, &request.repeat(20)).await
        }
        // A body without end, at once and in chunks; and none of the one that was announced.
        7 => {
            stream
                .write_all(b"POST /registrations/t0/refresh HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            flood(&mut stream, b"5\r\nhello\r\n").await
        }
        8 => {
            stream
                .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n")
                .await?;
            drip(&mut stream, b"x").await
        }
        // Connections that come and go.
        _ => Ok(()),
    }
}

/// The attack on these ports goes on while `/livez` answers, and each private path.
async fn ports_withstand(
    process: &Process,
    ports: [u16; 2],
    honest: impl AsyncFnMut() -> Result<(), String>,
) {
    let start = || ports.map(|port| Crowd::at(port, ATTACKERS, attack)).into();
    // Of each port 32 MiB of responses may wait to be taken (`admin::connections`), and half of that goes to
    // the connections themselves. As many again may wait until they are thrown out.
    withstands(process, Bounds { mib: 2 * 48, descriptors: 4 * PLACES }, start, honest).await;
}

async fn answers(url: &str) -> Result<(), String> {
    match http::get(url).await {
        Ok((status, _)) if status.is_success() => Ok(()),
        Ok((status, body)) => Err(format!("{url}: {status}: {body:?}")),
        Err(error) => Err(error),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stand_alone_program_is_probed_and_asked_meanwhile() {
    let mut stage = TestRegistry::bare().await;
    let names: Vec<String> = (0..300).map(|n| format!("t{n}")).collect();
    stage.trunks(&names.iter().map(String::as_str).collect::<Vec<_>>());
    stage.start_api().await;
    let service = stage.run(&[]);
    let listed = async || stage.views().await.is_ok_and(|views| views.len() == names.len());
    wait_until(listed, SOON, "the trunks to be listed").await;
    let honest = async || {
        for path in ["livez", "metrics"] {
            answers(&format!("http://127.0.0.1:{}/{path}", stage.public)).await?;
        }
        answers(&format!("http://127.0.0.1:{}/registrations", stage.private)).await
    };
    ports_withstand(&service, [stage.public, stage.private], honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_is_probed_and_asked_meanwhile() {
    let cluster = Installation::on(ControlPlane::shared().await, "slow-clients", &[]).await;
    let stage = TestRegistry::with(&["alice"]).await;
    let operator = cluster.start("pod-a");
    cluster.apply("honest", &stage, "").await;
    cluster.condition("honest", "Ready", "True", "AllRegistered").await;
    let honest = async || {
        for path in ["livez", "readyz", "metrics"] {
            answers(&format!("http://127.0.0.1:{}/{path}", operator.public)).await?;
        }
        answers(&format!("http://127.0.0.1:{}/registries", operator.private)).await
    };
    ports_withstand(&operator.service, [operator.public, operator.private], honest).await;
}
