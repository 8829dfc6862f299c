//! A registrar that answers REGISTERs as none should.

use std::io;
use std::net::Ipv4Addr;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::{ENOUGH, Sip};

/// The largest datagram that IPv4 can carry, in bytes.
const LARGEST: usize = 65_507;
/// Unasked responses for each request.
const FLOOD: usize = 200;

pub async fn run(kind: Sip, listener: TcpListener, socket: UdpSocket, victim: u16) {
    tokio::join!(over_udp(kind, socket, victim), over_tcp(kind, listener));
}

async fn over_udp(kind: Sip, socket: UdpSocket, victim: u16) {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
        for answer in answers(kind, &request, &mut rng) {
            let _ = socket.send_to(&answer, from).await;
        }
        if kind == Sip::Flood {
            // Straight to its socket, from an address that it never sent to.
            for _ in 0..FLOOD {
                let _ = socket
                    .send_to(
                        &response(&request, "z9hG4bKnobody", "nobody", "1"),
                        (Ipv4Addr::LOCALHOST, victim),
                    )
                    .await;
            }
        }
    }
}

async fn over_tcp(kind: Sip, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // It ends when the other side has enough.
            let _ = serve(kind, stream).await;
        });
    }
}

async fn serve(kind: Sip, mut stream: TcpStream) -> io::Result<()> {
    let mut rng = SmallRng::seed_from_u64(4);
    let mut buffer = vec![0; 65_536];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        if kind == Sip::Flood {
            stream.write_all(b"SIP/2.0 200 OK\r\n").await?;
            let line = b"X-Endless: of these there are very many, and no end to them\r\n".repeat(1_000);
            for _ in 0..ENOUGH / line.len() {
                stream.write_all(&line).await?;
            }
        }
        // Several requests may have come together.
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        for request in text.split_inclusive("\r\n\r\n") {
            for answer in answers(kind, request, &mut rng) {
                stream.write_all(&answer).await?;
            }
        }
    }
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let line = request.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
    line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
}

/// A 200 for this request, but with another branch, Call-ID or CSeq where one is given.
fn response(request: &str, branch: &str, call_id: &str, cseq: &str) -> Vec<u8> {
    let via = header(request, "via");
    let via =
        if branch.is_empty() { via.to_owned() } else { format!("SIP/2.0/UDP 127.0.0.1;branch={branch}") };
    let call_id = if call_id.is_empty() { header(request, "call-id") } else { call_id };
    let cseq = if cseq.is_empty() { header(request, "cseq").to_owned() } else { format!("{cseq} REGISTER") };
    let (from, to, contact) = (header(request, "from"), header(request, "to"), header(request, "contact"));
    format!(
        "SIP/2.0 200 OK\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to};tag=x\r\nCall-ID: {call_id}\r\nCSeq: {cseq}\r\n\
         Contact: {contact};expires=3600\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn answers(kind: Sip, request: &str, rng: &mut SmallRng) -> Vec<Vec<u8>> {
    match kind {
        Sip::Garbage => {
            let length = if rng.random_range(0..4) == 0 { LARGEST } else { rng.random_range(0..2_000) };
            let mut bytes = vec![0; length];
            rng.fill_bytes(&mut bytes);
            vec![bytes]
        }
        Sip::WrongCallId => vec![response(request, "", "another@example.com", "")],
        Sip::WrongCseq => vec![
            response(request, "", "", "2147483647"),
            response(request, "", "", "-1"),
            response(request, "z9hG4bKanother", "", ""),
        ],
        Sip::Flood => {
            (0..FLOOD).map(|n| response(request, &format!("z9hG4bK{n}"), &format!("{n}@x"), "1")).collect()
        }
        Sip::Broken => {
            let good = String::from_utf8_lossy(&response(request, "", "", "")).into_owned();
            let broken = match rng.random_range(0..8) {
                0 => good.replace("Content-Length: 0", "Content-Length: 4294967295"),
                1 => good.replace("Content-Length: 0", "Content-Length: -1"),
                2 => good.replace("expires=3600", "expires=99999999999999999999"),
                3 => good.replace("SIP/2.0 200 OK", "SIP/2.0 999999 OK"),
                4 => good.replace("CSeq:", "CSeq: 1 REGISTER\r\nCSeq:"),
                5 => good.replace("Call-ID:", "Call-ID\r\n :\r\nCall-ID:"),
                6 => good.replace(
                    "\r\nContact",
                    &format!("\r\nContact: <{}>\r\nContact", "sip:a@b,".repeat(4_000)),
                ),
                _ => good.replace("\r\n", "\n").replace("200 OK", "200"),
            };
            vec![broken.into_bytes()]
        }
    }
}
