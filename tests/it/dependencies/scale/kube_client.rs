//! Kubeconfigs as people have them: through a proxy, with an exec plugin, in several files.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::installation::{Installation, Operator, SOON};
use crate::support::wait::{wait_for, wait_until};

/// A proxy's password, as it is and as a URL has it.
const PASSWORD: &str = "pr0xy/p@ssw:rd";
const ENCODED: &str = "pr0xy%2Fp%40ssw%3Ard";

/// An HTTP proxy for CONNECT, with a user and a password.
struct Proxy {
    address: SocketAddr,
    tunnels: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    _end: DropGuard,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tunnels, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let end = CancellationToken::new();
        let (counted, stopped, stop) = (tunnels.clone(), refused.clone(), end.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (counted, stopped) = (counted.clone(), stopped.clone());
                tokio::spawn(async move {
                    match tunnel(client, &counted).await {
                        Ok(true) | Err(_) => {}
                        Ok(false) => drop(stopped.fetch_add(1, Ordering::Relaxed)),
                    }
                });
            }
        }));
        Self { address, tunnels, refused, _end: end.drop_guard() }
    }

    fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }
}

/// Serves one connection; `false` where its credentials are wrong.
async fn tunnel(mut client: TcpStream, counted: &AtomicUsize) -> std::io::Result<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let expected = format!("Basic {}", BASE64_STANDARD.encode(format!("user:{PASSWORD}")));
    if !head.contains(&expected) {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").await?;
        return Ok(false);
    }
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let mut server = TcpStream::connect(target).await?;
    counted.fetch_add(1, Ordering::Relaxed);
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(true)
}

async fn leads(cluster: &Installation<'_>, operator: &Operator, pod: &str) {
    let look = async || match cluster.leader().await {
        Some(leader) if leader == pod => Ok(()),
        leader => Err(format!("{leader:?} leads; {}", operator.service.output())),
    };
    wait_for(look, SOON, "the operator to lead").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k6_the_api_server_is_reached_through_a_proxy_and_no_proxy_counts() {
    let cluster = Installation::with_short_terms("proxy").await;
    let proxy = Proxy::start().await;
    let url = format!("http://user:{ENCODED}@{}", proxy.address);

    let direct =
        cluster.start_in("pod-direct", &[("HTTPS_PROXY", &url), ("no_proxy", "other, 127.0.0.0/8,")]);
    leads(&cluster, &direct, "pod-direct").await;
    assert_eq!(proxy.tunnels(), 0);
    direct.service.assert_never_said(PASSWORD);
    drop(direct);

    let proxied = cluster.start_in("pod-proxied", &[("HTTPS_PROXY", &url), ("NO_PROXY", "10.0.0.0/8,.svc")]);
    leads(&cluster, &proxied, "pod-proxied").await;
    assert!(proxy.tunnels() > 0);
    for secret in [PASSWORD, ENCODED] {
        proxied.service.assert_never_said(secret);
    }
    drop(proxied);

    // A proxy that refuses the password: reported, without it.
    let wrong = format!("http://user:wr0ng-s3cret@{}", proxy.address);
    let refused = cluster.start_in("pod-refused", &[("HTTPS_PROXY", &wrong), ("RUST_LOG", "debug")]);
    let said = async || {
        let (_, ready) = refused.public("/readyz").await?;
        assert!(!ready.contains("s3cret"), "{ready}");
        // The name of the namespace has the word, too.
        let tried = proxy.refused.load(Ordering::Relaxed) > 0;
        if tried && ready.contains("cannot list") && ready.contains("proxy") { Ok(()) } else { Err(ready) }
    };
    wait_for(said, SOON, "the proxy's refusal to be shown").await;
    assert!(proxy.refused.load(Ordering::Relaxed) > 0);
    refused.service.assert_never_said("s3cret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k6_a_proxy_that_cannot_be_used_ends_the_start_without_its_password() {
    let cluster = Installation::shared("noproxy").await;
    for value in [
        "ftp://user:s3cret@127.0.0.1:1",
        "http://user:s3cret@ 127.0.0.1:1",
        "socks5://user:s3cret@127.0.0.1:1",
    ] {
        let mut operator = cluster.start_in("pod-a", &[("HTTPS_PROXY", value)]);
        wait_until(async || operator.service.status().is_some(), SOON, "the operator to end").await;
        let said = operator.service.output();
        assert!(said.contains("HTTPS_PROXY"), "{said}");
        operator.service.assert_never_said("s3cret");
    }
}

/// A kubeconfig like that of the ServiceAccount, with another user.
fn with_user(cluster: &Installation<'_>, folder: &Path, user: &Value) -> PathBuf {
    let mut kubeconfig: Value =
        serde_json::from_str(&fs::read_to_string(cluster.kubeconfig()).unwrap()).unwrap();
    kubeconfig["users"][0]["user"] = user.clone();
    let path = folder.join("kubeconfig");
    fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k6_an_exec_plugin_that_fails_is_waited_for_and_shows_its_name_and_exit_status_alone() {
    let cluster = Installation::shared("plugin").await;
    let folder = TempDir::new().unwrap();
    let (plugin, works) = (folder.path().join("get-token"), folder.path().join("works"));
    let original: Value = serde_json::from_str(&fs::read_to_string(cluster.kubeconfig()).unwrap()).unwrap();
    let token = original["users"][0]["user"]["token"].as_str().unwrap();
    let script = format!(
        "#!/bin/sh\necho \"token: $PLUGIN_SECRET $1\" >&2\n[ -e {works} ] || {{ echo $PLUGIN_SECRET; exit 7; }}\n\
         echo '{{\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"{token}\"}}}}'\n",
        works = works.display()
    );
    fs::write(&plugin, script).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    // As a person's shell has it, where the plugin's standard error would be ours.
    let user = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "./get-token", "args": ["--key=argum3nt"],
        "env": [{ "name": "PLUGIN_SECRET", "value": "s3cret" }], "interactiveMode": "IfAvailable", "provideClusterInfo": true,
    } });
    let kubeconfig = with_user(&cluster, folder.path(), &user);
    let operator = cluster.start_as(kubeconfig.to_str().unwrap(), "pod-a", &[]);
    let failed = async || {
        let (_, ready) = operator.public("/readyz").await?;
        for secret in ["s3cret", "argum3nt"] {
            assert!(!ready.contains(secret), "{ready}");
        }
        if ready.contains("get-token failed (exit status: 7)") { Ok(()) } else { Err(ready) }
    };
    wait_for(failed, SOON, "the plugin's failure to be shown").await;
    fs::write(works, "").unwrap();
    leads(&cluster, &operator, "pod-a").await;
    for secret in ["s3cret", "argum3nt", token] {
        operator.service.assert_never_said(secret);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k6_a_missing_file_of_the_kubeconfig_list_is_skipped() {
    let cluster = Installation::shared("list").await;
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing");
    let list = format!("{0}:{1}::{0}/below", missing.display(), cluster.kubeconfig());
    let operator = cluster.start_as(&list, "pod-a", &[]);
    leads(&cluster, &operator, "pod-a").await;
    assert!(operator.service.output().contains("does not exist: skipped"), "{}", operator.service.output());
    drop(operator);
    let mut operator = cluster.start_as(missing.to_str().unwrap(), "pod-b", &[]);
    wait_until(async || operator.service.status().is_some(), SOON, "the operator to end").await;
    let said = operator.service.output();
    assert!(said.contains(missing.to_str().unwrap()) && said.contains("ServiceAccount"), "{said}");
}
