//! Lists of Registries, page by page: how large they are altogether is nothing that the operator has to take
//! at once.
//!
//! A page has [`PAGE_SIZES`] Registries at most, first many. Where one has more bytes than
//! [`super::bounded::MAX_PAGE_BYTES`] (Registries with a megabyte of labels each), it is not read to its end,
//! and the list begins again with smaller pages; the smallest holds whatever the API server stores. Of each
//! object only what is used is kept, see [`super::lenient_registry`].

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kube::{Api, Client, api::ListParams};
use tokio_util::sync::CancellationToken;

use super::{backoff, bounded::TooLong, health::Health, lenient_registry::LenientRegistry};
use routr_kube_errors::{ApiError, Kind};

/// Registries in a page, tried in this order. Four objects of 3 MiB, the largest that the API server takes,
/// fit in one.
const PAGE_SIZES: [u32; 4] = [500, 50, 4, 1];
/// Shortest pause after a list that was refused.
const MIN_RETRY_PERIOD: Duration = Duration::from_secs(1);

/// Size of the pages of one list. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct PageSize(Arc<AtomicUsize>);

impl PageSize {
    /// Registries in a page.
    pub fn get(&self) -> u32 {
        PAGE_SIZES.get(self.0.load(Ordering::Relaxed)).copied().unwrap_or(1)
    }

    /// Makes the pages smaller where an error says that one was too long. Returns whether the list is to
    /// begin again at once.
    pub fn shrinks_for(&self, error: &(dyn Error + 'static)) -> bool {
        let mut causes = std::iter::successors(Some(error), |&error| error.source());
        let too_long = causes.any(|cause| cause.is::<TooLong>());
        if !too_long || self.get() == 1 {
            return false;
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(page = self.get(), "a page of Registries was too large: listing smaller ones");
        true
    }
}

/// Lists all Registries and keeps none of them. Returns how many there are.
///
/// # Errors
/// What the API server says.
pub async fn count(api: &Api<LenientRegistry>) -> Result<usize, kube::Error> {
    let size = PageSize::default();
    'again: loop {
        let (mut count, mut token) = (0, None);
        loop {
            let params = ListParams { continue_token: token, ..ListParams::default().limit(size.get()) };
            let page = match api.list(&params).await {
                Ok(page) => page,
                Err(error) if size.shrinks_for(&error) => continue 'again,
                Err(error) => return Err(error),
            };
            count += page.items.len();
            token = page.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(count);
            }
        }
    }
}

/// Lists the Registries of these namespaces (none: of all) until that succeeds: a replica that cannot see
/// what it would run is no candidate for the Lease, and is not ready. One of several namespaces may be
/// forbidden. Returns `false` where `shutdown` came first.
pub async fn proven(
    client: &Client,
    namespaces: &[String],
    health: &Health,
    shutdown: &CancellationToken,
) -> bool {
    health.begin(namespaces);
    let places: Vec<Option<&str>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().map(|namespace| Some(namespace.as_str())).collect()
    };
    let all = async {
        let mut failures = 0;
        loop {
            let (mut listed, mut pause, mut waits) = (0, MIN_RETRY_PERIOD, false);
            for place in &places {
                let api = match place {
                    Some(namespace) => Api::namespaced(client.clone(), namespace),
                    None => Api::all(client.clone()),
                };
                match count(&api).await {
                    Ok(_) => {
                        listed += 1;
                        health.proven(*place);
                    }
                    Err(error) => {
                        let error = ApiError::from(&error);
                        health.watch_failed(*place, &error);
                        waits |= error.kind != Kind::Forbidden;
                        pause = pause.max(backoff::pause(failures, error.retry_after));
                    }
                }
            }
            if listed == places.len() || (listed > 0 && !waits) {
                return;
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    };
    let proven = tokio::select! {
        () = all => true,
        () = shutdown.cancelled() => false,
    };
    health.end();
    proven
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] TooLong);

    #[test]
    fn pages_shrink_for_what_is_too_long_and_for_nothing_else() {
        let size = PageSize::default();
        assert!(!size.shrinks_for(&std::io::Error::other("reset")));
        assert_eq!(size.get(), 500);
        for expected in [50, 4, 1] {
            assert!(size.shrinks_for(&Outer(TooLong::answer(1 << 20))));
            assert_eq!(size.clone().get(), expected);
        }
        assert!(!size.shrinks_for(&Outer(TooLong::answer(1 << 20))), "there is no smaller one");
    }
}
