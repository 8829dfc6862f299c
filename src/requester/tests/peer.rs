//! A SIP peer that responds by a script and keeps the messages that it received.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Raw(pub String);

impl Raw {
    pub fn start_line(&self) -> &str {
        self.0.split("\r\n").next().unwrap()
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        let head = self.0.split("\r\n\r\n").next().unwrap();
        head.split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| v)
            .collect()
    }

    /// The value of a header field that must be there once.
    pub fn header(&self, name: &str) -> &str {
        let all = self.headers(name);
        assert_eq!(all.len(), 1, "{name} in {self:?}");
        all[0]
    }

    pub fn branch(&self) -> String {
        self.headers("Via")[0].split(";branch=").nth(1).unwrap().split(';').next().unwrap().to_owned()
    }

    /// A parameter of the Authorization or Proxy-Authorization, without quotes.
    pub fn auth(&self, name: &str, parameter: &str) -> Option<String> {
        let value = self.header(name).strip_prefix("Digest ").unwrap();
        let found = value.split(", ").find_map(|item| item.strip_prefix(&format!("{parameter}=")))?;
        Some(found.trim_matches('"').to_owned())
    }

    /// A response to it; `status` is code and phrase, `extra` whole lines.
    pub fn reply(&self, status: &str, extra: &[&str]) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            for value in self.headers(name) {
                let tag = if name == "To" && !status.starts_with("100") { ";tag=peer" } else { "" };
                text.push_str(&format!("{name}: {value}{tag}\r\n"));
            }
        }
        for line in extra {
            text.push_str(&format!("{line}\r\n"));
        }
        text + "Content-Length: 0\r\n\r\n"
    }

    /// 200 with the Contact that was sent.
    pub fn ok(&self) -> String {
        let contact = format!("Contact: {};expires=300", self.header("Contact"));
        self.reply("200 OK", &[&contact])
    }
}

type Script = dyn Fn(&Raw, usize) -> Vec<Vec<u8>> + Send + Sync;

/// Text, one byte for one character where it is not UTF-8.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes)
        .map_or_else(|_| bytes.iter().map(|byte| char::from(*byte)).collect(), str::to_owned)
}

struct State {
    script: Box<Script>,
    /// The first request of each branch.
    seen: Mutex<Vec<Raw>>,
    received: AtomicUsize,
    connections: AtomicUsize,
}

impl State {
    /// The script gets the request and its number, from 0; a retransmission has the number of the original.
    fn take(&self, text: String) -> Vec<Vec<u8>> {
        let raw = Raw(text);
        self.received.fetch_add(1, Ordering::SeqCst);
        let number = {
            let mut seen = self.seen.lock().unwrap();
            let known = seen.iter().position(|r| r.branch() == raw.branch());
            known.unwrap_or_else(|| {
                seen.push(raw.clone());
                seen.len() - 1
            })
        };
        (self.script)(&raw, number)
    }
}

pub struct Peer {
    pub address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl Peer {
    pub async fn udp<R: Into<Vec<u8>>>(
        script: impl Fn(&Raw, usize) -> Vec<R> + Send + Sync + 'static,
    ) -> Self {
        Self::udp_at("127.0.0.1:0", script).await
    }

    pub async fn udp_at<R: Into<Vec<u8>>>(
        at: &str,
        script: impl Fn(&Raw, usize) -> Vec<R> + Send + Sync + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(at).await.unwrap();
        let address = socket.local_addr().unwrap();
        Self::start(address, script, |state| async move {
            let mut buffer = vec![0; 65536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                for reply in state.take(text(&buffer[..length])) {
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        })
    }

    /// A script that returns an empty text as response closes the connection.
    pub async fn tcp<R: Into<Vec<u8>>>(
        script: impl Fn(&Raw, usize) -> Vec<R> + Send + Sync + 'static,
    ) -> Self {
        Self::stream(None, script).await
    }

    pub async fn stream<R: Into<Vec<u8>>>(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Raw, usize) -> Vec<R> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self::start(address, script, |state| async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (state.clone(), tls.clone());
                state.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(async move {
                    match tls {
                        None => converse(stream, state).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => converse(stream, state).await,
                            Err(_) => Ok(()),
                        },
                    }
                });
            }
        })
    }

    fn start<R: Into<Vec<u8>>, F: Future<Output = ()> + Send + 'static>(
        address: SocketAddr,
        script: impl Fn(&Raw, usize) -> Vec<R> + Send + Sync + 'static,
        run: impl FnOnce(Arc<State>) -> F,
    ) -> Self {
        let script =
            Box::new(move |raw: &Raw, number| script(raw, number).into_iter().map(R::into).collect());
        let state = State {
            script,
            seen: Mutex::default(),
            received: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        };
        let state = Arc::new(state);
        let mut tasks = JoinSet::new();
        tasks.spawn(run(state.clone()));
        Self { address, state, _tasks: tasks }
    }

    /// The requests so far, without retransmissions.
    pub fn requests(&self) -> Vec<Raw> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Returns how many messages came, retransmissions included.
    pub fn received(&self) -> usize {
        self.state.received.load(Ordering::SeqCst)
    }

    /// Returns how many connections were made.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Waits until `count` requests came.
    pub async fn wait_for(&self, count: usize) {
        let waiting = async {
            while self.state.seen.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    }
}

/// Requests without a body, each with its response as it comes.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) -> std::io::Result<()> {
    let mut text = String::new();
    let mut buffer = vec![0; 65536];
    loop {
        while let Some(end) = text.find("\r\n\r\n") {
            let rest = text.split_off(end + 4);
            for reply in state.take(std::mem::replace(&mut text, rest)) {
                if reply.is_empty() {
                    return stream.shutdown().await;
                }
                stream.write_all(&reply).await?;
            }
            stream.flush().await?;
        }
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => text.push_str(std::str::from_utf8(&buffer[..length]).unwrap()),
        }
    }
}
