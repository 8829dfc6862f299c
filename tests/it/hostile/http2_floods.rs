//! Attacks with HTTP/2 on the Requester's gRPC port: floods of frames, and callers that are slow on purpose.
//! An honest caller is served all the time.

use std::io;
use std::time::Duration;

use prost::Message as _;
use routr_registry::proto::common::Transport;
use routr_registry::proto::sipmessage::ResponseType;
use routr_registry::requester::DEFAULT_CAPACITY;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::crowd::{Bounds, Crowd, drip, flood, hold, withstands};
use super::requester_access::{AccessOptions, outcome, register, registrar};

/// Connections that the Requester allows.
const PLACES: usize = 32;
/// Attackers: more than there are places.
const ATTACKERS: usize = 3 * PLACES;
/// MiB that an attack may cost: some hundred KB for each connection, and 20 KB for each of the calls that one
/// host may have under way.
const MIB: usize = 48 + DEFAULT_CAPACITY as usize * 20 / 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Types of frames, and flags (RFC 9113 section 6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const UNKNOWN: u8 = 99;
const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The setting 4, INITIAL_WINDOW_SIZE: nothing may be sent on a stream.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

fn greeting(settings: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()
}

/// A header field that is not kept in the table (RFC 7541 section 6.2.2).
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let string = |text: &str| {
        let mut string = Vec::new();
        match u8::try_from(text.len()) {
            Ok(length @ ..127) => string.push(length),
            // Section 5.1: the rest in groups of seven bits.
            _ => {
                string.push(127);
                let mut rest = text.len() - 127;
                while rest >= 128 {
                    string.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                string.push(u8::try_from(rest).unwrap());
            }
        }
        string.extend(text.as_bytes());
        string
    };
    [vec![0], string(name), string(value)].concat()
}

/// The head of a call.
fn call() -> Vec<u8> {
    // :method POST and :scheme http are in the static table.
    let mut block = vec![0x83, 0x86];
    block.extend(field(":path", "/fonoster.routr.requester.v2beta1.Requester/SendMessage"));
    block.extend(field(":authority", "requester"));
    block.extend(field("content-type", "application/grpc"));
    block.extend(field("te", "trailers"));
    block
}

/// A whole call: its head, and a REGISTER to this port.
fn whole_call(stream: u32, registrar: u16) -> Vec<u8> {
    let message = register(&format!("127.0.0.1:{registrar}"), Transport::Udp).encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    [frame(HEADERS, END_HEADERS, stream, &call()), frame(DATA, END_STREAM, stream, &framed)].concat()
}

/// The streams of a client, in order.
fn streams() -> impl Iterator<Item = u32> {
    (1..1 << 31).step_by(2)
}

/// Lets `attack` go on against a Requester, which an honest caller uses over a new connection each time.
async fn requester_withstands<F>(attack: impl Fn(TcpStream, usize, u16) -> F + Clone + Send + 'static)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let door = AccessOptions::open(&["--max-connections", &PLACES.to_string()], &[]).await;
    let (registrar, _) = registrar().await;
    let honest = async || {
        let mut problem = String::new();
        // As a registry does, it makes another connection where one is reset before the response.
        for _ in 0..3 {
            let mut client = door.client().await;
            let sent = client.send_message(register(&format!("127.0.0.1:{registrar}"), Transport::Udp)).await;
            match sent.map(|response| outcome(response.into_inner())) {
                Ok((ResponseType::Ok, _)) => return Ok(()),
                other => problem = format!("{other:?}"),
            }
        }
        Err(problem)
    };
    honest().await.unwrap();
    let start = || vec![Crowd::at(door.port, ATTACKERS, move |stream, n| attack(stream, n, registrar))];
    // As many again may wait until they are thrown out; and the socket of the SIP side.
    let bounds = Bounds { mib: MIB, descriptors: 2 * PLACES + 8 };
    withstands(&door.service, bounds, start, honest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_blocks_without_end() {
    requester_withstands(async |mut stream: TcpStream, number, _| {
        stream.write_all(&greeting(&[])).await?;
        stream.write_all(&frame(HEADERS, 0, 1, &call())).await?;
        let long = field("x", &"y".repeat(16_000));
        // One entry of the table, and thousands of references to it (RFC 7541 section 6.1).
        let entry = [vec![0x40], field("x", &"z".repeat(4_000))[1..].to_vec()].concat();
        let bomb = [entry, vec![0x80 | 62; 12_000]].concat();
        let block: &[u8] = match number % 4 {
            0 => &long,
            1 => b"",
            2 => b"\x83",
            _ => &bomb,
        };
        flood(&mut stream, &frame(CONTINUATION, 0, 1, block).repeat(4)).await
    })
    .await;
}

/// CVE-2023-44487, with heads alone and with whole calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_reset_at_once() {
    requester_withstands(async |mut stream: TcpStream, number, registrar| {
        stream.write_all(&greeting(&[])).await?;
        let mut all = streams();
        loop {
            let mut some = Vec::new();
            for id in all.by_ref().take(50) {
                match number % 3 {
                    0 => some.extend(frame(HEADERS, END_HEADERS, id, &call())),
                    1 => some.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &call())),
                    _ => some.extend(whole_call(id, registrar)),
                }
                some.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
            }
            stream.write_all(&some).await?;
            // What is sent by then has begun.
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_want_an_answer_which_is_not_read() {
    requester_withstands(async |mut stream: TcpStream, number, _| {
        stream.write_all(&greeting(&[])).await?;
        let some = match number % 7 {
            0 => frame(PING, 0, 0, &[7; 8]),
            1 => frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]),
            2 => frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0].repeat(2_000)),
            3 => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 0]),
            4 => frame(PRIORITY, 0, 5, &[0, 0, 0, 3, 9]),
            5 => frame(UNKNOWN, 255, 0, &[1; 1_000]),
            _ => {
                // A call whose message comes in pieces of nothing.
                stream.write_all(&frame(HEADERS, END_HEADERS, 1, &call())).await?;
                frame(DATA, 0, 1, &[])
            }
        };
        flood(&mut stream, &some.repeat(50)).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_never_come_to_an_end() {
    requester_withstands(async |mut stream: TcpStream, number, registrar| match number % 6 {
        0 => {
            stream.write_all(&PREFACE[..10]).await?;
            hold(&mut stream).await
        }
        1 => drip(&mut stream, &greeting(&[])).await,
        // Half a frame.
        2 => {
            stream.write_all(&greeting(&[])).await?;
            stream.write_all(&frame(HEADERS, END_HEADERS, 1, &call())[..20]).await?;
            hold(&mut stream).await
        }
        // As many calls as are allowed, and no message; then their messages, byte by byte.
        3 => {
            stream.write_all(&greeting(&[])).await?;
            for id in streams().take(200) {
                stream.write_all(&frame(HEADERS, END_HEADERS, id, &call())).await?;
            }
            hold(&mut stream).await
        }
        4 => {
            stream.write_all(&greeting(&[])).await?;
            stream.write_all(&frame(HEADERS, END_HEADERS, 1, &call())).await?;
            drip(&mut stream, &frame(DATA, 0, 1, b"\0")).await
        }
        // One call after the other, so that it is never idle: the message of each never comes.
        _ => {
            stream.write_all(&greeting(&[])).await?;
            for id in streams() {
                stream.write_all(&frame(HEADERS, END_HEADERS, id, &call())).await?;
                stream.write_all(&whole_call(id + 100_000, registrar)[..30]).await?;
                sleep(Duration::from_millis(300)).await;
            }
            Ok(())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_do_not_take_the_responses() {
    requester_withstands(async |mut stream: TcpStream, number, registrar| {
        // No window for each stream, or the whole window and a socket that is not read.
        let settings: &[u8] = if number.is_multiple_of(2) { &NO_WINDOW } else { &[] };
        stream.write_all(&greeting(settings)).await?;
        for id in streams() {
            stream.write_all(&whole_call(id, registrar)).await?;
            if number.is_multiple_of(3) {
                stream.write_all(&frame(PING, 0, 0, &[7; 8]).repeat(20)).await?;
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    })
    .await;
}
