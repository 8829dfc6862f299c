//! Servers that attack their clients: API servers and Requesters of hostile Registries, which send frames
//! of HTTP/2 without end and read nothing, and registrars that do the same with SIP.

use std::io;

use routr_registry::proto::common::Transport;
use routr_registry::proto::sipmessage::ResponseType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::SOON;
use super::crowd::{Bounds, Crowd, drip, flood, withstands};
use super::http2_floods::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PING, RST_STREAM, SETTINGS, UNKNOWN, WINDOW_UPDATE, field,
    frame,
};
use super::requester_access::{AccessOptions, outcome, register, registrar};
use crate::operator::harness::{Installation, TestRegistry, manifest};
use crate::support::control_plane::ControlPlane;
use crate::support::http;
use crate::support::wait::wait_until;

/// Kinds of floods, each with a server of its own.
const KINDS: usize = 9;

/// Greets as a server of HTTP/2, then floods.
async fn grpc(mut stream: TcpStream, kind: usize) -> io::Result<()> {
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    // The head of a response of gRPC: :status 200 is in the static table.
    let head = [vec![0x88], field("content-type", "application/grpc")].concat();
    let some = match kind {
        0 => frame(PING, 0, 0, &[7; 8]),
        1 => frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]),
        2 => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        3 => frame(UNKNOWN, 255, 0, &[1; 1_000]),
        4 => frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        // The others wait for the first call.
        _ => {
            let mut buffer = [0; 4_096];
            let mut came = 0;
            while came < 200 {
                match stream.read(&mut buffer).await? {
                    0 => return Ok(()),
                    length => came += length,
                }
            }
            match kind {
                5 => {
                    stream.write_all(&frame(HEADERS, 0, 1, &head)).await?;
                    frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(16_000)))
                }
                6 => {
                    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &head)).await?;
                    frame(DATA, 0, 1, &[])
                }
                7 => {
                    // A trunk without end.
                    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &head)).await?;
                    stream.write_all(&frame(DATA, 0, 1, &[0, 0x7f, 0xff, 0xff, 0xff])).await?;
                    frame(DATA, 0, 1, &[0x0a; 16_000])
                }
                _ => {
                    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &head)).await?;
                    return drip(&mut stream, &frame(DATA, 0, 1, &[0])).await;
                }
            }
        }
    };
    flood(&mut stream, &some.repeat(20)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_servers_and_requesters_that_flood_cost_the_honest_registries_nothing() {
    let plane = ControlPlane::shared().await;
    let (honest, hostile) = (plane.namespace("honest").await, plane.namespace("floods").await);
    let settings = [
        "crds.install=false".to_owned(),
        format!("watchNamespaces={{{},{}}}", honest.name(), hostile.name()),
    ];
    let cluster = Installation::install(plane, honest, &settings).await;
    let operator = cluster.start("pod-a");
    let good = TestRegistry::with(&["alice", "bob"]).await;
    cluster.apply("good", &good, "  registration: { expires: 10s }\n").await;
    cluster.condition("good", "Ready", "True", "AllRegistered").await;

    let (crowd, ports) = Crowd::of_servers(KINDS, grpc).await;
    let api = format!("apiAddr: 127.0.0.1:{}", good.api_port);
    let requester = format!("requesterAddr: 127.0.0.1:{}", good.requester_port);
    let usual = manifest("NAME", &good, "");
    assert!(usual.contains(&api) && usual.contains(&requester), "{usual}");
    let manifests = ports.iter().enumerate().flat_map(|(kind, port)| {
        let by_api = usual.replace("NAME", &format!("api-{kind}"));
        let by_requester = usual.replace("NAME", &format!("requester-{kind}"));
        [
            by_api.replace(&api, &format!("apiAddr: 127.0.0.1:{port}")),
            by_requester.replace(&requester, &format!("requesterAddr: 127.0.0.1:{port}")),
        ]
    });
    let manifests = manifests.collect::<Vec<_>>().join("---\n");
    let args = ["apply", "--server-side", "--namespace", hostile.name(), "-f", "-"];
    plane.kubectl_stdin(args, &manifests).await.ok();
    wait_until(async || crowd.opened() >= 2 * KINDS, SOON, "the hostile servers to be connected to").await;

    let granted = good.granted();
    let probe = async || match http::get(&format!("http://127.0.0.1:{}/livez", operator.public)).await {
        Ok((status, _)) if status.is_success() => Ok(()),
        other => Err(format!("{other:?}")),
    };
    withstands(&operator.service, Bounds { mib: 96, descriptors: 128 }, || vec![crowd], probe).await;
    let refreshed = async || granted.iter().all(|(user, count)| good.granted()[user] > *count);
    wait_until(refreshed, SOON, "the honest trunks to be refreshed").await;
    cluster.condition("good", "Ready", "True", "AllRegistered").await;
    let output = operator.service.output();
    assert!(!output.contains("lost the lease"), "{}", crate::support::process::tail(&output));
}

/// Takes a REGISTER over TCP, and floods.
async fn sip(mut stream: TcpStream, kind: usize) -> io::Result<()> {
    let mut buffer = [0; 4_096];
    if stream.read(&mut buffer).await? == 0 {
        return Ok(());
    }
    let options = "OPTIONS sip:x@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK1\r\nFrom: \
                   <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: \
                   70\r\nContent-Length: 0\r\n\r\n";
    match kind {
        0 => flood(&mut stream, options.repeat(50).as_bytes()).await,
        1 => flood(&mut stream, &b"\r\n".repeat(1_000)).await,
        2 => flood(&mut stream, &b"\r\n\r\n".repeat(1_000)).await,
        3 => flood(&mut stream, &b"SIP/2.0 100 Trying\r\n".repeat(100)).await,
        4 => {
            stream.write_all(b"SIP/2.0 200 OK\r\nX: ").await?;
            flood(&mut stream, &[b'a'; 4_000]).await
        }
        5 => {
            stream.write_all(b"SIP/2.0 200 OK\r\nContent-Length: 4294967295\r\n\r\n").await?;
            flood(&mut stream, &[b'a'; 4_000]).await
        }
        // Provisional responses of no transaction.
        6 => {
            let trying = options.replace("OPTIONS sip:x@127.0.0.1 SIP/2.0", "SIP/2.0 100 Trying");
            flood(&mut stream, trying.repeat(50).as_bytes()).await
        }
        _ => drip(&mut stream, options.as_bytes()).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrars_that_flood_cost_the_honest_callers_of_a_requester_nothing() {
    const KINDS: usize = 8;
    let door = AccessOptions::open(&[], &[]).await;
    let (good, _) = registrar().await;
    let (crowd, ports) = Crowd::of_servers(KINDS, sip).await;
    let mut client = door.client().await;
    let honest = async || {
        let sent = client.send_message(register(&format!("127.0.0.1:{good}"), Transport::Udp)).await;
        match sent.map(|response| outcome(response.into_inner())) {
            Ok((ResponseType::Ok, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    let calls: Vec<_> = ports
        .iter()
        .map(|port| {
            let (target, client) = (format!("127.0.0.1:{port}"), door.client());
            async move {
                let mut client = client.await;
                loop {
                    let _ = client.send_message(register(&target, Transport::Tcp)).await;
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        })
        .collect();
    let hostile = futures_util::future::join_all(calls);
    let attack = async {
        wait_until(async || crowd.opened() >= KINDS, SOON, "the hostile registrars to be connected to").await;
        // The connections of those who call the hostile ones, and to them, stay for a while.
        let bounds = Bounds { mib: 48, descriptors: 8 * KINDS };
        let idle = super::crowd::descriptors(&door.service);
        println!("{idle} descriptors while it goes on");
        withstands(&door.service, bounds, || vec![crowd], honest).await;
    };
    tokio::select! {
        () = attack => {}
        _ = hostile => {}
    }
}
