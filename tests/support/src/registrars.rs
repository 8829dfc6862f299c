//! Many registrars in this process, each at a loopback address of its own, so that each counts as a registrar
//! host. One grants every REGISTER at once; a silent one reads it and never responds. All keep a log of what
//! they receive.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use tokio::{net::UdpSocket, task::JoinSet, time::Instant};

/// Addresses with one third octet.
const PER_NET: usize = 200;

/// A REGISTER that a registrar received.
#[derive(Clone, Debug)]
pub struct Register {
    pub at: Instant,
    pub registrar: usize,
    /// User part of To.
    pub user: Box<str>,
    /// A retransmission: the registrar has had the same Call-ID and CSeq.
    pub repeated: bool,
    /// Seconds that the 200 granted; `None` where the registrar was silent.
    pub granted: Option<u32>,
}

/// The registrars, numbered from 0. They end when this is dropped.
pub struct Registrars {
    port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    silent: Vec<AtomicBool>,
    /// Most that is granted, in seconds.
    expires: AtomicU32,
    log: Mutex<Vec<Register>>,
}

impl Registrars {
    /// Starts `count` registrars that grant at most `expires` seconds, all on the same UDP port.
    ///
    /// # Errors
    /// When one of the addresses cannot be bound.
    pub async fn start(count: usize, port: u16, expires: u32) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            silent: (0..count).map(|_| AtomicBool::default()).collect(),
            expires: expires.into(),
            log: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let address = SocketAddr::from((address(number), port));
            let socket = UdpSocket::bind(address)
                .await
                .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
            tasks.spawn(serve(socket, number, Arc::clone(&shared)));
        }
        Ok(Self { port, shared, _tasks: tasks })
    }

    /// The UDP port of each of them.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes these registrars silent, or lets them respond again.
    pub fn set_silent(&self, which: Range<usize>, silent: bool) {
        self.shared.silent[which].iter().for_each(|one| one.store(silent, Relaxed));
    }

    /// Returns all that came since the start, in the order of its arrival.
    pub fn log(&self) -> Vec<Register> {
        self.shared.log().clone()
    }

    /// Returns when each of these registrars was asked for the first time.
    pub fn first_asked(&self, which: Range<usize>) -> Vec<Option<Instant>> {
        let mut first = vec![None; which.len()];
        for register in self.shared.log().iter().filter(|register| which.contains(&register.registrar)) {
            first[register.registrar - which.start].get_or_insert(register.at);
        }
        first
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Vec<Register>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of a registrar: 127.20.0.1 and those that follow.
pub fn address(number: usize) -> Ipv4Addr {
    let octet = |number: usize| u8::try_from(number).expect("fewer than 51,200 registrars");
    Ipv4Addr::new(127, 20, octet(number / PER_NET), octet(number % PER_NET) + 1)
}

async fn serve(socket: UdpSocket, registrar: usize, shared: Arc<Shared>) {
    let (mut buffer, mut seen) = (vec![0; 4_096], HashSet::new());
    loop {
        // Linux reports what an earlier datagram met with here, such as a Requester that has gone.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let at = Instant::now();
        let Some(request) = std::str::from_utf8(&buffer[..length]).ok().and_then(Request::read) else {
            continue;
        };
        let silent = shared.silent[registrar].load(Relaxed);
        let granted = (!silent).then(|| request.expires.min(shared.expires.load(Relaxed)));
        let repeated = !seen.insert((request.call_id.to_owned(), request.cseq.to_owned()));
        let user = request.user.into();
        shared.log().push(Register { at, registrar, user, repeated, granted });
        if let Some(seconds) = granted {
            let _ = socket.send_to(request.response(seconds).as_bytes(), from).await;
        }
    }
}

/// The parts of a REGISTER that a registrar needs, as our Requester writes them.
struct Request<'a> {
    text: &'a str,
    call_id: &'a str,
    cseq: &'a str,
    user: &'a str,
    expires: u32,
}

impl<'a> Request<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let field = |name: &str| {
            text.split("\r\n").skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let user = field("To")?.split_once("sip:")?.1.split_once('@')?.0;
        Some(Self {
            text: text.starts_with("REGISTER ").then_some(text)?,
            call_id: field("Call-ID")?,
            cseq: field("CSeq")?,
            user,
            expires: field("Expires")?.parse().ok()?,
        })
    }

    fn response(&self, seconds: u32) -> String {
        let mut response = String::from("SIP/2.0 200 OK\r\n");
        for line in self.text.split("\r\n").skip(1) {
            let more = match line.split_once(':').map_or("", |(name, _)| name) {
                "Via" | "From" | "Call-ID" | "CSeq" => String::new(),
                "To" => ";tag=registrar".to_owned(),
                "Contact" => format!(";expires={seconds}"),
                _ => continue,
            };
            response += &format!("{line}{more}\r\n");
        }
        response + "Content-Length: 0\r\n\r\n"
    }
}
