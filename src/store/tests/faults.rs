//! Redis that is not there, comes late, goes away, falls silent, or is full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::Instant,
};

use super::{contents, forget, put};
use crate::{
    config::RedisSettings,
    runtime::ports::Store,
    store::{RedisStore, instance_id, testing::RedisServer},
};
use routr_registration::model::StoreError;
use routr_types::host::HostPort;

fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Box<str> {
    let Err(StoreError::Unavailable(text)) = result else { panic!("not unavailable: {result:?}") };
    assert!(text.starts_with("127.0.0.1:"), "{text}");
    text
}

#[tokio::test]
async fn started_late() {
    let mut server = RedisServer::stopped(&[]);
    let store = server.store("late");
    let many = join_all((0..50).map(|_| store.apply(vec![put("a", 1)]))).await;
    many.into_iter().for_each(|r| drop(assert_unavailable(r)));
    // A closed port is no silence: it is not waited for.
    let text = assert_unavailable(store.ping().await);
    assert!(!text.contains("within"), "{text}");
    assert_unavailable(store.load().await);
    assert_unavailable(store.detect_data_loss().await);
    assert_unavailable(instance_id(&server.settings(), "key", "proposal").await);
    server.run().await;
    store.apply(vec![put("a", 1)]).await.unwrap();
    assert_eq!(contents(&store).await.len(), 1);
}

#[tokio::test]
async fn an_address_that_leads_nowhere_fails_in_time() {
    let server = RedisServer::stopped(&[]);
    let mut settings = server.settings();
    settings.address.host = "no-such-host.invalid".into();
    let store = RedisStore::new(&settings, "x").unwrap();
    let result = store.ping().await;
    let Err(StoreError::Unavailable(text)) = result else { panic!("{result:?}") };
    assert!(text.starts_with("no-such-host.invalid:"), "{text}");
}

#[tokio::test]
async fn killed_and_restarted_with_its_data() {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let store = server.store("killed");
    store.load().await.unwrap();
    store.apply(vec![put("a", 1), put("b", 2)]).await.unwrap();
    assert_eq!(store.detect_data_loss().await, Ok(false));
    for round in 0..3 {
        server.kill();
        assert_unavailable(store.apply(vec![put("a", 9)]).await);
        assert_unavailable(store.ping().await);
        assert_unavailable(store.detect_data_loss().await);
        server.run().await;
        // The very next call works.
        assert_eq!(store.detect_data_loss().await, Ok(false), "round {round}");
        assert_eq!(contents(&store).await.len(), 2);
    }
    // Restarted while no one looked: not one call fails.
    server.kill();
    server.run().await;
    store.apply(vec![put("c", 3)]).await.unwrap();
    assert_eq!(store.detect_data_loss().await, Ok(false));
    assert_eq!(contents(&server.store("killed")).await.len(), 3);
}

#[tokio::test]
async fn killed_and_restarted_without_its_data() {
    let mut server = RedisServer::start(&[]).await;
    let store = server.store("killed");
    store.load().await.unwrap();
    store.apply(vec![put("a", 1)]).await.unwrap();
    server.kill();
    assert_unavailable(store.detect_data_loss().await);
    server.run().await;
    assert_eq!(store.detect_data_loss().await, Ok(true));
    assert_eq!(store.detect_data_loss().await, Ok(false), "said once");
    store.apply(vec![put("a", 1)]).await.unwrap();
    assert_eq!(contents(&store).await.len(), 1);
}

#[tokio::test]
async fn restarted_with_an_older_copy_of_its_data() {
    let mut server = RedisServer::start(&[]).await;
    let store = server.store("older");
    store.load().await.unwrap();
    store.apply(vec![put("a", 1)]).await.unwrap();
    assert_eq!(store.detect_data_loss().await, Ok(false));
    let () = server.admin(None).ask(&["SAVE"]);
    store.apply(vec![put("a", 2), put("b", 1)]).await.unwrap();
    assert_eq!(store.detect_data_loss().await, Ok(false));
    server.kill();
    server.run().await;
    assert_eq!(store.detect_data_loss().await, Ok(true));
    assert_eq!(contents(&store).await["a"].cseq, 1, "this test wants the copy that was saved");
}

#[tokio::test]
async fn emptied_while_running() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let store = server.store("emptied");
    store.load().await.unwrap();
    let () = admin.ask(&["FLUSHALL"]);
    // A restart of the connection in between hides nothing.
    let () = admin.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    assert_eq!(store.detect_data_loss().await, Ok(true));
    assert_eq!(store.detect_data_loss().await, Ok(false));
}

