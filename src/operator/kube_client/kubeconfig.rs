//! Reads kubeconfig files as kubectl does: a file of the list that is missing is skipped, and the first to
//! name a thing has it.

use std::{
    io,
    path::{Path, PathBuf},
};

use axum::http::Uri;
use kube::{
    Config,
    config::{
        AuthInfo, Cluster, ExecAuthCluster, ExecConfig, Kubeconfig, KubeconfigError as ReadError,
        LoadDataError,
    },
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{Environment, home, proxy, proxy::ProxyError, shown};

/// A kubeconfig that cannot be used. Names the file or the field, and no value that may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// A file is there and cannot be read.
    #[error("kubeconfig {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Error of the system.
        source: io::Error,
    },
    /// A file is no kubeconfig. What the parser says may quote a token.
    #[error(
        "kubeconfig {path}: no valid kubeconfig{place}; kubectl config view --kubeconfig={path} shows how it is read"
    )]
    Syntax {
        /// The file.
        path: String,
        /// Line and column, where they are known.
        place: String,
    },
    /// Files that do not belong together.
    #[error("kubeconfig {path}: its kind or apiVersion is not that of the files before it; use v1, Config")]
    Merge {
        /// The file.
        path: String,
    },
    /// No context is chosen.
    #[error("{files}: no current-context; choose one: kubectl config use-context NAME")]
    NoContext {
        /// Files that were read.
        files: String,
    },
    /// A name that leads nowhere.
    #[error("{files}: {field} names {name:?}, which is not there")]
    Missing {
        /// Files that were read.
        files: String,
        /// Field that names it.
        field: String,
        /// The name.
        name: String,
    },
    /// No address.
    #[error("{files}: clusters[{cluster}].server is {problem}; use for example https://10.0.0.1:6443")]
    Server {
        /// Files that were read.
        files: String,
        /// The name of the cluster.
        cluster: String,
        /// Problem in a few words.
        problem: &'static str,
    },
    /// The CA is not there, or is none.
    #[error("{files}: clusters[{cluster}].certificate-authority: {problem}")]
    Authority {
        /// Files that were read.
        files: String,
        /// The name of the cluster.
        cluster: String,
        /// Problem in a few words.
        problem: String,
    },
    /// Credentials by a method that Kubernetes has removed.
    #[error(
        "{files}: users[].user.auth-provider {name} is not supported; Kubernetes 1.26 removed it: use an exec plugin"
    )]
    AuthProvider {
        /// Files that were read.
        files: String,
        /// Its name.
        name: String,
    },
    /// The settings of an exec plugin.
    #[error("kubeconfig: {0}")]
    Exec(String),
    /// A proxy that cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// The files that are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sources {
    paths: Vec<PathBuf>,
    /// `KUBECONFIG` names them.
    named: bool,
}

impl Sources {
    pub(super) fn of(environment: Environment<'_>) -> Self {
        let list = environment("KUBECONFIG").unwrap_or_default();
        let paths: Vec<PathBuf> =
            std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect();
        if paths.is_empty() {
            let default = home(environment).map(|home| home.join(".kube/config"));
            return Self { paths: default.into_iter().collect(), named: false };
        }
        Self { paths, named: true }
    }

    /// Returns a description for a message.
    pub(super) fn described(&self) -> String {
        let paths: Vec<String> = self.paths.iter().map(|path| shown(path)).collect();
        match (self.named, paths.as_slice()) {
            (true, paths) => format!("KUBECONFIG names {}, and there is none", paths.join(" and ")),
            (false, [path]) => format!("KUBECONFIG is not set, there is no {path}"),
            (false, _) => "neither KUBECONFIG nor HOME is set".to_owned(),
        }
    }
}

/// Configuration of the current context.
pub(super) struct Found {
    pub(super) config: Config,
    /// The exec plugin; the configuration is without it.
    pub(super) exec: Option<ExecConfig>,
}

/// Reads the files. `None` when none is there, or they are empty.
pub(super) fn read(
    sources: &Sources,
    environment: Environment<'_>,
) -> Result<Option<Found>, KubeconfigError> {
    let (mut merged, mut files) = (Kubeconfig::default(), Vec::new());
    for path in &sources.paths {
        let Some(kubeconfig) = read_file(path)? else {
            if sources.named {
                tracing::warn!(path = shown(path), "KUBECONFIG names a file that does not exist: skipped");
            }
            continue;
        };
        merged = merged.merge(kubeconfig).map_err(|_| KubeconfigError::Merge { path: shown(path) })?;
        files.push(shown(path));
    }
    let is_empty = merged.contexts.is_empty()
        && merged.clusters.is_empty()
        && nonempty(&merged.current_context).is_none();
    if files.is_empty() || is_empty {
        return Ok(None);
    }
    resolve(&merged, &format!("kubeconfig {}", files.join(", ")), environment).map(Some)
}

