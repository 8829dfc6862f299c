//! The contract of [`Store`], run against every store there is.

mod access;
mod faults;
mod layout;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{MemoryStore, codec, testing::RedisServer};
use crate::runtime::ports::Store;
use routr_registration::model::{Change, EarlierBinding, Record, RecordExtras, RefusalRecord};

fn decode(reference: Box<str>, bytes: &[u8]) -> Option<Record> {
    codec::Decoder::default().decode(reference, bytes)
}

pub(super) fn record(reference: &str, cseq: u32) -> Record {
    Record {
        reference: reference.into(),
        cseq,
        aor: format!("user-{reference}@sip.example.com").into(),
        expires_at_ms: 1_790_000_000_000 + u64::from(cseq),
        granted_s: 600,
        edge_port: "edge.example:5060".into(),
        more: None,
    }
}

fn more() -> RecordExtras {
    let refusal = RefusalRecord {
        unknown_account: true,
        aor: "a@b".into(),
        username: "a".into(),
        until_ms: u64::MAX,
        since_ms: 1,
        times: 3,
    };
    let earlier = EarlierBinding { aor: "a@c".into(), edge_port: "e:1".into(), expires_at_ms: 7 };
    RecordExtras { refusals: vec![refusal], earlier: vec![earlier] }
}

pub(super) fn put(reference: &str, cseq: u32) -> Change {
    Change::Put(record(reference, cseq))
}

pub(super) fn forget(reference: &str) -> Change {
    Change::Forget(reference.into())
}

/// Returns what the store holds, by ref. Fails where it holds two records of one ref.
pub(super) async fn contents(store: &impl Store) -> BTreeMap<String, Record> {
    let records = store.load().await.unwrap();
    let count = records.len();
    let by_ref: BTreeMap<_, _> = records.into_iter().map(|r| (r.reference.to_string(), r)).collect();
    assert_eq!(by_ref.len(), count, "a ref came twice");
    by_ref
}

fn expected<'a>(records: impl IntoIterator<Item = (&'a str, u32)>) -> BTreeMap<String, Record> {
    records.into_iter().map(|(r, cseq)| (r.to_owned(), record(r, cseq))).collect()
}

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::MemoryStore::new()).await;
            })*
        }
        mod in_redis {
            $(#[tokio::test]
            async fn $case() {
                let server = super::RedisServer::start(&[]).await;
                super::$case(&server.store("contract")).await;
            })*
        }
    };
}

contract! {
    a_new_store_is_empty_and_there,
    what_is_put_is_loaded,
    a_put_replaces,
    what_is_forgotten_is_gone,
    changes_of_one_batch_apply_in_order,
    applying_again_changes_nothing,
    an_empty_batch_is_fine,
    any_text_is_a_ref,
    extreme_values_survive,
    large_batches_are_kept_whole,
    random_changes_agree_with_a_model,
    nothing_is_lost_while_nothing_happens,
}

async fn a_new_store_is_empty_and_there(store: &impl Store) {
    store.ping().await.unwrap();
    assert_eq!(store.load().await.unwrap(), []);
}

async fn what_is_put_is_loaded(store: &impl Store) {
    store.apply(vec![put("b", 2), put("a", 1)]).await.unwrap();
    store.apply(vec![put("c", 3)]).await.unwrap();
    assert_eq!(contents(store).await, expected([("a", 1), ("b", 2), ("c", 3)]));
}

async fn a_put_replaces(store: &impl Store) {
    store.apply(vec![put("a", 1), put("b", 1)]).await.unwrap();
    let newer = Record { aor: "other@elsewhere".into(), granted_s: 60, ..record("a", 7) };
    store.apply(vec![Change::Put(newer.clone())]).await.unwrap();
    let mut all = contents(store).await;
    assert_eq!(all.remove("a"), Some(newer));
    assert_eq!(all, expected([("b", 1)]));
}

async fn what_is_forgotten_is_gone(store: &impl Store) {
    store.apply(vec![put("a", 1), put("b", 1)]).await.unwrap();
    store.apply(vec![forget("a"), forget("never there")]).await.unwrap();
    assert_eq!(contents(store).await, expected([("b", 1)]));
    store.apply(vec![forget("b")]).await.unwrap();
    assert_eq!(contents(store).await, expected([]));
}

async fn changes_of_one_batch_apply_in_order(store: &impl Store) {
    store.apply(vec![put("old", 1)]).await.unwrap();
    let batch = vec![
        put("a", 1),
        put("a", 2),
        forget("b"),
        put("b", 3),
        put("c", 4),
        forget("c"),
        forget("old"),
        put("old", 5),
        put("old", 6),
    ];
    store.apply(batch).await.unwrap();
    assert_eq!(contents(store).await, expected([("a", 2), ("b", 3), ("old", 6)]));
}

async fn applying_again_changes_nothing(store: &impl Store) {
    let batch = vec![put("a", 1), put("b", 2), forget("b"), put("c", 3)];
    store.apply(batch.clone()).await.unwrap();
    let once = contents(store).await;
    store.apply(batch).await.unwrap();
    assert_eq!(contents(store).await, once);
    assert_eq!(once, expected([("a", 1), ("c", 3)]));
}

async fn an_empty_batch_is_fine(store: &impl Store) {
    store.apply(vec![]).await.unwrap();
    assert_eq!(contents(store).await, expected([]));
}

