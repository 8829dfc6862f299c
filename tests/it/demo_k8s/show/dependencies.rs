//! Dependencies of a Registry: an API server over a folder, a Requester, and SIP registrars, with sample
//! trunks.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use routr_registry::devstack::api::{ApiOptions, ApiServer};
use routr_registry::devstack::samples::{self, SAMPLES, SampleRegistrars, Samples};
use routr_registry::requester;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Done, Problem};

/// Period at which the API server looks at its folder.
const POLL: Duration = Duration::from_millis(100);

/// All of them, running in this process until they are dropped.
pub struct Dependencies {
    pub api: SocketAddr,
    pub requester: SocketAddr,
    registrars: SampleRegistrars,
    folder: PathBuf,
    _end: DropGuard,
}

impl Dependencies {
    /// Serves the sample trunks that can be registered; their resources are written into `folder`.
    pub async fn start(folder: &Path) -> Done<Self> {
        let end = CancellationToken::new();
        let registrars = samples::start_registrars(end.clone())
            .await
            .map_err(|error| Problem::new(format!("the SIP registrars do not start: {error}")))?;
        fs::create_dir_all(folder)?;
        fs::write(folder.join("credentials.yaml"), healthy(&Samples::credentials_yaml()))?;
        fs::write(folder.join("trunks.yaml"), healthy(&registrars.samples().trunks_yaml()))?;
        let options = ApiOptions { paged: false, poll_interval: POLL };
        let served =
            ApiServer::load_with(folder, options).map_err(|error| Problem::new(error.to_string()))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let api = listener.local_addr()?;
        let shutdown = end.clone();
        tokio::spawn(async move { served.serve(listener, shutdown).await });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let requester = listener.local_addr()?;
        let options =
            requester::Options { sip_bind: Ipv4Addr::UNSPECIFIED.into(), ..requester::Options::default() };
        tokio::spawn(requester::serve(listener, options, end.clone()));
        Ok(Self { api, requester, registrars, folder: folder.to_owned(), _end: end.drop_guard() })
    }

    /// Returns the number of trunks.
    pub fn trunks(&self) -> usize {
        SAMPLES.iter().filter(|sample| sample.healthy).count()
    }

    /// Returns the number of bindings at the registrars: their own view, not the operator's.
    pub fn bindings(&self) -> usize {
        let all = [&self.registrars.acme, &self.registrars.globex];
        all.into_iter().flat_map(|registrar| registrar.bindings().into_values()).flatten().count()
    }

    /// Replaces a text in the file that holds the passwords.
    pub fn edit_credentials(&self, before: &str, after: &str) -> Done {
        let file = self.folder.join("credentials.yaml");
        let text = fs::read_to_string(&file)?;
        if text.matches(before).count() != 1 {
            return Err(Problem::new(format!("{before:?} does not stand once in {file:?}")));
        }
        let draft = self.folder.join(".draft");
        fs::write(&draft, text.replace(before, after))?;
        Ok(fs::rename(draft, file)?)
    }
}

/// The resources of the trunks that can be registered. An empty line stands before each.
fn healthy(resources: &str) -> String {
    let sick = |piece: &str| {
        let of = |reference: &str| {
            piece.contains(&format!("ref: {reference}\n"))
                || piece.contains(&format!("ref: {reference}-credentials\n  metadata"))
        };
        SAMPLES.iter().any(|sample| !sample.healthy && of(sample.reference))
    };
    let kept: Vec<&str> = resources.trim_end().split("\n\n").filter(|piece| !sick(piece)).collect();
    kept.join("\n\n") + "\n"
}
