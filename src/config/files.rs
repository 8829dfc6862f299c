//! The files that a configuration points to.

use std::path::{Component, Path, PathBuf};

pub(super) use routr_net::files::read;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::rules::{CLUSTER_CA_FOLDER, CLUSTER_SOCKET_FOLDER};
use routr_types::secret::Secret;

/// Questions of the validator about files.
pub(super) trait Files {
    /// The path to use for one that was given.
    fn resolve(&self, given: &str) -> PathBuf;
    /// Returns whether the PEM file holds authorities; else what is wrong with it.
    fn authorities(&self, path: &Path) -> Result<(), String>;
    /// Returns whether the PEM file holds a private key; else what is wrong with it, without any of it.
    fn key(&self, path: &Path) -> Result<(), String>;
    /// The password in the file; else what is wrong with it.
    fn password(&self, path: &Path) -> Result<Option<Secret>, String>;
    /// The path to use for a unix socket that was given, which need not be there yet; else why it may not be
    /// used.
    fn socket(&self, given: &Path) -> Result<PathBuf, String>;
}

/// Looks at no file: all are taken to be good, and no password is read.
pub(super) struct Unread;

impl Files for Unread {
    fn resolve(&self, given: &str) -> PathBuf {
        given.into()
    }

    fn authorities(&self, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn key(&self, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn password(&self, _: &Path) -> Result<Option<Secret>, String> {
        Ok(None)
    }

    fn socket(&self, given: &Path) -> Result<PathBuf, String> {
        Ok(given.to_owned())
    }
}

/// Returns whether `path` is something below `folder`, and leads nowhere else.
fn is_below(path: &Path, folder: &str) -> bool {
    let plain = |name: &Path| name.components().all(|part| matches!(part, Component::Normal(_)));
    path.strip_prefix(folder).is_ok_and(|name| plain(name) && name.components().next().is_some())
}

/// Files of a Kubernetes resource: looks at none, and allows only files of TLS below [`CLUSTER_CA_FOLDER`]
/// and sockets below [`CLUSTER_SOCKET_FOLDER`].
pub(super) struct Cluster;

impl Files for Cluster {
    fn resolve(&self, given: &str) -> PathBuf {
        let folder = Path::new(CLUSTER_CA_FOLDER);
        let name = Path::new(given).strip_prefix(folder).unwrap_or(Path::new(given));
        folder.join(name)
    }

    fn authorities(&self, path: &Path) -> Result<(), String> {
        if is_below(path, CLUSTER_CA_FOLDER) {
            return Ok(());
        }
        Err(format!("a resource can only name files below {CLUSTER_CA_FOLDER} of the operator's pod"))
    }

    fn key(&self, path: &Path) -> Result<(), String> {
        self.authorities(path)
    }

    fn password(&self, _: &Path) -> Result<Option<Secret>, String> {
        Err("cannot be used in a resource".to_owned())
    }

    fn socket(&self, given: &Path) -> Result<PathBuf, String> {
        if is_below(given, CLUSTER_SOCKET_FOLDER) {
            return Ok(given.to_owned());
        }
        Err(format!("a resource can only name sockets below {CLUSTER_SOCKET_FOLDER} of the operator's pod"))
    }
}

/// The real files; relative paths begin at the directory of the configuration.
pub(super) struct Disk<'a> {
    pub(super) base: &'a Path,
}

impl Files for Disk<'_> {
    fn resolve(&self, given: &str) -> PathBuf {
        self.base.join(given)
    }

    fn authorities(&self, path: &Path) -> Result<(), String> {
        let pem = read(path).map_err(|error| format!("cannot be read ({error})"))?;
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            certificate.map_err(|_| "holds broken PEM".to_owned())?;
            count += 1;
        }
        if count == 0 { Err("holds no certificate".to_owned()) } else { Ok(()) }
    }

    fn key(&self, path: &Path) -> Result<(), String> {
        let pem = read(path).map_err(|error| format!("cannot be read ({error})"))?;
        match PrivateKeyDer::from_pem_slice(&pem) {
            Ok(_) => Ok(()),
            Err(_) if pem.windows(9).any(|part| part == b"ENCRYPTED") => {
                Err("holds a private key with a passphrase".to_owned())
            }
            Err(_) => Err("holds no private key".to_owned()),
        }
    }

    fn socket(&self, given: &Path) -> Result<PathBuf, String> {
        Ok(self.base.join(given))
    }

    fn password(&self, path: &Path) -> Result<Option<Secret>, String> {
        let bytes = read(path).map_err(|error| format!("cannot be read ({error})"))?;
        let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        one_line(&text).map(Some)
    }
}

/// The one line of a text that is to be a secret; the newline that an editor leaves at its end does not
/// count. Else what is wrong with the text, without any of it.
pub(super) fn one_line(text: &str) -> Result<Secret, String> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("is empty".to_owned());
    }
    if line.contains(char::is_control) {
        return Err("has more than one line".to_owned());
    }
    Ok(Secret::new(line))
}
