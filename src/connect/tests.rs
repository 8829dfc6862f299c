use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpListener, time::Instant};

use super::*;
use routr_net::{connect::interleave, testing::Silent};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn g5_families_take_turns_and_repetitions_go() {
    let all = ["[::1]:1", "[::2]:1", "[::1]:1", "10.0.0.1:1", "[::3]:1", "10.0.0.2:1"].map(address);
    let turns = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"].map(address);
    assert_eq!(interleave(all.to_vec()), turns);
    assert_eq!(interleave(Vec::new()), Vec::new());
}

#[tokio::test(start_paused = true)]
async fn g5_the_next_address_starts_after_250_ms_and_at_once_after_a_failure() {
    let addresses = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"].map(address);
    let started = Mutex::new(Vec::new());
    let began = Instant::now();
    let started = &started;
    let won = race(&addresses, |at: SocketAddr| async move {
        started.lock().unwrap().push((at, began.elapsed().as_millis()));
        match at.ip().to_string().as_str() {
            "10.0.0.1" => std::future::pending().await,
            "10.0.0.2" => Err("refused"),
            _ => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(at)
            }
        }
    })
    .await;
    assert_eq!(won, Ok(addresses[2]));
    let at = |index: usize, ms| (addresses[index], ms);
    assert_eq!(*started.lock().unwrap(), [at(0, 0), at(1, 250), at(2, 250)]);
}

#[tokio::test]
async fn g5_all_that_failed_are_named_in_their_order() {
    let addresses = ["10.0.0.1:1", "10.0.0.2:1"].map(address);
    let failed =
        race(&addresses, |at: SocketAddr| async move { Err::<(), _>(at.to_string()) }).await.unwrap_err();
    let text = ConnectError::at_each(&failed).to_string();
    assert_eq!(text, "10.0.0.1:1, at 10.0.0.1:1; 10.0.0.2:1, at 10.0.0.2:1");
    assert_eq!(race(&[], |_| async { Ok::<(), ()>(()) }).await, Err(Vec::new()));
}

#[tokio::test]
async fn g5_a_first_address_that_answers_no_syn_does_not_stop_a_connection() {
    let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = good.local_addr().unwrap().port();
    let silent = Silent::at("127.0.0.2", port).await;
    let addresses = vec![silent.address, good.local_addr().unwrap()];
    let resolver = Resolver::scripted(move |_| Ok(addresses.clone()));
    let options = SocketOptions::within(Duration::from_secs(20), &Arc::default());
    let stream =
        dial(&HostPort::new("pods.test", port), &resolver, &options, &Payers::default()).await.unwrap();
    assert_eq!(stream.stream().peer_addr().unwrap(), good.local_addr().unwrap());
}

#[tokio::test]
async fn g5_a_name_that_is_unknown_is_named() {
    let resolver = Resolver::scripted(|_| Err(std::io::Error::other("Name or service not known")));
    let options = SocketOptions::within(Duration::from_secs(20), &Arc::default());
    let error =
        dial(&HostPort::new("nowhere.test", 1), &resolver, &options, &Payers::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "nowhere.test cannot be looked up: Name or service not known");
}

#[tokio::test]
async fn of_thousands_of_addresses_some_are_used() {
    let all: Vec<SocketAddr> =
        (0..4_000_u32).map(|n| SocketAddr::new((0x7f40_0000 + n).to_be_bytes().into(), 1)).collect();
    let resolver = Resolver::scripted(move |_| Ok(all.clone()));
    let found = resolver.resolve(&HostPort::new("many.test", 1), &Payers::default()).await.unwrap();
    assert_eq!(found.len(), super::resolve::MAX_ADDRESSES);
    // None of them takes the connection: what is said stays short.
    let options = SocketOptions::within(Duration::from_secs(20), &Arc::default());
    let error =
        dial(&HostPort::new("many.test", 1), &resolver, &options, &Payers::default()).await.unwrap_err();
    assert!(error.to_string().len() < 64 * 60, "{error}");
}
