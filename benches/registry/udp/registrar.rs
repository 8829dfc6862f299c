//! A registrar that does as little as one can, so that what is measured is the one that asks: each REGISTER
//! is granted, or challenged first.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use routr_sip::digest::{Authorization, verify};
use routr_types::secret::Secret;
use serde::{Deserialize, Serialize};

use super::{PASSWORD, pingpong, pingpong::Sizes, serve};

const CHALLENGE: &str = "WWW-Authenticate: Digest realm=\"bench\", nonce=\"5f3c2c5e7a0e4f539d430a6f5a1f2b7c\", algorithm=MD5, \
                         qop=\"auth\"\r\n";
/// One digest of this number is computed: enough to detect a wrong one, too few to cost anything.
const VERIFIED: u64 = 64;

/// Counts of a registrar: datagrams and bytes of requests without credentials, then of those with, and of the
/// responses to each.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    requests: [u64; 2],
    request_bytes: [u64; 2],
    reply_bytes: [u64; 2],
    /// Digests that were wrong, of those that were computed.
    pub wrong: u64,
}

impl Seen {
    /// All requests.
    pub fn all(&self) -> u64 {
        self.requests.iter().sum()
    }

    /// The mean sizes, of each kind that was seen.
    pub fn sizes(&self) -> Vec<Sizes> {
        (0..2)
            .filter(|kind| self.requests[*kind] > 0)
            .map(|kind| Sizes {
                request: (self.request_bytes[kind] / self.requests[kind]) as usize,
                reply: (self.reply_bytes[kind] / self.requests[kind]) as usize,
            })
            .collect()
    }
}

#[derive(Default)]
struct Counters {
    requests: [AtomicU64; 2],
    request_bytes: [AtomicU64; 2],
    reply_bytes: [AtomicU64; 2],
    wrong: AtomicU64,
}

/// The role.
pub async fn run(digest: bool) -> anyhow::Result<()> {
    let socket = pingpong::socket()?;
    let counters = Arc::new(Counters::default());
    let counted = counters.clone();
    let all = |of: &[AtomicU64; 2]| [of[0].load(Relaxed), of[1].load(Relaxed)];
    serve(socket.local_addr()?.port(), move || Seen {
        requests: all(&counted.requests),
        request_bytes: all(&counted.request_bytes),
        reply_bytes: all(&counted.reply_bytes),
        wrong: counted.wrong.load(Relaxed),
    });
    let password = Secret::new(PASSWORD);
    let (mut buffer, mut reply) = (vec![0; 65_536], Vec::with_capacity(2048));
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        let Ok(text) = std::str::from_utf8(&buffer[..length]) else { continue };
        let authorization = answer(text, digest, &mut reply);
        let kind = usize::from(authorization.is_some());
        let number = counters.requests[kind].fetch_add(1, Relaxed);
        counters.request_bytes[kind].fetch_add(length as u64, Relaxed);
        counters.reply_bytes[kind].fetch_add(reply.len() as u64, Relaxed);
        if let Some(value) = authorization
            && number % VERIFIED == 0
        {
            let right = Authorization::parse(value).is_ok_and(|given| verify(&given, &password, "REGISTER"));
            counters.wrong.fetch_add(u64::from(!right), Relaxed);
        }
        socket.send_to(&reply, from).await?;
    }
}

/// Writes the response, and returns the credentials of the request.
fn answer<'a>(request: &'a str, digest: bool, reply: &mut Vec<u8>) -> Option<&'a str> {
    let fields = || request.split("\r\n").skip(1);
    let authorization = fields().find_map(|field| field.strip_prefix("Authorization: "));
    let granted = !digest || authorization.is_some();
    reply.clear();
    let start = if granted { "SIP/2.0 200 OK" } else { "SIP/2.0 401 Unauthorized" };
    reply.extend_from_slice(start.as_bytes());
    reply.extend_from_slice(b"\r\n");
    for field in fields() {
        let more = match field.split_once(':').map_or("", |(name, _)| name) {
            "Via" | "From" | "Call-ID" | "CSeq" => "",
            "To" => ";tag=registrar",
            "Contact" if granted => ";expires=600",
            _ => continue,
        };
        for part in [field, more, "\r\n"] {
            reply.extend_from_slice(part.as_bytes());
        }
    }
    if !granted {
        reply.extend_from_slice(CHALLENGE.as_bytes());
    }
    reply.extend_from_slice(b"Server: bench\r\nContent-Length: 0\r\n\r\n");
    authorization
}