fn read_file(path: &Path) -> Result<Option<Kubeconfig>, KubeconfigError> {
    match Kubeconfig::read_from(path) {
        Ok(kubeconfig) => Ok(Some(kubeconfig)),
        Err(ReadError::ReadConfig(source, _)) if is_missing(&source) => Ok(None),
        Err(ReadError::ReadConfig(source, _)) => Err(KubeconfigError::File { path: shown(path), source }),
        Err(ReadError::Parse(error)) => {
            let place = error.location().map(|at| format!(" at line {}, column {}", at.line(), at.column()));
            Err(KubeconfigError::Syntax { path: shown(path), place: place.unwrap_or_default() })
        }
        Err(ReadError::KindMismatch | ReadError::ApiVersionMismatch) => {
            Err(KubeconfigError::Merge { path: shown(path) })
        }
        Err(_) => Err(KubeconfigError::Syntax { path: shown(path), place: String::new() }),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The current context as a configuration. Its fields are set here one by one, for kube's own loader refuses
/// a `NO_PROXY` with an odd entry, and reads `HTTPS_PROXY` whatever the server.
fn resolve(
    kubeconfig: &Kubeconfig,
    files: &str,
    environment: Environment<'_>,
) -> Result<Found, KubeconfigError> {
    let missing = |field: String, name: &str| KubeconfigError::Missing {
        files: files.to_owned(),
        field,
        name: name.to_owned(),
    };
    let current = nonempty(&kubeconfig.current_context)
        .ok_or_else(|| KubeconfigError::NoContext { files: files.to_owned() })?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == current);
    let context = context
        .and_then(|named| named.context.as_ref())
        .ok_or_else(|| missing("current-context".to_owned(), current))?;
    let name = context.cluster.as_str();
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == name);
    let cluster = cluster
        .and_then(|named| named.cluster.as_ref())
        .ok_or_else(|| missing(format!("contexts[{current}].cluster"), name))?;
    // As kubectl does: a user who is not there is an anonymous one.
    let user = kubeconfig.auth_infos.iter().find(|named| Some(&named.name) == context.user.as_ref());
    let mut user = user.and_then(|named| named.auth_info.clone()).unwrap_or_default();
    if let Some(provider) = &user.auth_provider
        && (provider.name != "oidc" || !provider.config.contains_key("id-token"))
    {
        let (files, name) = (files.to_owned(), provider.name.clone());
        return Err(KubeconfigError::AuthProvider { files, name });
    }
    let server = server_of(cluster, name, files)?;
    let (authority, roots) = authority_of(cluster, name, files)?;
    let exec = exec_of(&mut user, authority);
    let proxy_url = match nonempty(&cluster.proxy_url) {
        // As kubectl does: it is meant for this server, whatever NO_PROXY says.
        Some(proxy) => Some(proxy::parse(&format!("clusters[{name}].proxy-url"), proxy)?),
        None => proxy::from_environment(&server, environment)?,
    };
    let mut config = Config::new(server);
    if let Some(namespace) = nonempty(&context.namespace) {
        namespace.clone_into(&mut config.default_namespace);
    }
    config.root_cert = roots;
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name = nonempty(&cluster.tls_server_name).map(str::to_owned);
    config.proxy_url = proxy_url;
    config.auth_info = user;
    Ok(Found { config, exec })
}

fn server_of(cluster: &Cluster, name: &str, files: &str) -> Result<Uri, KubeconfigError> {
    let wrong =
        |problem| KubeconfigError::Server { files: files.to_owned(), cluster: name.to_owned(), problem };
    let server = nonempty(&cluster.server).ok_or_else(|| wrong("missing"))?;
    let uri: Uri = server.trim().parse().map_err(|_| wrong("no URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(uri),
        _ => Err(wrong("no URL with http or https")),
    }
}

type Roots = Option<Vec<Vec<u8>>>;

/// The cluster as an exec plugin may be given it, and its CA certificates (DER).
fn authority_of(
    cluster: &Cluster,
    name: &str,
    files: &str,
) -> Result<(ExecAuthCluster, Roots), KubeconfigError> {
    let wrong =
        |problem| KubeconfigError::Authority { files: files.to_owned(), cluster: name.to_owned(), problem };
    let description = ExecAuthCluster::try_from(cluster).map_err(|error| match error {
        ReadError::LoadCertificateAuthority(LoadDataError::ReadFile(source, path)) => {
            wrong(format!("{}: {source}", shown(&path)))
        }
        _ => wrong("certificate-authority-data is not base64".to_owned()),
    })?;
    let Some(pem) = &description.certificate_authority_data else { return Ok((description, None)) };
    let roots: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem).map(|root| root.map(|root| root.to_vec())).collect();
    match roots {
        Ok(roots) if !roots.is_empty() => Ok((description, Some(roots))),
        _ => Err(wrong("no PEM certificate in it".to_owned())),
    }
}