#[tokio::test]
async fn a_loss_is_told_even_when_the_first_to_ask_did_not_wait() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let store = server.store("abandoned");
    store.load().await.unwrap();
    let () = admin.ask(&["FLUSHALL"]);
    // The mark is read, and its renewal is under way, when the question is abandoned.
    let () = admin.ask(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let renewal_waits = async {
        while admin.info("clients", "blocked_clients") == 0 {
            assert!(Instant::now() < deadline, "the mark is not renewed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = store.detect_data_loss() => panic!("answered: {answer:?}"),
        () = renewal_waits => {}
    }
    let () = admin.ask(&["CLIENT", "UNPAUSE"]);
    assert_eq!(store.detect_data_loss().await, Ok(true));
    assert_eq!(store.detect_data_loss().await, Ok(false));
}

#[tokio::test]
async fn a_start_without_redis_counts_as_a_loss() {
    let mut server = RedisServer::stopped(&[]);
    let store = server.store("first");
    assert_unavailable(store.load().await);
    server.run().await;
    assert_eq!(store.detect_data_loss().await, Ok(true));
    assert_eq!(store.detect_data_loss().await, Ok(false));
}

#[tokio::test]
async fn another_run_with_the_same_instance_is_noticed() {
    let server = RedisServer::start(&[]).await;
    let (one, other) = (server.store("same"), server.store("same"));
    one.load().await.unwrap();
    other.load().await.unwrap();
    assert_eq!(one.detect_data_loss().await, Ok(true));
    assert_eq!(one.detect_data_loss().await, Ok(false));
}

#[tokio::test]
async fn silent_then_back() {
    let server = RedisServer::start(&[]).await;
    let patience = Duration::from_millis(300);
    let store = server.store("silent").with_timeout(patience);
    store.load().await.unwrap();
    server.signal("STOP");
    let large: Vec<_> = (0..20_000).map(|n| put(&format!("t{n}"), n)).collect();
    let text = assert_unavailable(store.apply(large).await);
    assert!(text.contains("no answer within 0.3 s"), "{text}");
    let calls = join_all((0..20).map(|_| store.ping())).await;
    calls.into_iter().for_each(|r| drop(assert_unavailable(r)));
    // The kernel still accepts, but no one responds to the log-in.
    let settings = server.settings_for(None, Some("any"));
    let fresh = RedisStore::new(&settings, "silent").unwrap().with_timeout(patience);
    let text = assert_unavailable(fresh.ping().await);
    assert!(text.contains("no connection within 0.3 s"), "{text}");

    server.signal("CONT");
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(e) = store.ping().await {
        assert!(Instant::now() < deadline, "{e}");
    }
    store.apply(vec![put("a", 1)]).await.unwrap();
    assert_eq!(store.detect_data_loss().await, Ok(false));
}

#[tokio::test]
async fn a_full_redis_refuses_what_is_new_and_lets_go_of_what_is_old() {
    let server = RedisServer::start(&["--maxmemory-policy", "noeviction"]).await;
    let mut admin = server.admin(None);
    let store = server.store("full");
    store.load().await.unwrap();
    store.apply(vec![put("a", 1), put("b", 1)]).await.unwrap();
    let () = admin.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let result = store.apply(vec![put("c", 1), forget("b")]).await;
    let Err(StoreError::Refused(text)) = &result else { panic!("{result:?}") };
    assert!(text.contains("OOM"), "{text}");
    store.ping().await.unwrap();
    assert_eq!(contents(&store).await.into_keys().collect::<Vec<_>>(), ["a"]);
    let () = admin.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.detect_data_loss().await, Ok(true), "the put of c was lost");
    store.apply(vec![put("c", 1)]).await.unwrap();
    assert_eq!(contents(&store).await.len(), 2);
}

#[tokio::test]
async fn a_replica_and_a_crowd_are_waited_out() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let store = server.store("replica");
    store.apply(vec![put("a", 1)]).await.unwrap();
    let () = admin.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    let text = assert_unavailable(store.apply(vec![put("a", 2)]).await);
    assert!(text.contains("READONLY"), "{text}");
    let () = admin.ask(&["REPLICAOF", "NO", "ONE"]);
    store.apply(vec![put("a", 3)]).await.unwrap();

    let () = admin.ask(&["CONFIG", "SET", "maxclients", "1"]);
    let crowded = [None, Some("any")].map(|password| server.settings_for(None, password));
    for settings in crowded {
        assert_unavailable(RedisStore::new(&settings, "x").unwrap().ping().await);
    }
}

/// Starts a server that responds to every request but PING with that much of the same.
async fn flood(once: &'static [u8], again: &'static [u8]) -> (RedisSettings, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Arc::<AtomicU64>::default();
    let counted = sent.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sent = counted.clone();
            tokio::spawn(async move {
                let mut asked = [0; 4_096];
                while let Ok(length @ 1..) = stream.read(&mut asked).await {
                    if asked[..length].windows(4).any(|bytes| bytes == b"PING") {
                        stream.write_all(b"+PONG\r\n").await.unwrap();
                        continue;
                    }
                    let many = again.repeat((1 << 20) / again.len().max(1));
                    drop(stream.write_all(once).await);
                    // Four gigabytes, where they are taken.
                    while sent.load(Ordering::Relaxed) < 4 << 30 && stream.write_all(&many).await.is_ok() {
                        sent.fetch_add(many.len() as u64, Ordering::Relaxed);
                        if many.is_empty() {
                            break;
                        }
                    }
                }
            });
        }
    });
    (RedisSettings::new(HostPort::new("127.0.0.1", address.port())), sent)
}

#[tokio::test]
async fn one_that_sends_gigabytes_or_nests_without_end_is_left() {
    let floods: [(&'static [u8], &'static [u8]); 8] = [
        (b"$2147483647\r\n", b"x"),
        (b"*2147483647\r\n", b"$0\r\n\r\n"),
        (b"*1000000\r\n", b"*2147483647\r\n"),
        (b"", b"*1\r\n"),
        (b"", b"+OK\r\n"),
        (b"*-2\r\n", b""),
        (b"$99999999999999999999\r\n", b""),
        (b"*2147483647\r\n", b""),
    ];
    for (once, again) in floods {
        let (settings, sent) = flood(once, again).await;
        let store = RedisStore::new(&settings, "flood").unwrap().with_timeout(Duration::from_secs(2));
        let shown = String::from_utf8_lossy(once).into_owned();
        // A server that says OK to everything may be believed.
        assert!(store.load().await.is_err() || again == b"+OK\r\n", "{shown:?}");
        drop(store.apply(vec![put("a", 1)]).await);
        // A connection that took 8 MiB too much is ended; a call makes two at most, and the kernel has some.
        let sent = sent.load(Ordering::Relaxed) >> 20;
        assert!(sent < 128, "{shown:?}: {sent} MiB were taken");
    }
}
