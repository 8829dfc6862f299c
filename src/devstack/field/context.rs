//! Values of placeholders, and messages completed from templates.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    bindings::{Binding, as_contacts},
    case::Over,
    digest::{Params, rspauth},
    template::{Part, Slot, Template},
    wire::{Wire, is_field, param, uri, user_and_host},
};
use routr_types::secret::Secret;

/// One node that listens, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub name: String,
    pub group: String,
    pub closed: bool,
    pub address: SocketAddr,
}

/// Everything that placeholders are about, as it was when the request arrived.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub request: Wire,
    pub nodes: Arc<[Node]>,
    /// Place of the node that was asked.
    pub node: usize,
    pub over: Over,
    pub source: SocketAddr,
    pub nonce: String,
    pub asked: u32,
    pub granted: u32,
    pub bindings: Vec<Binding>,
    pub now: Duration,
    pub credentials: Option<Params>,
    pub password: Secret,
}

/// 32 hexadecimal digits.
pub(super) fn random() -> String {
    format!("{:016x}{:016x}", routr_environment::random(), routr_environment::random())
}

/// Returns what a placeholder for a node stands for; nothing for any other placeholder.
pub(super) fn node_value(nodes: &[Node], slot: &Slot) -> Vec<u8> {
    let Slot::Node(name, part) = slot else { return Vec::new() };
    let Some(node) = nodes.iter().find(|node| node.name == *name) else { return Vec::new() };
    match part {
        Part::Both => node.address.to_string(),
        Part::Ip => node.address.ip().to_string(),
        Part::Port => node.address.port().to_string(),
    }
    .into_bytes()
}

impl Context {
    /// A response: what is missing of Via, From, To, Call-ID, CSeq and Content-Length is added.
    pub fn respond(&self, template: &Template) -> Vec<u8> {
        let mut usual: Vec<(&str, Vec<u8>)> = self.vias().into_iter().map(|via| ("Via", via)).collect();
        for (name, word) in [("From", "from"), ("To", "to"), ("Call-ID", "call_id"), ("CSeq", "cseq")] {
            usual.push((name, self.word(word)));
        }
        self.complete(template, &usual)
    }

