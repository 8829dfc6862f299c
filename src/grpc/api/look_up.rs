//! Looks single trunks up.

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc::Sender;

use super::{ApiServer, call::CallFailure, page::RawTrunk};
use crate::proto::trunks as pb;
use routr_registration::model::{SourceError, TrunkItem as _};

/// `Get` calls at a time.
const MAX_LOOK_UPS: usize = 8;

/// Response of a server about one trunk.
enum Presence {
    There(RawTrunk),
    Gone,
    Unknown,
}

impl ApiServer {
    /// A trunk that is looked up is small: what it holds is given back at once.
    pub(super) async fn get(&self, reference: &str) -> Result<Bytes, CallFailure> {
        const METHOD: &str = "/fonoster.routr.connect.trunks.v2beta1.Trunks/Get";
        let most = self.take.max_trunk_bytes.saturating_add(1 << 10);
        let received = self.quota.response();
        self.call(METHOD, pb::GetTrunkRequest { r#ref: reference.to_owned() }, most, &received).await
    }

    /// Asks for one trunk. A trunk that is there comes back, whatever its state.
    async fn present(&self, reference: &str) -> Result<Presence, SourceError> {
        match self.get(reference).await {
            Ok(bytes) => {
                let trunk = RawTrunk::new(bytes, &self.take);
                Ok(match trunk.reference() {
                    Some(own) if own == reference && trunk.sends_register() => Presence::There(trunk),
                    Some(own) if own == reference => Presence::Gone,
                    // Not even the trunk that was asked for.
                    _ => Presence::Unknown,
                })
            }
            Err(CallFailure::NotFound) => Ok(Presence::Gone),
            Err(CallFailure::TooLarge { found, .. }) => {
                Ok(Presence::There(RawTrunk::oversize(reference, found, &self.take)))
            }
            Err(CallFailure::Error(
                error @ (SourceError::Unavailable(_) | SourceError::NoRoom(_) | SourceError::Deadline(_)),
            )) => Err(error),
            Err(_) => Ok(Presence::Unknown),
        }
    }

    pub(super) async fn look_up_all(
        &self,
        references: &[Box<str>],
        batches: &Sender<Vec<RawTrunk>>,
    ) -> Result<bool, SourceError> {
        let mut certain = true;
        for some in references.chunks(MAX_LOOK_UPS) {
            let mut there = Vec::new();
            for presence in join_all(some.iter().map(|reference| self.present(reference))).await {
                match presence? {
                    Presence::There(trunk) => there.push(trunk),
                    Presence::Gone => {}
                    Presence::Unknown => certain = false,
                }
            }
            if !there.is_empty() {
                batches.send(there).await.map_err(|_| SourceError::Abandoned)?;
            }
            if !certain {
                break;
            }
        }
        Ok(certain)
    }
}
