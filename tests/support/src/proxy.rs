//! Real proxies in front of a gRPC dependency: nginx and HAProxy, with limits so short that what takes
//! minutes in the field takes seconds.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::ports;
use super::process::{self, Process};
use super::wait::{PATIENCE, wait_until};

const START: Duration = PATIENCE;

/// A running proxy that takes gRPC on a port of its own. Dropping it kills it.
pub struct Proxy {
    process: Process,
    port: u16,
    _dir: TempDir,
}

impl Proxy {
    /// nginx with `grpc_pass` to that port of 127.0.0.1. It ends connections after 5 requests, and after 1 s
    /// without one, on either side.
    pub async fn nginx(upstream: u16) -> Self {
        Self::nginx_with(upstream, "        keepalive_requests 5;\n        keepalive_timeout 1s;\n").await
    }

    /// nginx with the time-outs that it has by itself: 75 s without a request at the front, 60 s at the back
    /// and for a response, 1,000 requests.
    pub async fn nginx_by_default(upstream: u16) -> Self {
        Self::nginx_with(upstream, "").await
    }

    /// `limits` are lines for the server and for what is behind it.
    async fn nginx_with(upstream: u16, limits: &str) -> Self {
        let (dir, port) = (TempDir::new().unwrap(), ports::free());
        let folder = dir.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("    {what}_temp_path {folder}/{what};\n"))
            .concat();
        let text = format!(
            "daemon off;\npid {folder}/nginx.pid;\nerror_log stderr warn;\nevents {{ worker_connections 256; }}\nhttp {{\n    access_log \
             off;\n{temporary}    upstream dependency {{\n        server 127.0.0.1:{upstream} max_fails=0;\n        keepalive \
             4;\n{limits}    }}\n    server {{\n        listen 127.0.0.1:{port} \
             http2;\n{limits}        location / {{ grpc_pass \
             grpc://dependency; }}\n    }}\n}}\n"
        );
        let path = write(&dir, "nginx.conf", &text);
        let mut command = process::command("nginx");
        command.args(["-p", &folder.to_string(), "-e", "stderr", "-c", &path]);
        Self::start("nginx", command, port, dir).await
    }

    /// HAProxy with HTTP/2 on either side. It ends connections after 1 s without a request.
    pub async fn haproxy(upstream: u16) -> Self {
        let short = "timeout connect 2s\n    timeout client 1s\n    timeout server 1s\n    timeout http-keep-alive 1s";
        Self::haproxy_with(upstream, short).await
    }

    /// HAProxy with the time-outs of the configuration that it is installed with: 50 s without a byte on
    /// either side.
    pub async fn haproxy_by_default(upstream: u16) -> Self {
        let default = "timeout connect 5000\n    timeout client 50000\n    timeout server 50000";
        Self::haproxy_with(upstream, default).await
    }

    async fn haproxy_with(upstream: u16, timeouts: &str) -> Self {
        let (dir, port) = (TempDir::new().unwrap(), ports::free());
        let text = format!(
            "global\n    maxconn 256\ndefaults\n    mode http\n    {timeouts}\nfrontend grpc\n    bind 127.0.0.1:{port} proto h2\n    default_backend \
             dependency\nbackend dependency\n    server one 127.0.0.1:{upstream} proto h2\n"
        );
        let path = write(&dir, "haproxy.cfg", &text);
        let mut command = process::command("haproxy");
        command.args(["-db", "-f", &path]);
        Self::start("haproxy", command, port, dir).await
    }

    /// Returns its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    async fn start(name: &str, command: std::process::Command, port: u16, dir: TempDir) -> Self {
        let mut process = Process::spawn(name, command, &dir.path().join("output.log"));
        let listens = async || {
            if let Some(status) = process.status() {
                panic!("{name} ended at its start with {status}:\n{}", process.output());
            }
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        };
        wait_until(listens, START, name).await;
        Self { process, port, _dir: dir }
    }

    /// Returns its output.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

fn write(dir: &TempDir, name: &str, text: &str) -> String {
    let path: &Path = &dir.path().join(name);
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
