//! The generated trunks, encoded once: a response is a slice of one long text of protobuf.

use bytes::Bytes;
use prost::Message;
use routr_registry::proto::{
    credentials::Credentials,
    trunks::{Trunk, TrunkUri},
};

/// All trunks, as `repeated Trunk items = 1` has them.
pub struct Listing {
    items: Bytes,
    /// Offset at which each begins, and at which the last ends.
    offsets: Vec<usize>,
}

impl Listing {
    /// Generates `trunks` trunks, at `registrars` registrars in turn.
    pub fn generate(trunks: usize, registrars: usize) -> Self {
        let mut items = Vec::with_capacity(trunks * 300);
        let mut offsets = Vec::with_capacity(trunks + 1);
        for number in 0..trunks {
            offsets.push(items.len());
            items.push(10); // field 1, length-delimited
            trunk(number, registrars).encode_length_delimited(&mut items).expect("a Vec grows");
        }
        offsets.push(items.len());
        Self { items: items.into(), offsets }
    }

    /// The trunks from one number to another, and whether any follow.
    pub fn page(&self, from: usize, size: usize) -> (Bytes, bool) {
        let last = self.offsets.len() - 1;
        let (from, to) = (from.min(last), from.saturating_add(size).min(last));
        (self.items.slice(self.offsets[from]..self.offsets[to]), to < last)
    }
}

/// Returns a trunk as a Routr administrator writes it: about 260 bytes on the wire.
fn trunk(number: usize, registrars: usize) -> Trunk {
    let credentials = Credentials {
        api_version: "v2beta1".into(),
        r#ref: uuid(number, 0x5bd1),
        name: format!("Credentials {number}"),
        username: user(number),
        password: format!("{:016x}", mix(number)),
        ..Credentials::default()
    };
    let uri = TrunkUri {
        host: host(number, registrars),
        port: 5060,
        transport: "UDP".into(),
        user: user(number),
        weight: 10,
        priority: 10,
        enabled: true,
    };
    Trunk {
        r#ref: uuid(number, 0x9e37),
        api_version: "v2beta1".into(),
        name: format!("Trunk {number}"),
        send_register: true,
        inbound_uri: format!("trunk-{number}.example.com"),
        outbound_credentials: Some(credentials),
        uris: vec![uri],
        ..Trunk::default()
    }
}

/// The registrar of a trunk.
pub fn host(number: usize, registrars: usize) -> String {
    format!("sip-{:03}.provider.example", number % registrars.max(1))
}

/// A user that contains its trunk's number: `+` and eleven digits, like a telephone number.
pub fn user(number: usize) -> String {
    format!("+{:011}", 49_000_000_000 + number)
}

/// The number of the trunk of a user.
pub fn number(user: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(user.strip_prefix(b"+")?).ok()?;
    digits.parse::<usize>().ok()?.checked_sub(49_000_000_000)
}

fn uuid(number: usize, salt: u64) -> String {
    let high = mix(number) ^ salt;
    format!("{:08x}-{:04x}-4{salt:03x}-a000-{number:012x}", high >> 32, high & 0xffff, salt = salt & 0xfff)
}

fn mix(number: usize) -> u64 {
    (number as u64 ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// A number in `[0, 1)` for each trunk, evenly spread over any run of them.
pub fn spread(number: usize) -> f64 {
    (number as f64 * 0.618_033_988_749_894_9).fract()
}
