//! Dependencies behind a fence: a process that has lost the right to act for a registry sends no REGISTER and
//! writes no state any more, whatever its engine still wants.

use std::time::Duration;

use tokio::sync::watch;

use crate::runtime::ports::{Requester, Store};
use routr_leader_election::Fence;
use routr_registration::model::{
    Change, Link, Record, RegisterRequest, RegisterResponse, Rival, SendError, StoreError,
};

/// A port that acts only while the fence holds, which it asks before each REGISTER and each write.
#[derive(Debug)]
pub struct Fenced<P> {
    port: P,
    fence: Fence,
}

impl<P> Fenced<P> {
    /// Puts the port behind the fence.
    pub fn new(port: P, fence: &Fence) -> Self {
        Self { port, fence: fence.clone() }
    }
}

const LOST: &str = "this replica no longer leads";

impl<R: Requester> Requester for Fenced<R> {
    async fn register(
        &self,
        request: RegisterRequest,
        deadline: Duration,
    ) -> Result<RegisterResponse, SendError> {
        if !self.fence.holds() {
            return Err(SendError::Unavailable(LOST.into()));
        }
        self.port.register(request, deadline).await
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.port.link()
    }

    fn rest(&self) {
        self.port.rest();
    }
}

impl<S: Store> Store for Fenced<S> {
    async fn load(&self) -> Result<Vec<Record>, StoreError> {
        self.port.load().await
    }

    fn is_durable(&self) -> bool {
        self.port.is_durable()
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        // What the next leader has written meanwhile must not be set back.
        if !self.fence.holds() {
            return Err(StoreError::Unavailable(LOST.into()));
        }
        self.port.apply(changes).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.port.ping().await
    }

    async fn detect_data_loss(&self) -> Result<bool, StoreError> {
        // It leaves a mark of its own there.
        if !self.fence.holds() {
            return Err(StoreError::Unavailable(LOST.into()));
        }
        self.port.detect_data_loss().await
    }

    fn check_every(&self) -> Duration {
        self.port.check_every()
    }

    fn instance_id(&self) -> Option<Box<str>> {
        self.port.instance_id()
    }

    fn rival(&self) -> watch::Receiver<Option<Rival>> {
        self.port.rival()
    }

    fn other_writer(&self) -> Option<Rival> {
        self.port.other_writer()
    }

    async fn release(&self) {
        self.port.release().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use super::*;
    use routr_types::host::{HostPort, Transport};

    /// Counts what reaches it.
    #[derive(Default)]
    struct Port(AtomicUsize);

    impl Port {
        fn called(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Requester for Arc<Port> {
        async fn register(&self, _: RegisterRequest, _: Duration) -> Result<RegisterResponse, SendError> {
            self.called();
            Ok(RegisterResponse::default())
        }

        fn link(&self) -> watch::Receiver<Link> {
            watch::channel(Link::default()).1
        }
    }

    impl Store for Arc<Port> {
        async fn load(&self) -> Result<Vec<Record>, StoreError> {
            Ok(Vec::new())
        }

        fn is_durable(&self) -> bool {
            true
        }

        async fn apply(&self, _: Vec<Change>) -> Result<(), StoreError> {
            self.called();
            Ok(())
        }

        async fn ping(&self) -> Result<(), StoreError> {
            Ok(())
        }

        async fn detect_data_loss(&self) -> Result<bool, StoreError> {
            self.called();
            Ok(false)
        }
    }

    fn register() -> RegisterRequest {
        let place = HostPort::new("127.0.0.1", 5060);
        RegisterRequest {
            target: place.clone(),
            names_port: true,
            transport: Transport::Udp,
            request_host: "h".into(),
            request_port: 5060,
            request_transport: Transport::Udp,
            user: "u".into(),
            domain: "h".into(),
            secure: false,
            from_tag: "t".into(),
            call_id: "c".into(),
            cseq: 1,
            expires: 600,
            edge_port: place,
            contact: None,
            without_tags: 0,
            credentials: None,
            digest: routr_types::digest_minimum::DigestMinimum::default(),
        }
    }

    #[tokio::test]
    async fn without_the_right_nothing_is_sent_and_nothing_written() {
        let leads = Arc::new(AtomicBool::new(true));
        let asked = leads.clone();
        let fence = Fence::when(move || asked.load(Ordering::Relaxed));
        let (phone, shelf) = (Arc::<Port>::default(), Arc::<Port>::default());
        let requester = Fenced::new(phone.clone(), &fence);
        let store = Fenced::new(shelf.clone(), &fence);
        for leading in [true, false, true] {
            leads.store(leading, Ordering::Relaxed);
            let sent = requester.register(register(), Duration::from_secs(1)).await;
            assert_eq!(sent.is_ok(), leading);
            assert_eq!(store.apply(Vec::new()).await.is_ok(), leading);
            assert_eq!(store.detect_data_loss().await.is_ok(), leading, "it leaves a mark");
            assert_eq!(store.load().await, Ok(Vec::new()), "reading does no harm");
        }
        assert_eq!((phone.0.load(Ordering::Relaxed), shelf.0.load(Ordering::Relaxed)), (2, 4));
    }
}
