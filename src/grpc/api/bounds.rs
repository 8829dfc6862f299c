//! Progress of a sync through a list, and its bounds.

use tokio::time::Instant;

use crate::config::SyncBounds;
use routr_registration::model::SourceError;

/// Amount that one sync has read so far.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    bounds: &'a SyncBounds,
    since: Instant,
    pages: u32,
    trunks: u32,
    bytes: u64,
}

impl<'a> Progress<'a> {
    pub(super) fn new(bounds: &'a SyncBounds) -> Self {
        Self { bounds, since: Instant::now(), pages: 0, trunks: 0, bytes: 0 }
    }

    /// Trunks so far, those without `sendRegister` included.
    pub(super) fn trunks(&self) -> usize {
        usize::try_from(self.trunks).unwrap_or(usize::MAX)
    }

    /// Counts one more page that is asked for.
    pub(super) fn page(&mut self) -> Result<(), SourceError> {
        let most = self.bounds.max_pages;
        if self.pages >= most {
            return Err(self.exceeded(&format!(
                "it has more than {most} pages, with {} trunks so far; spec.sync.maxPages sets the bound",
                self.trunks
            )));
        }
        self.pages += 1;
        Ok(())
    }

    /// Counts one more trunk.
    pub(super) fn trunk(&mut self) -> Result<(), SourceError> {
        let most = self.bounds.max_trunks;
        if self.trunks >= most {
            return Err(
                self.exceeded(&format!("it has more than {most} trunks; spec.sync.maxTrunks sets the bound"))
            );
        }
        self.trunks += 1;
        Ok(())
    }

    /// Counts one more response.
    pub(super) fn response(&mut self, bytes: usize) -> Result<(), SourceError> {
        self.bytes = self.bytes.saturating_add(bytes.try_into().unwrap_or(u64::MAX));
        if self.bytes > self.bounds.max_bytes { Err(self.too_many_bytes(None)) } else { Ok(()) }
    }

    /// Bytes that the next response may have, `most` by themselves.
    pub(super) fn room(&self, most: usize) -> usize {
        let left = self.bounds.max_bytes.saturating_sub(self.bytes);
        usize::try_from(left).unwrap_or(usize::MAX).min(most)
    }

    /// The next response, of that many bytes, would exceed the bound.
    pub(super) fn too_many_bytes(&self, next: Option<u64>) -> SourceError {
        let found = self.bytes.saturating_add(next.unwrap_or(0));
        let most = self.bounds.max_bytes;
        self.exceeded(&format!(
            "it has {found} bytes or more, with {} trunks so far; spec.sync.maxBytes allows {most}",
            self.trunks
        ))
    }

    /// The time for all of it is over.
    pub(super) fn too_late(&self) -> SourceError {
        self.exceeded(&format!(
            "it was not read to its end within {} s, with {} pages, {} trunks and {} bytes so far; spec.sync.timeout sets the bound",
            self.bounds.timeout.as_secs_f32(),
            self.pages,
            self.trunks,
            self.bytes
        ))
    }

    fn exceeded(&self, what: &str) -> SourceError {
        tracing::debug!(
            pages = self.pages,
            trunks = self.trunks,
            bytes = self.bytes,
            seconds = self.since.elapsed().as_secs_f32(),
            "a sync is given up"
        );
        SourceError::TooMuch(what.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_allowed_in_full_and_named_when_it_is_exceeded() {
        let bounds = SyncBounds { max_pages: 2, max_trunks: 3, max_bytes: 100_000, ..SyncBounds::default() };
        let mut progress = Progress::new(&bounds);
        let said = |result: Result<(), SourceError>| result.unwrap_err().to_string();
        assert!((0..3).all(|_| progress.trunk().is_ok()) && (0..2).all(|_| progress.page().is_ok()));
        assert!(said(progress.trunk()).contains("more than 3 trunks; spec.sync.maxTrunks"));
        assert!(
            said(progress.page()).contains("more than 2 pages, with 3 trunks so far; spec.sync.maxPages")
        );
        assert_eq!((progress.response(99_000), progress.room(5_000)), (Ok(()), 1_000));
        assert_eq!((progress.response(1_000), progress.room(5_000)), (Ok(()), 0));
        assert!(
            said(progress.response(1))
                .contains("100001 bytes or more, with 3 trunks so far; spec.sync.maxBytes")
        );
    }
}