async fn any_text_is_a_ref(store: &impl Store) {
    let long = "r".repeat(10_000);
    let refs =
        ["ключ-ü-電話-🙂", " ", "a b", "a\r\nFLUSHALL\r\n", "\0", "{a}:*", "%s", "null", "A", "a", &*long];
    store.apply(refs.iter().map(|r| put(r, 1)).collect()).await.unwrap();
    assert_eq!(contents(store).await, expected(refs.map(|r| (r, 1))));
    store.apply(refs.iter().map(|r| forget(r)).collect()).await.unwrap();
    assert_eq!(contents(store).await, expected([]));
}

async fn extreme_values_survive(store: &impl Store) {
    let low = Record { reference: "low".into(), ..Record::default() };
    let high = Record {
        reference: "high".into(),
        cseq: (1 << 31) - 1,
        aor: "ü@[2001:db8::1]".into(),
        expires_at_ms: u64::MAX,
        granted_s: u32::MAX,
        edge_port: "[2001:db8::2]:65535".into(),
        more: Some(Box::new(more())),
    };
    store.apply(vec![Change::Put(low.clone()), Change::Put(high.clone())]).await.unwrap();
    let all = contents(store).await;
    assert_eq!(all.get("low"), Some(&low));
    assert_eq!(all.get("high"), Some(&high));
}

async fn large_batches_are_kept_whole(store: &impl Store) {
    let name = |n: u32| format!("trunk-{n:05}");
    store.apply((0..10_000).map(|n| put(&name(n), n)).collect()).await.unwrap();
    // More than one round trip, with puts and forgets of the same refs in each.
    let mixed = (0..25_000u32).map(|n| match n % 3 {
        0 => forget(&name(n % 10_000)),
        _ => put(&name(n % 10_000), 20_000 + n % 10_000),
    });
    let mixed: Vec<_> = mixed.collect();
    let mut model: BTreeMap<_, _> = (0..10_000).map(|n| (name(n), record(&name(n), n))).collect();
    for change in &mixed {
        match change {
            Change::Put(r) => model.insert(r.reference.to_string(), r.clone()),
            Change::Forget(r) => model.remove(&**r),
        };
    }
    store.apply(mixed).await.unwrap();
    // No assert_eq: ten thousand records are no message.
    assert!(contents(store).await == model, "the store and the model differ");
}

async fn random_changes_agree_with_a_model(store: &impl Store) {
    let mut state = 0x9e37_79b9_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut model: BTreeMap<String, Record> = BTreeMap::new();
    for _ in 0..100 {
        let mut batch = Vec::new();
        for _ in 0..random(12) {
            let reference = format!("t{}", random(20));
            if random(3) == 0 {
                model.remove(&reference);
                batch.push(forget(&reference));
            } else {
                let cseq = u32::try_from(random(1 << 31)).unwrap();
                model.insert(reference.clone(), record(&reference, cseq));
                batch.push(put(&reference, cseq));
            }
        }
        store.apply(batch).await.unwrap();
        assert_eq!(contents(store).await, model);
    }
}

async fn nothing_is_lost_while_nothing_happens(store: &impl Store) {
    store.load().await.unwrap();
    for _ in 0..3 {
        assert_eq!(store.detect_data_loss().await, Ok(false));
        store.apply(vec![put("a", 1)]).await.unwrap();
        store.ping().await.unwrap();
    }
}

#[test]
fn the_encoding_stays_as_it_was_first_written() {
    let first = Record {
        reference: "t".into(),
        cseq: 300,
        aor: "u@h".into(),
        expires_at_ms: 128,
        granted_s: 60,
        ..Record::default()
    };
    // Version 1; each number 7 bits at a time, lowest first; the text after its length.
    let v1 = [1, 0xac, 2, 0x80, 1, 60, 3, b'u', b'@', b'h'];
    assert_eq!(decode("t".into(), &v1), Some(first.clone()), "an upgrade loses what was kept");
    let second = Record { edge_port: "e:1".into(), ..first };
    let v2 = [2, 0xac, 2, 0x80, 1, 60, 3, b'u', b'@', b'h', 3, b'e', b':', b'1', 0];
    assert_eq!(codec::encode(&second, Vec::new()).unwrap(), v2);
    assert_eq!(decode("t".into(), &v2), Some(second));
}

#[test]
fn what_is_no_record_is_refused() {
    let good = codec::encode(&record("t", 1), Vec::new()).unwrap();
    for end in 0..good.len() {
        assert_eq!(decode("t".into(), &good[..end]), None, "cut at {end}");
    }
    let longer = [&*good, &[0]].concat();
    assert_eq!(decode("t".into(), &longer), None);
    let mut later = good.clone();
    later[0] = 3;
    assert_eq!(decode("t".into(), &later), None);
    assert_eq!(decode("".into(), &good), None);
    let too_high = codec::encode(&record("t", 1 << 31), Vec::new()).unwrap();
    assert_eq!(decode("t".into(), &too_high), None);
}

proptest! {
    #[test]
    fn the_encoding_gives_back_what_it_got(
        reference in ".+", cseq in 0u32..1 << 31, aor in ".*", expires_at_ms: u64, granted_s: u32, edge in ".*", refused: bool,
    ) {
        let (reference, aor, edge_port) = (reference.into(), aor.into(), edge.into());
        let more = refused.then(|| Box::new(more()));
        let record = Record { reference, cseq, aor, expires_at_ms, granted_s, edge_port, more };
        let bytes = codec::encode(&record, Vec::new()).unwrap();
        prop_assert_eq!(decode(record.reference.clone(), &bytes), Some(record));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes: Vec<u8>) {
        let any = decode("t".into(), &bytes);
        if let Some(first) = bytes.first_mut() {
            *first = 2;
        }
        let this_version = decode("t".into(), &bytes);
        for record in [any, this_version].into_iter().flatten() {
            prop_assert!(record.cseq < 1 << 31);
        }
    }
}
