//! The files of a client's TLS, read again when they change: an authority or a certificate that is replaced
//! (by cert-manager, say, which swaps a symbolic link) counts from the next connection on.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Names;
use crate::files;

/// The configurations in use, by what they are made of: each has a cache of sessions of some hundred
/// kilobytes.
static SHARED: Mutex<BTreeMap<Key, Weak<ClientConfig>>> = Mutex::new(BTreeMap::new());

/// Identity of a configuration: the content of its files, whether there are any, the protocols, and the names
/// that count.
type Key = ([u8; 32], bool, bool, Vec<Vec<u8>>, Names);

/// The files that TLS towards a dependency needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM file with the authorities to trust; `None` for the system's.
    pub authorities: Option<PathBuf>,
    /// The certificate to show to a peer that asks for one.
    pub certificate: Option<ClientCertificate>,
}

/// The files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file with the certificate, and those of the authorities between it and the peer's root.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

/// Problem with a file of TLS that cannot be used. Shows nothing of its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {}: {problem}; {hint}", path.display())]
pub struct TlsFileError {
    /// The setting that names it.
    pub field: String,
    /// The file.
    pub path: PathBuf,
    /// Problem in plain words.
    pub problem: String,
    /// Suggested correction.
    pub hint: &'static str,
}

/// Settings of a client's TLS: their names, and what the files do not say.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Name of the settings as a whole, for the log.
    pub title: String,
    /// Name of the setting for the authorities.
    pub authorities: String,
    /// Name of the setting for the certificate.
    pub certificate: String,
    /// Name of the setting for its key.
    pub key: String,
    /// Protocols offered by ALPN.
    pub protocols: Vec<Vec<u8>>,
    /// Names in the peer's certificate that count.
    pub names: Names,
    /// Shortest time between two looks at the files.
    pub look_period: Duration,
}

impl TlsSettings {
    /// The keys `caFile`, `certFile` and `keyFile` below `path`, looked at for each connection.
    pub fn below(path: &str, protocols: &[&[u8]]) -> Self {
        Self {
            title: path.to_owned(),
            authorities: format!("{path}.caFile"),
            certificate: format!("{path}.certFile"),
            key: format!("{path}.keyFile"),
            protocols: protocols.iter().map(|protocol| protocol.to_vec()).collect(),
            names: Names::default(),
            look_period: Duration::ZERO,
        }
    }
}

/// A client's TLS, as its files have it.
#[derive(Debug)]
pub struct Followed {
    files: TlsFiles,
    settings: TlsSettings,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    fingerprint: [u8; 32],
    config: Arc<ClientConfig>,
    looked: Instant,
    /// Reported, and still wrong.
    wrong: Option<String>,
}