/// Takes the plugin out of the user's settings, unless others of them go before it, as in kubectl.
fn exec_of(user: &mut AuthInfo, cluster: ExecAuthCluster) -> Option<ExecConfig> {
    let exec = user.exec.take()?;
    if user.token.is_some() || user.token_file.is_some() || user.username.is_some() {
        return None;
    }
    let cluster = exec.provide_cluster_info.then_some(cluster);
    Some(ExecConfig { cluster, ..exec })
}

fn nonempty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    /// Reads these files; a `null` is one that is missing.
    fn read_all(files: &[Value], variables: &[(&str, &str)]) -> Result<Option<Found>, String> {
        let folder = TempDir::new().unwrap();
        let mut paths = Vec::new();
        for (n, content) in files.iter().enumerate() {
            let path = folder.path().join(format!("config-{n}"));
            match content {
                Value::Null => {}
                Value::String(text) => std::fs::write(&path, text).unwrap(),
                content => std::fs::write(&path, content.to_string()).unwrap(),
            }
            paths.push(path);
        }
        let list = std::env::join_paths(paths).unwrap();
        let environment = |name: &str| match name {
            "KUBECONFIG" => Some(list.clone()),
            name => variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value)),
        };
        read(&Sources::of(&environment), &environment).map_err(|error| error.to_string())
    }

    fn config(cluster: Value, user: Value) -> Value {
        json!({
            "clusters": [{ "name": "c", "cluster": cluster }],
            "users": [{ "name": "u", "user": user }],
            "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u", "namespace": "voice" } }],
            "current-context": "x",
        })
    }

    fn server() -> Value {
        json!({ "server": "https://10.0.0.1:6443" })
    }

    #[test]
    fn k6_a_missing_file_of_the_list_is_skipped_and_the_first_to_name_a_thing_has_it() {
        let first = json!({ "clusters": [{ "name": "c", "cluster": { "server": "https://10.0.0.9" } }] });
        let found = read_all(
            &[Value::Null, first, Value::Null, json!(""), config(server(), json!({})), Value::Null],
            &[],
        );
        let found = found.unwrap().unwrap();
        assert_eq!(found.config.cluster_url.to_string(), "https://10.0.0.9/");
        assert_eq!(found.config.default_namespace, "voice");
        assert!(read_all(&[Value::Null, Value::Null], &[]).unwrap().is_none());
        assert!(read_all(&[json!(""), json!("apiVersion: v1\nkind: Config\n")], &[]).unwrap().is_none());
    }

    #[test]
    fn k6_what_is_wrong_is_named_and_no_secret_quoted() {
        let cases = [
            (json!("users:\n- name: u\n  user: s3cret\n"), "no valid kubeconfig at line"),
            (json!("token: 's3cret\n"), "no valid kubeconfig"),
            (json!({ "contexts": [{ "name": "x" }] }), "no current-context"),
            (json!({ "current-context": "y" }), "current-context names \"y\""),
            (config(json!({ "server": "10.0.0.1:6443" }), json!({})), "clusters[c].server is no URL"),
            (config(json!({ "server": "https://u:s3cret@" }), json!({})), "clusters[c].server is no URL"),
            (
                config(json!({ "server": "https://h", "certificate-authority": "/nowhere" }), json!({})),
                "certificate-authority: /nowhere: No such file",
            ),
            (
                config(json!({ "server": "https://h", "certificate-authority-data": "s3cret=" }), json!({})),
                "not base64",
            ),
            (
                config(json!({ "server": "https://h", "proxy-url": "socks4://u:s3cret@p:1" }), json!({})),
                "clusters[c].proxy-url: a proxy of the scheme socks4",
            ),
            (
                config(
                    server(),
                    json!({ "auth-provider": { "name": "gcp", "config": { "cmd-path": "s3cret" } } }),
                ),
                "auth-provider gcp is not supported",
            ),
        ];
        for (content, expected) in cases {
            let error = read_all(std::slice::from_ref(&content), &[]).map(|_| ()).expect_err(expected);
            assert!(error.contains(expected), "{expected} is not in: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn k6_a_proxy_of_the_cluster_goes_before_the_environment() {
        let proxied = |cluster: Value, variables: &[(&str, &str)]| {
            let found = read_all(&[config(cluster, json!({}))], variables).unwrap().unwrap();
            found.config.proxy_url.map(|proxy| proxy.to_string())
        };
        let variables = [("HTTPS_PROXY", "http://environment:1"), ("NO_PROXY", "10.0.0.0/8,,")];
        let own = json!({ "server": "https://10.0.0.1", "proxy-url": "http://own:2" });
        assert_eq!(proxied(own, &variables).as_deref(), Some("http://own:2/"));
        assert_eq!(proxied(server(), &variables), None);
        assert_eq!(proxied(server(), &variables[..1]).as_deref(), Some("http://environment:1/"));
    }
}
