//! Clients of the Kubernetes API server: from the kubeconfig or the pod's ServiceAccount, through a proxy,
//! with the credentials of an exec plugin.
//!
//! * [`kubeconfig`]: which files are read, and the connection that the current context names; the messages
//!   name a file and a field, never a value that may be a secret,
//! * [`proxy`]: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as kubectl reads them,
//! * [`exec_plugin`]: the command that prints credentials.

mod exec_plugin;
mod kubeconfig;
mod proxy;

use std::{path::PathBuf, sync::Arc};

use kube::{Client, Config, config::InClusterError};

use self::exec_plugin::{ExecPlugin, ExecPluginError};
pub use self::{kubeconfig::KubeconfigError, proxy::ProxyError};
use super::client::ClientKind;
use routr_kube_errors::ApiError;

/// Reason that there is no client.
#[derive(Debug, thiserror::Error)]
pub enum KubeClientError {
    /// There is neither a kubeconfig nor a ServiceAccount.
    #[error(
        "cannot find a Kubernetes API server: {files}, and no ServiceAccount: {in_cluster}; run in a pod \
         with a ServiceAccount, or set KUBECONFIG"
    )]
    NoCluster {
        /// Kubeconfig files that were looked for.
        files: String,
        /// Reason that there is no ServiceAccount.
        in_cluster: InClusterError,
    },
    /// The kubeconfig is wrong.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The client cannot be set up.
    #[error("cannot set up the client of the Kubernetes API server: {0}")]
    Client(ApiError),
}

impl From<kube::Error> for KubeClientError {
    fn from(error: kube::Error) -> Self {
        Self::Client(error.into())
    }
}

/// Access to one API server, from which any number of clients are made.
#[derive(Clone)]
pub struct ApiServerAccess {
    config: Config,
    plugin: Option<Arc<ExecPlugin>>,
}

impl ApiServerAccess {
    /// Reads `KUBECONFIG`, else `~/.kube/config`, else the ServiceAccount of the pod.
    ///
    /// # Errors
    /// When there is none of them, or the kubeconfig is wrong. An API server that is down, and an exec plugin
    /// that fails, are found at the first request.
    pub fn infer() -> Result<Self, KubeClientError> {
        let environment = |name: &str| std::env::var_os(name);
        let sources = kubeconfig::Sources::of(&environment);
        if let Some(found) = kubeconfig::read(&sources, &environment)? {
            let mut config = found.config;
            config.apply_debug_overrides();
            let plugin = found.exec.map(ExecPlugin::new).transpose().map_err(KubeconfigError::from)?;
            return Ok(Self { config, plugin: plugin.map(Arc::new) });
        }
        let mut config = Config::incluster()
            .map_err(|in_cluster| KubeClientError::NoCluster { files: sources.described(), in_cluster })?;
        config.apply_debug_overrides();
        Ok(Self { config, plugin: None })
    }

    /// The address of the API server, without a user or a password that the URL may have.
    pub fn server(&self) -> String {
        proxy::without_credentials(&self.config.cluster_url)
    }

    /// The namespace of the kubeconfig's context, or of the pod.
    pub fn default_namespace(&self) -> &str {
        &self.config.default_namespace
    }

    /// Makes a client of a kind. Each has connections of its own.
    ///
    /// # Errors
    /// When certificates, keys or tokens cannot be read.
    pub fn client(&self, kind: &ClientKind) -> Result<Client, KubeClientError> {
        let config = self.config.clone();
        let Some(plugin) = &self.plugin else { return Ok(kind.build(config)?) };
        // Reads the CA and so on now: an error there is reported at the start.
        kind.build(config.clone())?;
        let (namespace, kind) = (config.default_namespace.clone(), kind.clone());
        let make = move |credentials: &exec_plugin::Credentials| {
            let mut config = config.clone();
            credentials.write_into(&mut config.auth_info);
            kind.build(config)
        };
        Ok(Client::new(exec_plugin::Authenticated::new(plugin.clone(), make), namespace))
    }
}

impl From<ExecPluginError> for KubeconfigError {
    fn from(error: ExecPluginError) -> Self {
        Self::Exec(error.to_string())
    }
}

/// A path as it is shown.
fn shown(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// Environment variables: the process's own, or those of a test.
type Environment<'a> = &'a dyn Fn(&str) -> Option<std::ffi::OsString>;

/// The user's home, for the kubeconfig that is read when none is named.
fn home(environment: Environment<'_>) -> Option<PathBuf> {
    environment("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}
