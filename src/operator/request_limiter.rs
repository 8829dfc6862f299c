//! Requests at the same time: some for all, fewer for each namespace. A tenant whose Registries take the API
//! server long (a megabyte of labels each) waits behind its own.
//!
//! The client limits its requests. Reconciles and status writes take a turn of their own before that, with
//! nothing prepared yet: 3,000 status writes that wait with a request each would hold 60 MB, which the
//! allocator keeps.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hands out slots. Clones share them.
#[derive(Clone, Debug)]
pub struct RequestLimiter {
    all: Arc<Semaphore>,
    for_each: usize,
    namespaces: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

/// The right to one request, until it is dropped.
#[derive(Debug)]
pub struct RequestPermit {
    _namespace: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

impl RequestLimiter {
    /// `all` in total, `for_each` for each namespace.
    pub fn new(all: usize, for_each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), for_each, namespaces: Arc::default() }
    }

    /// Waits for a slot for a request of this path.
    pub async fn acquire(&self, path: &str) -> RequestPermit {
        self.acquire_in(path.split_once("/namespaces/").and_then(|(_, rest)| rest.split('/').next())).await
    }

    /// Waits for a slot for something that concerns this namespace; `None`: no namespace.
    pub async fn acquire_in(&self, namespace: Option<&str>) -> RequestPermit {
        // First its own: who waits there takes none of the others'.
        let namespace = match namespace {
            Some(namespace) => self.of(namespace).acquire_owned().await.ok(),
            None => None,
        };
        RequestPermit { _namespace: namespace, _all: self.all.clone().acquire_owned().await.ok() }
    }

    fn of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut all = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = all.get(namespace).and_then(Weak::upgrade) {
            return slots;
        }
        all.retain(|_, slots| slots.strong_count() > 0);
        let slots = Arc::new(Semaphore::new(self.for_each));
        all.insert(namespace.to_owned(), Arc::downgrade(&slots));
        slots
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_namespace_leaves_slots_for_the_others() {
        let slots = RequestLimiter::new(4, 2);
        let take = |path: &str| slots.acquire(path).now_or_never();
        let a = "/apis/routr.io/v2beta1/namespaces/a/registries/x";
        let held = [take(a).unwrap(), take(a).unwrap()];
        assert!(take(a).is_none());
        let others = [take("/api/v1/namespaces/b/secrets/x").unwrap(), take("/version").unwrap()];
        assert!(take("/api/v1/namespaces/c").is_none(), "all are taken");
        drop(held);
        assert!(take(a).is_some());
        drop(others);
        assert!(take("/api/v1/namespaces/c/events").is_some());
        assert!(slots.namespaces.lock().unwrap().len() <= 2, "no namespace is remembered for ever");
    }
}