    /// A request to the client: what is missing of the header fields that every request needs is added.
    pub fn ask(&self, template: &Template) -> Vec<u8> {
        let own = self.own();
        let lines = self.lines(template);
        let method = lines.first().and_then(|start| start.split(|b| *b == b' ').next()).unwrap_or_default();
        let usual = [
            ("Via", format!("SIP/2.0/{} {own};branch=z9hG4bK{};rport", self.over, random())),
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("<sip:devstack@{own}>;tag={}", random())),
            ("To", format!("<{}>", String::from_utf8_lossy(&self.word("contact_uri")))),
            ("Call-ID", random()),
            ("CSeq", format!("1 {}", String::from_utf8_lossy(method))),
            ("Contact", format!("<sip:devstack@{own}>")),
        ];
        self.complete(template, &usual.map(|(name, value)| (name, value.into_bytes())))
    }

    /// The bytes of a template and nothing else.
    pub fn exact(&self, template: &Template) -> Vec<u8> {
        template.bytes(|slot| self.value(slot))
    }

    fn lines(&self, template: &Template) -> Vec<Vec<u8>> {
        template.lines(true, |slot| self.value(slot))
    }

    fn complete(&self, template: &Template, usual: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let lines = self.lines(template);
        let end = lines.iter().position(Vec::is_empty).unwrap_or(lines.len());
        let body = lines.get(end + 1..).unwrap_or_default().join(&b"\r\n"[..]);
        let given = lines.get(1..end).unwrap_or_default();
        let is_given = |name: &str| {
            given.iter().any(|line| {
                let named = line.split(|b| *b == b':').next().unwrap_or_default();
                is_field(named.trim_ascii(), name.as_bytes())
            })
        };
        let mut out = vec![lines.first().cloned().unwrap_or_default()];
        let added = usual.iter().filter(|(name, value)| !value.is_empty() && !is_given(name));
        out.extend(added.map(|(name, value)| [name.as_bytes(), b": ", value].concat()));
        out.extend(given.iter().cloned());
        if !is_given("Content-Length") {
            out.push(format!("Content-Length: {}", body.len()).into_bytes());
        }
        [out.join(&b"\r\n"[..]).as_slice(), b"\r\n\r\n", &body].concat()
    }

    fn own(&self) -> SocketAddr {
        self.nodes.get(self.node).map_or(self.source, |node| node.address)
    }

    /// All Via values, `received` and `rport` put into the first.
    fn vias(&self) -> Vec<Vec<u8>> {
        let mut vias: Vec<Vec<u8>> = self.request.all("Via").map(<[u8]>::to_vec).collect();
        let Some(first) = vias.first_mut() else { return vias };
        let end = first.iter().position(|b| *b == b',').unwrap_or(first.len());
        let (top, rest) = first.split_at(end);
        let (mut kept, mut rport) = (Vec::new(), false);
        for (at, piece) in top.split(|b| *b == b';').enumerate() {
            let name = piece.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
            let is = |other: &[u8]| at > 0 && name.eq_ignore_ascii_case(other);
            rport |= is(b"rport");
            if !is(b"rport") && !is(b"received") {
                kept.push(piece);
            }
        }
        let mut top = kept.join(&b';');
        top.extend_from_slice(format!(";received={}", self.source.ip()).as_bytes());
        if rport {
            top.extend_from_slice(format!(";rport={}", self.source.port()).as_bytes());
        }
        top.extend_from_slice(rest);
        *first = top;
        vias
    }

    /// The tag that responses carry, the same for each response to one request.
    fn tag(&self) -> String {
        let to = self.request.text("To").unwrap_or_default();
        param(&to, "tag").unwrap_or_else(|| {
            let branch = self.request.branch().unwrap_or_default();
            let hash = branch.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
            format!("{hash:08x}")
        })
    }

    /// Returns what a placeholder stands for.
    pub fn value(&self, slot: &Slot) -> Vec<u8> {
        match slot {
            Slot::Word(word) => self.word(word),
            Slot::Header(name) => self.request.joined(name),
            Slot::Node(..) => node_value(&self.nodes, slot),
            Slot::Fill(count) => vec![b'x'; *count],
        }
    }

    fn word(&self, word: &str) -> Vec<u8> {
        let text = |name: &str| self.request.text(name).unwrap_or_default();
        let credential =
            |name: &str| self.credentials.as_ref().and_then(|params| params.text(name)).unwrap_or_default();
        let contact =
            || self.request.contacts().first().map_or_else(String::new, |contact| uri(contact).to_owned());
        let request = self.request.request();
        match word {
            "via" => return self.vias().join(&b", "[..]),
            "from" => return self.request.joined("From"),
            "to" => {
                let to = self.request.joined("To");
                let tagged = param(&text("To"), "tag").is_some();
                return if tagged { to } else { [&to, format!(";tag={}", self.tag()).as_bytes()].concat() };
            }
            "contact" => return self.request.joined("Contact"),
            "rspauth" => {
                let computed = self.credentials.as_ref().and_then(|params| rspauth(params, &self.password));
                return computed.map(|hash| hash.to_vec()).unwrap_or_default();
            }
            _ => {}
        }
        match word {
            "branch" => self.request.branch().unwrap_or_default(),
            "tag" => self.tag(),
            "call_id" => text("Call-ID"),
            "cseq" => text("CSeq"),
            "cseq_number" => self.request.cseq().map_or_else(String::new, |(number, _)| number.to_string()),
            "method" => request.map_or_else(String::new, |(method, _)| method),
            "contact_uri" => contact(),
            "contact_host" => user_and_host(&contact()).1,
            "expires" => self.asked.to_string(),
            "granted" => self.granted.to_string(),
            "bindings" => as_contacts(&self.bindings, self.now),
            "bindings_newest_first" => {
                as_contacts(&self.bindings.iter().rev().cloned().collect::<Vec<_>>(), self.now)
            }
            "request_uri" => request.map_or_else(String::new, |(_, uri)| uri),
            "request_uri_host" => request.map_or_else(String::new, |(_, uri)| user_and_host(&uri).1),
            "user" => user_and_host(uri(&text("To"))).0,
            "domain" => user_and_host(uri(&text("To"))).1,
            "source_ip" => self.source.ip().to_string(),
            "source_port" => self.source.port().to_string(),
            "transport" => self.over.to_string(),
            "own" => self.own().to_string(),
            "own_ip" => self.own().ip().to_string(),
            "own_port" => self.own().port().to_string(),
            "nonce" => self.nonce.clone(),
            "cnonce" => credential("cnonce"),
            "nc" => credential("nc"),
            "random" => random(),
            _ => String::new(),
        }
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::template::WORDS, *};

    fn context() -> Context {
        let request = "REGISTER sip:h.test:5070 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bKx, SIP/2.0/UDP b\r\n\
            From: <sip:u@h>;tag=f\r\nTo: <sip:u@H>\r\nCall-ID: c\r\nCSeq: 7 REGISTER\r\nContact: <sip:u@c:5>;expires=60\r\n\
            Authorization: Digest username=\"u\", realm=\"r\", nonce=\"n\", uri=\"sip:h\", cnonce=\"c\", nc=00000001, qop=auth\r\n\r\n";
        let request = Wire::datagram(request.as_bytes()).unwrap();
        let address = "127.0.0.1:5060".parse().unwrap();
        let nodes = [Node { name: "a".into(), group: "a".into(), closed: false, address }];
        let contact = "sip:u@c:5".to_owned();
        Context {
            credentials: super::super::digest::credentials(&request).pop(),
            request,
            nodes: nodes.into(),
            node: 0,
            over: Over::Udp,
            source: "127.0.0.9:40000".parse().unwrap(),
            nonce: "nonce".into(),
            asked: 60,
            granted: 60,
            bindings: vec![Binding { contact, expires_at: Duration::from_secs(60) }],
            now: Duration::from_millis(500),
            password: Secret::new("p"),
        }
    }

    #[test]
    fn every_word_stands_for_something() {
        for (word, _) in WORDS {
            assert!(!context().word(word).is_empty(), "{word}");
        }
    }

    #[test]
    fn a_response_is_completed() {
        let template =
            Template::parse("SIP/2.0 200 OK\nm: ${bindings}\nX: ${header.Nothing}\n\nbody").unwrap();
        let text = String::from_utf8(context().respond(&template)).unwrap();
        let tag = context().tag();
        let expected = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKx;received=127.0.0.9;rport=40000, SIP/2.0/UDP b\r\n\
             From: <sip:u@h>;tag=f\r\nTo: <sip:u@H>;tag={tag}\r\nCall-ID: c\r\nCSeq: 7 REGISTER\r\n\
             m: <sip:u@c:5>;expires=60\r\nContent-Length: 4\r\n\r\nbody"
        );
        assert_eq!(text, expected);
        let own = Template::parse("SIP/2.0 200 OK\nv: x\nCall-ID: \nl: 99").unwrap();
        let text = String::from_utf8(context().respond(&own)).unwrap();
        assert!(text.contains("\r\nv: x\r\nCall-ID: \r\nl: 99\r\n\r\n") && !text.contains("Via"), "{text}");
    }

    #[test]
    fn a_request_is_completed() {
        let template = Template::parse("OPTIONS ${contact_uri} SIP/2.0\nX: ${node.a.port}").unwrap();
        let text = String::from_utf8(context().ask(&template)).unwrap();
        assert!(
            text.starts_with("OPTIONS sip:u@c:5 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK"),
            "{text}"
        );
        assert!(text.contains("CSeq: 1 OPTIONS\r\n") && text.contains("X: 5060\r\n"), "{text}");
    }
}
