use std::{collections::BTreeMap, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::*;
use crate::{
    devstack::api::ApiServer,
    proto::trunks::{FindByRequest, Trunk, TrunkUri, trunks_client::TrunksClient},
};
use routr_sip::{
    digest::{Challenge, Login, Signed},
    message::{Message, Request, Response, StreamParser},
    uri::{NameAddr, SipUri},
};
use routr_types::secret::Secret;

/// The sample trunks as an API server serves them.
async fn served(samples: &Samples) -> BTreeMap<String, Trunk> {
    let dir = TempDir::new().unwrap();
    samples.write(dir.path().join("resources")).unwrap();
    let server = ApiServer::load(dir.path().join("resources")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let _stop = shutdown.clone().drop_guard();
    tokio::spawn(async move { server.serve(listener, shutdown).await });
    let mut client = TrunksClient::connect(format!("http://{address}")).await.unwrap();
    let request = FindByRequest { field_name: "sendRegister".into(), field_value: "true".into() };
    let items = client.find_by(request).await.unwrap().into_inner().items;
    items.into_iter().map(|trunk| (trunk.r#ref.clone(), trunk)).collect()
}

/// Sends a request and waits for the response; `None` where there is none in time.
async fn exchange(request: &Request, to: SocketAddr, transport: &str) -> Option<Response> {
    let bytes = request.to_bytes().unwrap();
    let mut parser = StreamParser::new();
    let answer = async {
        let mut buffer = vec![0; 65_536];
        if transport == "tcp" {
            let mut stream = TcpStream::connect(to).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            loop {
                let length = stream.read(&mut buffer).await.unwrap();
                assert!(length > 0);
                parser.push(&buffer[..length]);
                if let Some(message) = parser.next().unwrap() {
                    return message;
                }
            }
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&bytes, to).await.unwrap();
        let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
        Message::parse_datagram(&buffer[..length]).unwrap()
    };
    match timeout(Duration::from_millis(500), answer).await {
        Ok(Message::Response(response)) => Some(response),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

/// Registers as a plain phone would, with the trunk's credentials: the last response.
async fn register(
    trunk: &Trunk,
    uri: &TrunkUri,
    to: SocketAddr,
    expires: u32,
    cseq: u32,
) -> Option<Response> {
    let credentials = trunk.outbound_credentials.as_ref().unwrap();
    let (mut answer, mut challenge) = (None, None::<Challenge>);
    for step in 0..2 {
        let mut request = Request::new("REGISTER", SipUri::new(&uri.host));
        let aor = format!("<sip:{}@{}>", uri.user, uri.host);
        let via =
            format!("SIP/2.0/{} 127.0.0.1:9;rport;branch=z9hG4bK{cseq}{step}", uri.transport.to_uppercase());
        let fields = [
            ("Via", via),
            ("From", format!("{aor};tag=1")),
            ("To", aor),
            ("Call-ID", trunk.r#ref.clone()),
            ("CSeq", format!("{} REGISTER", cseq + step)),
            ("Contact", "<sip:127.0.0.1:9>".to_owned()),
            ("Expires", expires.to_string()),
        ];
        for (name, value) in fields {
            request.headers.push(name, value).unwrap();
        }
        if let Some(challenge) = &challenge {
            let password = Secret::new(credentials.password.as_str());
            let uri = request.uri.to_string();
            let login = Login { username: &credentials.username, password: &password };
            let signed = Signed { method: "REGISTER", uri: &uri, body: b"" };
            let (name, value) = challenge.authorize(login, signed, "c", 1).header();
            request.headers.push(name, value).unwrap();
        }
        let response = exchange(&request, to, &uri.transport).await?;
        challenge = Challenge::from_response(&response).unwrap();
        answer = Some(response);
        if challenge.is_none() {
            break;
        }
    }
    answer
}

fn target(uri: &TrunkUri) -> SocketAddr {
    SocketAddr::new(uri.host.parse().unwrap(), u16::try_from(uri.port).unwrap())
}

#[tokio::test]
async fn every_sample_shows_what_it_says() {
    let shutdown = CancellationToken::new();
    let registrars = start_registrars(shutdown.clone()).await.unwrap();
    let trunks = served(&registrars.samples()).await;
    assert_eq!(trunks.len(), SAMPLES.len());
    let attempt = async |reference: &str, expires: u32| {
        let trunk = &trunks[reference];
        register(trunk, &trunk.uris[0], target(&trunk.uris[0]), expires, 1).await
    };
    let code = async |reference: &str| attempt(reference, 600).await.map(|answer| answer.code);
    for reference in ["acme-udp", "acme-tcp", "globex-sha256"] {
        assert_eq!(code(reference).await, Some(200), "{reference}");
    }
    let brief = attempt("globex-longer-expiry", 600).await.unwrap();
    assert_eq!((brief.code, brief.headers.min_expires()), (423, Some(LONG_EXPIRY)));
    let trunk = &trunks["globex-longer-expiry"];
    let answer = register(trunk, &trunk.uris[0], target(&trunk.uris[0]), LONG_EXPIRY, 10).await.unwrap();
    assert_eq!(answer.code, 200);

    assert_eq!(code("globex-failover").await, Some(500));
    let trunk = &trunks["globex-failover"];
    assert!(trunk.uris[0].priority < trunk.uris[1].priority);
    let answer = register(trunk, &trunk.uris[1], target(&trunk.uris[1]), 600, 10).await.unwrap();
    assert_eq!(answer.code, 200);

    let moved = attempt("acme-moved", 600).await.unwrap();
    let contact = NameAddr::parse(moved.headers.get("Contact").unwrap()).unwrap();
    let there = SocketAddr::new(contact.uri.host.parse().unwrap(), contact.uri.port.unwrap());
    let trunk = &trunks["acme-moved"];
    assert_eq!(moved.code, 302);
    assert_eq!(register(trunk, &trunk.uris[0], there, 600, 10).await.unwrap().code, 200);

    let healthy = SAMPLES.iter().filter(|sample| sample.healthy).count();
    assert_eq!(registrars.acme.bindings().len() + registrars.globex.bindings().len(), healthy);

    assert_eq!(code("wrong-password").await, Some(401));
    assert_eq!(registrars.acme.counters().wrong_passwords, 1);
    assert_eq!(code("unknown-account").await, Some(404));
    assert_eq!(code("silent-registrar").await, None);
    assert_eq!(registrars.silent.counters().silent, 1);
    let busy = attempt("busy-registrar", 600).await.unwrap();
    assert_eq!((busy.code, busy.headers.retry_after()), (503, Some(BUSY_FOR)));
    assert_eq!(trunks["no-host"].uris[0].host, "");
    shutdown.cancel();
}

#[test]
fn the_hint_of_the_wrong_password_is_right() {
    let hint = SAMPLES.iter().find(|sample| sample.reference == "wrong-password").unwrap();
    assert!(hint.shows.contains(&password("wrong-password")));
    assert!(!Samples::credentials_yaml().contains(&password("wrong-password")));
}
