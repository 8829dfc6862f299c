//! A list of trunks, taken apart by hand: it must say what prost says of the whole.

use bytes::Bytes;
use prost::Message as _;
use routr_registration::model::{SourceError, TrunkItem as _};
use routr_registry::{
    grpc::api::{MAX_REF_BYTES, Part, RawTrunk, Take, next_part},
    proto::trunks as pb,
};
use routr_types::text;

use super::support::assert_presentable;

/// Bytes of a name that are shown of a trunk that is not decoded.
const SHOWN: usize = 400;

pub fn run(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    let taken = take_apart(message.clone());
    if let Err(error) = &taken {
        assert_presentable(error);
    }
    let Ok(whole) = pb::ListTrunksResponse::decode(message) else { return };
    let (trunks, token) = taken.expect("what prost reads is read here");
    assert_eq!(token, whole.next_page_token);
    assert_eq!(trunks.len(), whole.items.len());
    for (taken, decoded) in trunks.iter().zip(&whole.items) {
        let reference = if decoded.r#ref.len() > MAX_REF_BYTES { "" } else { &*decoded.r#ref };
        assert_eq!(taken.reference().unwrap_or_default(), reference);
        assert_eq!(taken.sends_register(), decoded.send_register);
        assert_eq!(taken.name(), text::clean(&decoded.name, SHOWN));
        assert_eq!(taken.decode(), routr_registry::grpc::trunk::parse(decoded.clone()));
        assert!(!format!("{taken:?}").contains(super::SECRET) || decoded.r#ref.contains(super::SECRET));
    }
}

fn take_apart(mut rest: Bytes) -> Result<(Vec<RawTrunk>, String), SourceError> {
    let how = Take { max_trunk_bytes: 1 << 20, ..Take::default() };
    let (mut trunks, mut token) = (Vec::new(), String::new());
    while let Some(part) = next_part(&mut rest, &how)? {
        match part {
            Part::Trunk(trunk) => trunks.push(trunk),
            Part::NextPage(next) => token = next,
            Part::Other => {}
        }
    }
    Ok((trunks, token))
}
