//! A value of the hash in Redis under the name of a trunk, and the names of the keys around it.

use std::num::NonZeroU32;

use rand::{SeedableRng as _, rngs::SmallRng};
use routr_registration::{
    model::Record,
    registration::{Binding, EdgePortId, Registration, Settings, UriIndex, UriRank, time::Moment},
};
use routr_registry::store::{
    codec::{self, Decoder},
    keys,
};

use super::support::{Input, text};

fn decode(reference: Box<str>, bytes: &[u8]) -> Option<Record> {
    Decoder::default().decode(reference, bytes)
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let length = input.byte();
    let reference = text(input.take(length.into()));
    assert_safe(&reference);
    let Some(record) = decode(reference.as_str().into(), input.rest()) else { return };
    assert!(record.cseq < 1 << 31 && !record.reference.is_empty());
    let written = codec::encode(&record, Vec::new()).unwrap();
    assert_eq!(decode(record.reference.clone(), &written).as_ref(), Some(&record));
    // Every prefix of a value is none.
    for length in 0..written.len() {
        assert_eq!(decode(record.reference.clone(), &written[..length]), None);
    }
    assert_resumes(&record);
}

/// Whatever text it is made of, no key leaves the registry's own slot and prefix.
fn assert_safe(text: &str) {
    let keys = keys::Keys::new("", text);
    for key in [keys.bucket(keys::bucket_of(text)), keys.alive()] {
        let inner = key.strip_prefix("routr-registry:{").and_then(|rest| rest.split_once("}:"));
        let (instance, _) = inner.expect("the slot is that of the instance");
        assert!(
            !instance.is_empty() && instance.bytes().all(|b| b.is_ascii_graphic() && !b"{}*?[]".contains(&b))
        );
    }
    assert!(keys::identity("", text).bytes().all(|b| b.is_ascii_graphic()));
}

/// A record that is malformed does no harm: what is resumed from it is due some time.
fn assert_resumes(record: &Record) {
    let settings = Settings {
        interval_ms: 60_000,
        expires_s: 600,
        deadline_ms: 40_000,
        tags: Vec::new(),
        redirects: routr_registration::registration::redirect_policy::RedirectPolicy::default(),
    };
    let now = Moment(5_000);
    let mut rng = SmallRng::seed_from_u64(record.expires_at_ms);
    let granted_s = NonZeroU32::new(record.granted_s.min(86_400)).unwrap_or(NonZeroU32::MIN);
    let expires_at = now.plus(record.expires_at_ms.min(u64::from(granted_s.get()) * 1_000));
    let (index, edge) = (UriIndex::FIRST, EdgePortId::default());
    let binding = Binding { expires_at, granted_s, index, edge, longer: false };
    let resumed =
        Registration::resume(record.cseq, Some((binding, UriRank::FIRST)), &settings, now, &mut rng);
    assert!(resumed.due() <= expires_at.max(now), "{record:?}");
    assert!(resumed.cseq() >= record.cseq);
}
