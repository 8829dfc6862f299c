//! The files of a server's TLS, read again when they change.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::TlsFileError;
use crate::files;

/// Shortest time between two looks at the files: a caller must not be able to have them read as often as it
/// likes.
const RELOAD_PERIOD: Duration = Duration::from_secs(1);

const CERTIFICATE: &str =
    "a PEM file with the server's certificate, and those between it and its root, is needed";
const KEY: &str = "a PEM file with the private key of the certificate, without a passphrase, is needed";
const AUTHORITIES: &str = "a PEM file with the CA certificates of the clients is needed";

/// The files of a server's TLS, and the settings that name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedFiles {
    /// PEM file with the certificate, and those between it and its root.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// PEM file with the authorities of client certificates, which are demanded then.
    pub client_authorities: Option<PathBuf>,
}

/// The settings that name the files of [`ServedFiles`], in their order.
pub type ServedSettings = [&'static str; 3];

/// A server's TLS, as its files have it.
#[derive(Debug)]
pub struct ServedTls {
    files: ServedFiles,
    settings: ServedSettings,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    fingerprint: [u8; 32],
    config: Arc<ServerConfig>,
    looked: Instant,
    /// Reported, and still wrong.
    wrong: Option<String>,
}

impl ServedTls {
    /// Reads the files. HTTP/2 is what is spoken over it.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn new(files: ServedFiles, settings: ServedSettings) -> Result<Self, TlsFileError> {
        let content = Content::read(&files, settings)?;
        let (fingerprint, config) = (content.fingerprint(), content.build(&files, settings)?);
        let loaded = Loaded { fingerprint, config, looked: Instant::now(), wrong: None };
        Ok(Self { files, settings, loaded: Mutex::new(loaded) })
    }

    /// Returns whether a client has to show a certificate.
    pub fn demands_certificates(&self) -> bool {
        self.files.client_authorities.is_some()
    }

    /// Returns the configuration for a new connection: of the files as they are now, or as they were when
    /// they could be used last, with one warning.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked.elapsed() < RELOAD_PERIOD {
            return loaded.config.clone();
        }
        loaded.looked = Instant::now();
        let changed = Content::read(&self.files, self.settings).and_then(|content| {
            let fingerprint = content.fingerprint();
            if fingerprint == loaded.fingerprint {
                return Ok(None);
            }
            Ok(Some((fingerprint, content.build(&self.files, self.settings)?)))
        });
        match changed {
            Ok(None) => loaded.wrong = None,
            Ok(Some((fingerprint, config))) => {
                tracing::info!("the files of {} have changed: new connections use them", self.settings[0]);
                (loaded.fingerprint, loaded.config, loaded.wrong) = (fingerprint, config, None);
            }
            Err(error) => {
                let wrong = error.to_string();
                if loaded.wrong.as_ref() != Some(&wrong) {
                    tracing::warn!("{wrong}. What the files held before is used until this is corrected");
                    loaded.wrong = Some(wrong);
                }
            }
        }
        loaded.config.clone()
    }
}

struct Content {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_authorities: Option<Vec<u8>>,
}

impl Content {
    fn read(files: &ServedFiles, [certificate, key, ca]: ServedSettings) -> Result<Self, TlsFileError> {
        let load = |file: &Path, field: &str, hint| {
            files::read(file).map_err(|error| wrong(field, file, format!("cannot be read: {error}"), hint))
        };
        let client_authorities =
            files.client_authorities.as_deref().map(|file| load(file, ca, AUTHORITIES)).transpose()?;
        Ok(Self {
            certificate: load(&files.certificate, certificate, CERTIFICATE)?,
            key: Zeroizing::new(load(&files.key, key, KEY)?),
            client_authorities,
        })
    }

    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let authorities = self.client_authorities.as_deref().unwrap_or_default();
        for part in [&self.certificate[..], &self.key, authorities] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn build(
        &self,
        files: &ServedFiles,
        [certificate_is, key_is, ca_is]: ServedSettings,
    ) -> Result<Arc<ServerConfig>, TlsFileError> {
        let wrong_certificate = |problem| wrong(certificate_is, &files.certificate, problem, CERTIFICATE);
        let wrong_key = |problem| wrong(key_is, &files.key, problem, KEY);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| wrong_certificate(error.to_string()))?;
        if chain.is_empty() {
            return Err(wrong_certificate("there is no BEGIN CERTIFICATE in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| wrong_key("there is no private key in it".to_owned()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong_certificate(error.to_string()))?;
        let builder = match (&files.client_authorities, &self.client_authorities) {
            (Some(file), Some(pem)) => {
                let wrong = |problem| wrong(ca_is, file, problem, AUTHORITIES);
                let roots = super::authorities(CertificateDer::pem_slice_iter(pem)).map_err(wrong)?;
                if roots.is_empty() {
                    return Err(wrong("there is no BEGIN CERTIFICATE in it".to_owned()));
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(error.to_string()))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            wrong_key(match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("the private key is not that of the certificate in {certificate_is}")
                }
                other => format!("the private key cannot be used: {other}"),
            })
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn wrong(field: &str, file: &Path, problem: String, hint: &'static str) -> TlsFileError {
    TlsFileError { field: field.to_owned(), path: file.to_owned(), problem, hint }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SETTINGS: ServedSettings = ["--tls-cert", "--tls-key", "--client-ca"];

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_read_again_and_the_last_good_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
        let (first, second) = (made(), made());
        let put = |(cert_pem, key_pem): (&str, &str)| {
            fs::write(&certificate, cert_pem).unwrap();
            fs::write(&key, key_pem).unwrap();
        };
        put((&first.0, &first.1));
        let files = ServedFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            client_authorities: Some(certificate.clone()),
        };
        let served = ServedTls::new(files, SETTINGS).unwrap();
        assert!(served.demands_certificates());
        let began = served.config();
        // Half of a rotation: the certificate is new, its key is not.
        put((&second.0, &first.1));
        assert!(Arc::ptr_eq(&began, &served.config()), "not looked at so soon");
        tokio::time::advance(RELOAD_PERIOD).await;
        assert!(Arc::ptr_eq(&began, &served.config()), "the last good ones");
        let wrong = served.loaded.lock().unwrap().wrong.clone().unwrap();
        assert!(wrong.starts_with("--tls-key: ") && wrong.contains("not that of the certificate"), "{wrong}");
        put((&second.0, &second.1));
        tokio::time::advance(RELOAD_PERIOD).await;
        assert!(!Arc::ptr_eq(&began, &served.config()));
        assert_eq!(served.loaded.lock().unwrap().wrong, None);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named_by_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let (certificate, key) = made();
        let (good, good_key) = (file("c", &certificate), file("k", &key));
        let empty = file("empty", "sesame");
        for (files, setting) in [
            ((&empty, &good_key, None), "--tls-cert: "),
            ((&good, &empty, None), "--tls-key: "),
            ((&good, &good_key, Some(empty.clone())), "--client-ca: "),
            ((&folder.path().join("missing"), &good_key, None), "--tls-cert: "),
        ] {
            let (certificate, key, client_authorities) = files;
            let files =
                ServedFiles { certificate: certificate.clone(), key: key.clone(), client_authorities };
            let text = ServedTls::new(files, SETTINGS).unwrap_err().to_string();
            assert!(text.starts_with(setting) && !text.contains("sesame"), "{text}");
        }
    }
}
