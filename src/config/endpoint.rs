//! The gRPC dependencies: their addresses (`spec.apiAddr`, `spec.requesterAddr`) and TLS (`spec.tls`).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::spec::{RegistrySpec, TlsSpec};
use routr_net::{
    addresses::AddressPolicy,
    tls::{TlsFiles, followed::ClientCertificate},
};
use routr_types::{host::HostPort, secret::Secret};

use super::{
    address::{self, AddressError, Target},
    files::Files,
    rules::hint,
    validation_error::show,
    validator::Validator,
};

/// A gRPC dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address that it listens on.
    pub address: Target,
    /// `https://`: TLS.
    pub tls: bool,
    /// Files that TLS needs; empty without TLS.
    pub files: TlsFiles,
    /// Sent with each call as a bearer token.
    pub token: Option<Secret>,
    /// Time limit of one call.
    pub timeout: Duration,
    /// The addresses that may be connected to.
    pub policy: Arc<AddressPolicy>,
}

impl Endpoint {
    /// One without TLS.
    pub fn plain(address: impl Into<Target>, timeout: Duration) -> Self {
        Self {
            address: address.into(),
            tls: false,
            files: TlsFiles::default(),
            token: None,
            timeout,
            policy: Arc::default(),
        }
    }
}

impl Validator<'_> {
    pub(super) fn endpoint(
        &mut self,
        path: &str,
        text: &str,
        default_port: u16,
        hint: &str,
        timeout: Duration,
    ) -> Endpoint {
        let nowhere = || Target::Host(HostPort::new("", default_port));
        let (address, tls) = match address::service(text, default_port) {
            Ok((Target::Unix(given), _)) => match self.files.socket(&given) {
                Ok(socket) => (Target::Unix(socket), false),
                Err(problem) => {
                    self.wrong(path, problem, Some(show(text)), hint);
                    (nowhere(), false)
                }
            },
            Ok(read) => read,
            Err(error) => {
                self.address(path, text, error, hint);
                (nowhere(), text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://")))
            }
        };
        Endpoint { tls, ..Endpoint::plain(address, timeout) }
    }

    pub(super) fn address(&mut self, path: &str, text: &str, error: AddressError, hint: &str) {
        let value = (error != AddressError::Empty).then(|| show(text));
        self.wrong(path, error.to_string(), value, hint);
    }

    pub(super) fn tls(&mut self, spec: &RegistrySpec, endpoints: [&mut Endpoint; 2]) {
        let Some(tls) = &spec.tls else { return };
        let given = [
            ("spec.tls.caFile", &tls.ca_file),
            ("spec.tls.certFile", &tls.cert_file),
            ("spec.tls.keyFile", &tls.key_file),
        ];
        let authorities = tls.ca_file.as_deref().and_then(|given| self.authorities("spec.tls.caFile", given));
        let certificate = self.client_certificate(tls);
        let unused = !endpoints.iter().any(|endpoint| endpoint.tls);
        for (path, given) in given {
            if let Some(given) = given.as_ref().filter(|given| unused && !given.trim().is_empty()) {
                self.wrong(
                    path,
                    "has no effect, because neither address uses https://",
                    Some(show(given)),
                    "write https:// before requesterAddr or apiAddr, or remove it",
                );
            }
        }
        for endpoint in endpoints.into_iter().filter(|endpoint| endpoint.tls) {
            endpoint.files = TlsFiles { authorities: authorities.clone(), certificate: certificate.clone() };
        }
    }

    /// A certificate and its key: both, or neither.
    fn client_certificate(&mut self, tls: &TlsSpec) -> Option<ClientCertificate> {
        let (cert_path, key_path) = ("spec.tls.certFile", "spec.tls.keyFile");
        let (certificate, key) = match (&tls.cert_file, &tls.key_file) {
            (None, None) => return None,
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                self.wrong(key_path, "required together with certFile", None, hint::KEY_FILE);
                return None;
            }
            (None, Some(_)) => {
                self.wrong(cert_path, "required together with keyFile", None, hint::CERT_FILE);
                return None;
            }
        };
        let mut file = |path, given: &str, hint, good: fn(&dyn Files, &Path) -> Result<(), String>| {
            if given.trim().is_empty() {
                self.wrong(path, "empty", None, hint);
                return None;
            }
            let file = self.files.resolve(given);
            if let Err(problem) = good(self.files, &file) {
                self.wrong(path, problem, Some(show(given)), hint);
            }
            Some(file)
        };
        let certificate =
            file(cert_path, certificate, hint::CERT_FILE, |files, path| files.authorities(path));
        let key = file(key_path, key, hint::KEY_FILE, |files, path| files.key(path));
        Some(ClientCertificate { certificate: certificate?, key: key? })
    }

    /// A PEM file with authorities.
    pub(super) fn authorities(&mut self, path: &str, given: &str) -> Option<PathBuf> {
        if given.trim().is_empty() {
            self.wrong(path, "empty", None, hint::CA_FILE);
            return None;
        }
        let file = self.files.resolve(given);
        if let Err(problem) = self.files.authorities(&file) {
            // What stands in the parameters of a cache may come from a Secret.
            let shown = (path == "spec.tls.caFile").then(|| show(given));
            self.wrong(path, problem, shown, hint::CA_FILE);
        }
        Some(file)
    }
}
