//! The files of a client's TLS, read again when they change: an authority or a certificate that is replaced
//! (by cert-manager, say, which swaps a symbolic link) counts from the next connection on.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sha2::{Digest, Sha256};

use crate::files;

/// The configurations in use, by what they are made of: each has a cache of sessions of some hundred
/// kilobytes.
static SHARED: Mutex<BTreeMap<Key, Weak<ClientConfig>>> = Mutex::new(BTreeMap::new());

/// Identity of a configuration: the content of its files, whether there are any, and the protocols.
type Key = ([u8; 32], bool, bool, Vec<Vec<u8>>);

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

/// A client's TLS, as its files have it.
#[derive(Debug)]
pub struct Followed {
    files: TlsFiles,
    /// Prefix of the names of the settings.
    path: &'static str,
    protocols: Vec<Vec<u8>>,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    fingerprint: [u8; 32],
    config: Arc<ClientConfig>,
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
    pub fn new(files: TlsFiles, path: &'static str, protocols: &[&[u8]]) -> Result<Self, TlsFileError> {
        let protocols: Vec<_> = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let content = read(&files, path)?;
        let config = shared(&files, &content, path, &protocols)?;
        let loaded = Loaded { fingerprint: content.fingerprint(), config, wrong: None };
        Ok(Self { files, path, protocols, loaded: Mutex::new(loaded) })
    }