/// Content of the files. The key is cleared by nothing, and lives no longer than it is looked at.
struct Content {
    authorities: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl Followed {
    /// Reads the files. Settings are named by `path` (`spec.tls`) and the key; `protocols` are offered by
    /// ALPN.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn new(files: TlsFiles, path: &str, protocols: &[&[u8]]) -> Result<Self, TlsFileError> {
        Self::with(files, TlsSettings::below(path, protocols))
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub fn with(files: TlsFiles, settings: TlsSettings) -> Result<Self, TlsFileError> {
        let content = read(&files, &settings)?;
        let config = shared(&files, &content, &settings)?;
        let loaded =
            Loaded { fingerprint: content.fingerprint(), config, looked: Instant::now(), wrong: None };
        Ok(Self { files, settings, loaded: Mutex::new(loaded) })
    }

    /// Returns the configuration for a new connection: of the files as they are now, or as they were when
    /// they could be used last, with one warning.
    pub fn config(&self) -> Arc<ClientConfig> {
        let Self { files, settings, loaded } = self;
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked.elapsed() < settings.look_period {
            return loaded.config.clone();
        }
        loaded.looked = Instant::now();
        let changed = read(files, settings).and_then(|content| {
            let fingerprint = content.fingerprint();
            if fingerprint == loaded.fingerprint {
                return Ok(None);
            }
            shared(files, &content, settings).map(|config| Some((fingerprint, config)))
        });
        match changed {
            Ok(None) => loaded.wrong = None,
            Ok(Some((fingerprint, config))) => {
                tracing::info!("{}: files changed: new connections use them", settings.title);
                (loaded.fingerprint, loaded.config, loaded.wrong) = (fingerprint, config, None);
            }
            Err(error) => {
                let wrong = error.to_string();
                if loaded.wrong.as_ref() != Some(&wrong) {
                    tracing::warn!(
                        "{wrong}. Connections are made with what the files held before, until this is corrected"
                    );
                    loaded.wrong = Some(wrong);
                }
            }
        }
        loaded.config.clone()
    }
}

impl Content {
    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let (certificate, key) = self.certificate.as_ref().map(|(c, k)| (c, k)).unzip();
        for part in [self.authorities.as_ref(), certificate, key].into_iter().flatten() {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// Suggested correction for each file.
const AUTHORITIES: &str = "a PEM file with CA certificates is needed";
const CERTIFICATE: &str = "a PEM file with the client's certificate is needed";
const KEY: &str =
    "a PEM file with the private key of the client's certificate, without a passphrase, is needed";

fn read(files: &TlsFiles, settings: &TlsSettings) -> Result<Content, TlsFileError> {
    let load = |file: &Path, field: &str, hint| {
        let wrong = |error: io::Error| wrong(field, file, format!("cannot be read: {error}"), hint);
        files::read(file).map_err(wrong)
    };
    let authorities = files
        .authorities
        .as_deref()
        .map(|file| load(file, &settings.authorities, AUTHORITIES))
        .transpose()?;
    let certificate = match &files.certificate {
        None => None,
        Some(ClientCertificate { certificate, key }) => {
            Some((load(certificate, &settings.certificate, CERTIFICATE)?, load(key, &settings.key, KEY)?))
        }
    };
    Ok(Content { authorities, certificate })
}

/// The configuration of these files: one that is in use already, where there is an equal one.
fn shared(
    files: &TlsFiles,
    content: &Content,
    settings: &TlsSettings,
) -> Result<Arc<ClientConfig>, TlsFileError> {
    let (authorities, certificate) = (content.authorities.is_some(), content.certificate.is_some());
    let key: Key =
        (content.fingerprint(), authorities, certificate, settings.protocols.clone(), settings.names);
    let lock = || SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = lock().get(&key).and_then(Weak::upgrade) {
        return Ok(found);
    }
    let built = build(files, content, settings)?;
    let mut all = lock();
    all.retain(|_, config| config.strong_count() > 0);
    all.insert(key, Arc::downgrade(&built));
    Ok(built)
}

fn build(
    files: &TlsFiles,
    content: &Content,
    settings: &TlsSettings,
) -> Result<Arc<ClientConfig>, TlsFileError> {
    let roots = match (&files.authorities, &content.authorities) {
        (Some(file), Some(pem)) => {
            let wrong = |problem| wrong(&settings.authorities, file, problem, AUTHORITIES);
            let roots = super::authorities(CertificateDer::pem_slice_iter(pem)).map_err(wrong)?;
            if roots.is_empty() {
                return Err(wrong("there is no BEGIN CERTIFICATE in it".to_owned()));
            }
            Arc::new(roots)
        }
        // Where the system has no authority, no certificate is trusted, and each attempt to connect says so.
        _ => super::system().0,
    };
    let any = files.authorities.as_deref().unwrap_or(Path::new(""));
    let unusable = |error: rustls::Error| wrong(&settings.authorities, any, error.to_string(), AUTHORITIES);
    let builder = super::trusting(roots, settings.names).map_err(unusable)?;
    let mut config = match (&files.certificate, &content.certificate) {
        (Some(files), Some((certificate, key))) => {
            let chain = chain(certificate)
                .map_err(|problem| wrong(&settings.certificate, &files.certificate, problem, CERTIFICATE))?;
            let wrong = |problem| wrong(&settings.key, &files.key, problem, KEY);
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| wrong("there is no private key in it".to_owned()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                wrong(match error {
                    rustls::Error::InconsistentKeys(_) => {
                        format!("the private key is not that of the certificate in {}", settings.certificate)
                    }
                    other => format!("the private key cannot be used: {other}"),
                })
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols.clone_from(&settings.protocols);
    Ok(Arc::new(config))
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("there is no BEGIN CERTIFICATE in it".to_owned()) } else { Ok(chain) }
}

fn wrong(field: &str, file: &Path, problem: String, hint: &'static str) -> TlsFileError {
    TlsFileError { field: field.to_owned(), path: file.to_owned(), problem, hint }
}

#[cfg(test)]
mod tests;
