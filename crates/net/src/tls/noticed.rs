//! Detects that a peer asked for a client certificate: the alert that follows does not always say so.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use rustls::{ClientConfig, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};

use super::cause::Asked;

/// Record of a peer's request for the client's certificate, on one connection.
#[derive(Clone, Debug, Default)]
pub struct Noticed(Arc<AtomicU8>);

impl Noticed {
    /// Returns the configuration for the connection that this is about.
    pub fn watch(&self, config: &ClientConfig) -> Arc<ClientConfig> {
        let mut config = config.clone();
        let inner = config.client_auth_cert_resolver.clone();
        config.client_auth_cert_resolver = Arc::new(Watching { inner, noticed: self.clone() });
        Arc::new(config)
    }

    /// Returns what was asked so far.
    pub fn get(&self) -> Asked {
        match self.0.load(Ordering::Relaxed) {
            0 => Asked::Nothing,
            1 => Asked::None,
            _ => Asked::Shown,
        }
    }
}

#[derive(Debug)]
struct Watching {
    inner: Arc<dyn ResolvesClientCert>,
    noticed: Noticed,
}

impl ResolvesClientCert for Watching {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let shown = self.inner.resolve(root_hint_subjects, sigschemes);
        self.noticed.0.store(if shown.is_some() { 2 } else { 1 }, Ordering::Relaxed);
        shown
    }

    fn only_raw_public_keys(&self) -> bool {
        self.inner.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        self.inner.has_certs()
    }
}