    /// Returns the configuration for a new connection: of the files as they are now, or as they were when
    /// they could be used last, with one warning.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = read(&self.files, self.path).and_then(|content| {
            let fingerprint = content.fingerprint();
            if fingerprint == loaded.fingerprint {
                return Ok(None);
            }
            shared(&self.files, &content, self.path, &self.protocols)
                .map(|config| Some((fingerprint, config)))
        });
        match changed {
            Ok(None) => loaded.wrong = None,
            Ok(Some((fingerprint, config))) => {
                tracing::info!("{}: files changed: new connections use them", self.path);
                *loaded = Loaded { fingerprint, config, wrong: None };
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
const KEY: &str = "a PEM file with the private key of certFile, without a passphrase, is needed";

fn read(files: &TlsFiles, path: &str) -> Result<Content, TlsFileError> {
    let load = |file: &Path, key: &str, hint| {
        let wrong = |error: io::Error| wrong(path, key, file, format!("cannot be read: {error}"), hint);
        files::read(file).map_err(wrong)
    };
    let authorities =
        files.authorities.as_deref().map(|file| load(file, "caFile", AUTHORITIES)).transpose()?;
    let certificate = match &files.certificate {
        None => None,
        Some(ClientCertificate { certificate, key }) => {
            Some((load(certificate, "certFile", CERTIFICATE)?, load(key, "keyFile", KEY)?))
        }
    };
    Ok(Content { authorities, certificate })
}

/// The configuration of these files: one that is in use already, where there is an equal one.
fn shared(
    files: &TlsFiles,
    content: &Content,
    path: &str,
    protocols: &[Vec<u8>],
) -> Result<Arc<ClientConfig>, TlsFileError> {
    let (authorities, certificate) = (content.authorities.is_some(), content.certificate.is_some());
    let key: Key = (content.fingerprint(), authorities, certificate, protocols.to_vec());
    let lock = || SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = lock().get(&key).and_then(Weak::upgrade) {
        return Ok(found);
    }
    let built = build(files, content, path, protocols)?;
    let mut all = lock();
    all.retain(|_, config| config.strong_count() > 0);
    all.insert(key, Arc::downgrade(&built));
    Ok(built)
}

fn build(
    files: &TlsFiles,
    content: &Content,
    path: &str,
    protocols: &[Vec<u8>],
) -> Result<Arc<ClientConfig>, TlsFileError> {
    let roots = match (&files.authorities, &content.authorities) {
        (Some(file), Some(pem)) => {
            let wrong = |problem| wrong(path, "caFile", file, problem, AUTHORITIES);
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
    let unusable = |error: rustls::Error| wrong(path, "caFile", any, error.to_string(), AUTHORITIES);
    let builder = super::trusting(roots).map_err(unusable)?;
    let mut config = match (&files.certificate, &content.certificate) {
        (Some(files), Some((certificate, key))) => {
            let chain = chain(certificate)
                .map_err(|problem| wrong(path, "certFile", &files.certificate, problem, CERTIFICATE))?;
            let wrong = |problem| wrong(path, "keyFile", &files.key, problem, KEY);
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| wrong("there is no private key in it".to_owned()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                wrong(match error {
                    rustls::Error::InconsistentKeys(_) => {
                        "the private key is not that of the certificate in certFile".to_owned()
                    }
                    other => format!("the private key cannot be used: {other}"),
                })
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.to_vec();
    Ok(Arc::new(config))
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("there is no BEGIN CERTIFICATE in it".to_owned()) } else { Ok(chain) }
}

fn wrong(path: &str, key: &str, file: &Path, problem: String, hint: &'static str) -> TlsFileError {
    TlsFileError { field: format!("{path}.{key}"), path: file.to_owned(), problem, hint }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn g7_files_are_read_again_and_the_last_good_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let [ca, certificate, key] = ["ca.pem", "tls.crt", "tls.key"].map(|name| folder.path().join(name));
        let (first, second) = (made(), made());
        for (file, text) in [(&ca, &first.0), (&certificate, &first.0), (&key, &first.1)] {
            fs::write(file, text).unwrap();
        }
        let files = TlsFiles {
            authorities: Some(ca.clone()),
            certificate: Some(ClientCertificate { certificate: certificate.clone(), key: key.clone() }),
        };
        let followed = Followed::new(files, "spec.tls", &[b"h2"]).unwrap();
        let began = followed.config();
        assert!(Arc::ptr_eq(&began, &followed.config()), "nothing changed");
        fs::remove_file(&ca).unwrap();
        assert!(Arc::ptr_eq(&began, &followed.config()), "the last good one");
        let wrong = followed.loaded.lock().unwrap().wrong.clone().unwrap();
        assert!(
            wrong.starts_with("spec.tls.caFile: ") && wrong.contains("ca.pem: cannot be read: "),
            "{wrong}"
        );
        fs::write(&ca, &second.0).unwrap();
        let replaced = followed.config();
        assert!(!Arc::ptr_eq(&began, &replaced));
        assert_eq!(followed.loaded.lock().unwrap().wrong, None);
        // Half of a rotation: the certificate is new, its key is not.
        fs::write(&certificate, &second.0).unwrap();
        assert!(Arc::ptr_eq(&replaced, &followed.config()));
        let wrong = followed.loaded.lock().unwrap().wrong.clone().unwrap();
        assert!(
            wrong.contains("spec.tls.keyFile") && wrong.contains("not that of the certificate"),
            "{wrong}"
        );
        fs::write(&key, &second.1).unwrap();
        assert!(!Arc::ptr_eq(&replaced, &followed.config()));
    }

    #[test]
    fn equal_settings_share_one_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let [one, same, other] = ["1.pem", "2.pem", "3.pem"].map(|name| folder.path().join(name));
        let (first, second) = (made(), made());
        for (file, text) in [(&one, &first.0), (&same, &first.0), (&other, &second.0)] {
            fs::write(file, text).unwrap();
        }
        let of = |authorities: Option<&PathBuf>, protocols: &[&[u8]]| {
            let files = TlsFiles { authorities: authorities.cloned(), certificate: None };
            Followed::new(files, "spec.tls", protocols).unwrap().config()
        };
        let config = of(Some(&one), &[b"h2"]);
        assert!(Arc::ptr_eq(&config, &of(Some(&same), &[b"h2"])));
        for different in [of(Some(&other), &[b"h2"]), of(Some(&one), &[]), of(None, &[b"h2"])] {
            assert!(!Arc::ptr_eq(&config, &different));
        }
        let system = of(None, &[b"h2"]);
        assert!(Arc::ptr_eq(&system, &of(None, &[b"h2"])));
    }

    #[test]
    fn g7_a_file_that_cannot_be_used_is_named_by_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let [file, key] = ["x.pem", "k.pem"].map(|name| folder.path().join(name));
        let (certificate, secret) = made();
        let with = |text: &str, key_text: &str| {
            fs::write(&file, text).unwrap();
            fs::write(&key, key_text).unwrap();
            let certificate = Some(ClientCertificate { certificate: file.clone(), key: key.clone() });
            let files = TlsFiles { authorities: None, certificate };
            Followed::new(files, "spec.tls", &[]).unwrap_err().to_string()
        };
        let text = with("nothing", &secret);
        assert!(text.starts_with("spec.tls.certFile: ") && text.contains("no BEGIN CERTIFICATE"), "{text}");
        let text = with(&certificate, "sesame");
        assert!(text.starts_with("spec.tls.keyFile: ") && text.contains("no private key"), "{text}");
        assert!(!text.contains("sesame"), "{text}");
    }
}
