//! Content of Redis: keys, lifetimes, dependencies, and what other hands left there.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use super::{contents, forget, put, record};
use crate::{
    runtime::ports::Store,
    store::{RedisStore, instance_id, keys, testing::RedisServer},
};
use routr_registration::model::{Change, Record};

const DAY: i64 = 24 * 60 * 60;

#[tokio::test]
async fn every_key_has_a_prefix_and_a_lifetime() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let instance = instance_id(&server.settings(), "here", "one").await.unwrap();
    let store = RedisStore::new(&server.settings(), &instance).unwrap().with_identity("here");
    store.load().await.unwrap();
    store.apply((0..2_000).map(|n| put(&format!("t{n}"), n)).collect()).await.unwrap();
    store.apply(vec![forget("t1")]).await.unwrap();
    let keys = admin.keys();
    assert_eq!(keys.len(), 256 + 2, "all buckets, the mark and the instance id");
    for key in &keys {
        assert!(key.starts_with("routr-registry:"), "{key}");
        let ttl: i64 = admin.ask(&["TTL", key]);
        let full = if key.starts_with("routr-registry:instance:") { 90 * DAY } else { DAY };
        assert!((full - 60..=full).contains(&ttl), "{key} lives for {ttl} s");
    }

    // Each write to a bucket renews it; so does each look at the mark for the other two.
    let bucket = format!("routr-registry:{{one}}:regs:{:02x}", keys::bucket_of("t7"));
    for key in &keys {
        let () = admin.ask(&["EXPIRE", key, "1000"]);
    }
    store.apply(vec![put("t7", 8)]).await.unwrap();
    assert_eq!(store.detect_data_loss().await, Ok(false));
    let renewed: Vec<_> =
        keys.iter().filter(|k| admin.ask::<i64>(&["TTL", k]) > 1000).map(String::as_str).collect();
    assert_eq!(renewed.len(), 3, "{renewed:?}");
    assert!(renewed.contains(&&*bucket), "{renewed:?}");
}

#[tokio::test]
async fn a_long_expiry_makes_a_long_lifetime_and_an_absurd_one_does_not() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let granting = |reference: &str, granted_s| Change::Put(Record { granted_s, ..record(reference, 1) });
    let ttl = |admin: &mut crate::store::testing::Admin, reference: &str| -> i64 {
        let bucket = format!("routr-registry:{{long}}:regs:{:02x}", keys::bucket_of(reference));
        admin.ask(&["TTL", &bucket])
    };
    let store = server.store("long");
    store.apply(vec![granting("a", 86_400)]).await.unwrap();
    assert!((2 * DAY - 60..=2 * DAY).contains(&ttl(&mut admin, "a")));
    // A later, shorter one does not shorten it, nor does a new process.
    store.apply(vec![granting("a", 60)]).await.unwrap();
    assert!(ttl(&mut admin, "a") > DAY);
    store.apply(vec![granting("b", 86_400)]).await.unwrap();
    let later = server.store("long");
    later.load().await.unwrap();
    later.apply(vec![granting("a", 60)]).await.unwrap();
    assert!(ttl(&mut admin, "a") > DAY);
    store.apply(vec![granting("c", u32::MAX)]).await.unwrap();
    assert!((14 * DAY - 60..=14 * DAY).contains(&ttl(&mut admin, "c")));
}

#[tokio::test]
async fn registries_side_by_side_do_not_touch_each_other() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let () = admin.ask(&["SET", "somebody else's", "value"]);
    let instances = ["one", "two", "one}:regs", "ON E", ""];
    let mut before: BTreeMap<String, Vec<u8>> = admin.dump();
    for instance in instances {
        let store = server.store(instance);
        assert_eq!(contents(&store).await.len(), 0, "{instance:?}");
        store.apply((0..500).map(|n| put(&format!("t{n}"), n)).collect()).await.unwrap();
        store.apply((0..100).map(|n| forget(&format!("t{n}"))).collect()).await.unwrap();
        assert_eq!(store.detect_data_loss().await, Ok(false));
        let after = admin.dump();
        assert!(after.len() > before.len());
        for (key, value) in &before {
            assert_eq!(after.get(key), Some(value), "{instance:?} touched {key}");
        }
        before = after;
    }
    // One that forgets everything leaves the others as they are.
    let store = server.store("one");
    store.apply((100..500).map(|n| forget(&format!("t{n}"))).collect()).await.unwrap();
    assert_eq!(contents(&store).await.len(), 0);
    let after = admin.dump();
    for (key, value) in before.iter().filter(|(k, _)| !k.starts_with("routr-registry:{one}:")) {
        assert_eq!(after.get(key), Some(value), "{key}");
    }
    assert!(!after.keys().any(|k| k.starts_with("routr-registry:{one}:regs:")), "empty buckets are gone");
    assert_eq!(contents(&server.store("two")).await.len(), 400);
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn garbage_is_left_out_and_counted_without_being_shown() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let store = server.store("garbage");
    store.apply(vec![put("good", 1), put("also good", 2)]).await.unwrap();
    let bucket = |n: u8| format!("routr-registry:{{garbage}}:regs:{n:02x}");
    for (n, value) in [(1, "PRIVATE"), (2, ""), (3, "\u{2}from a later version"), (3, "\u{1}")] {
        let () = admin.ask(&["HSET", &bucket(n), &format!("PRIVATE-{n}-{}", value.len()), value]);
    }
    let mut not_text = redis::cmd("HSET");
    not_text.arg(bucket(4)).arg(&[0xff_u8, 0xfe][..]).arg("x");
    let () = admin.run(&not_text);

    let log = Log::default();
    let to = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || to.clone()).with_ansi(false).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    assert_eq!(contents(&store).await.into_keys().collect::<Vec<_>>(), ["also good", "good"]);
    drop(guard);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().filter(|l| l.contains("WARN")).count(), 1, "{text}");
    assert!(text.contains("records=5"), "{text}");
    assert!(!text.contains("PRIVATE"), "{text}");
}

#[tokio::test]
async fn the_first_proposed_instance_id_wins_for_ever() {
    let server = RedisServer::start(&[]).await;
    let mut admin = server.admin(None);
    let settings = server.settings();
    assert_eq!(instance_id(&settings, "here", "one").await.unwrap(), "one");
    let () = admin.ask(&["EXPIRE", &keys::identity("", "here"), "1000"]);
    assert_eq!(instance_id(&settings, "here", "two").await.unwrap(), "one");
    assert!(admin.ask::<i64>(&["TTL", &keys::identity("", "here")]) > 89 * DAY, "a start renews it");
    assert_eq!(instance_id(&settings, "there", "two").await.unwrap(), "two");

    // Redis lost it, but the registry that has it still runs.
    let store = RedisStore::new(&settings, "one").unwrap().with_identity("here");
    store.load().await.unwrap();
    let () = admin.ask(&["FLUSHALL"]);
    assert_eq!(store.detect_data_loss().await, Ok(true));
    assert_eq!(instance_id(&settings, "here", "three").await.unwrap(), "one");
}
