//! Dependencies that talk nonsense.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use routr_registry::proto::sipmessage::sip_message::MessageType;
use routr_registry::proto::sipmessage::{Address, Contact, Expires, SipMessage, SipUri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::SOON;
use super::fake::{FakeRequester, reply, to};
use super::test_registry::{TestRegistry, listen, tells, trunk};
use crate::support::service::Service;
use crate::support::wait::{wait_for, wait_until};

/// Neither a terminal nor a log may be steered by what comes from outside.
fn no_control_characters(what: &str, text: &str) {
    let bad: Vec<&str> = text.lines().filter(|line| line.chars().any(char::is_control)).collect();
    assert!(bad.is_empty(), "{what} shows control characters: {bad:?}");
}

/// Nor may a table lie by reordering or hiding text.
fn harmless(what: &str, text: &str) {
    no_control_characters(what, text);
    let tricks = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}');
    assert!(!text.contains(tricks), "{what} shows text that reorders or hides: {text:?}");
}

async fn run(stage: &TestRegistry, args: &[&str]) -> String {
    let mut client = stage.client(args);
    assert_eq!(client.exit(SOON).await.code(), Some(0), "{}", client.output());
    client.output()
}

/// Asserts that it lives, logs that trunks cannot be read because of `why`, and recovers once the API server
/// is a real one.
async fn survives_as_api_server(stage: &mut TestRegistry, service: &Service, why: &[&str]) {
    tells(service, "cannot read the trunks", 1).await;
    let told = async || {
        let (status, text) = stage.public("/readyz").await?;
        let told = status == 503 && why.iter().any(|why| text.contains(why));
        if told { Ok(text) } else { Err(text) }
    };
    let text = wait_for(told, SOON, "/readyz to tell what is wrong").await;
    no_control_characters("/readyz", &text);
    harmless("the table", &run(stage, &["trunks"]).await);
    assert_eq!(stage.public("/livez").await.unwrap().0, 200);
}

#[tokio::test]
async fn random_bytes_in_the_place_of_the_api_server() {
    let mut stage = TestRegistry::bare().await;
    stage.trunks(&["a"]);
    stage.start_requester().await;
    let listener = listen(stage.api_port).await;
    let noise = tokio::spawn(async move {
        let mut rng = SmallRng::seed_from_u64(7);
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; 4096];
            rng.fill_bytes(&mut bytes);
            let _ = stream.write_all(&bytes).await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let service = stage.run(&[]);
    survives_as_api_server(&mut stage, &service, &["the API server cannot be reached: "]).await;
    noise.abort();
    let _ = noise.await;
    stage.start_api().await;
    stage.settles(&[("a", "registered")]).await;
    stage.keeps_secrets(&service).await;
}

#[tokio::test]
async fn a_web_server_and_another_grpc_service_in_the_place_of_the_api_server() {
    let mut stage = TestRegistry::bare().await;
    stage.trunks(&["a"]);
    stage.start_requester().await;
    let end = CancellationToken::new();
    let listener = listen(stage.api_port).await;
    let page = || async { "<html>\u{1b}[31mhello</html>" };
    let web = axum::serve(listener, Router::new().fallback(page));
    let web = tokio::spawn({
        let end = end.clone();
        async move { web.with_graceful_shutdown(end.cancelled_owned()).await }
    });
    let service = stage.run(&[]);
    survives_as_api_server(&mut stage, &service, &["the API server "]).await;
    end.cancel();
    let _ = web.await;
    // A Requester knows no Trunks service.
    let fake = FakeRequester::granting(stage.api_port, 600).await;
    survives_as_api_server(&mut stage, &service, &["implement"]).await;
    drop(fake);
    stage.start_api().await;
    stage.settles(&[("a", "registered")]).await;
    stage.keeps_secrets(&service).await;
}

#[tokio::test]
async fn trunks_with_names_that_would_steer_a_terminal() {
    let mut stage = TestRegistry::bare().await;
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{202e}name\u{200b}\t";
    let mut named = trunk("evil", "sip.example.com", 5060);
    named.name = evil.repeat(50);
    let mut referred = trunk(evil, "sip.example.com", 5060);
    referred.uris[0].user = "user".to_owned();
    let mut hosted = trunk("hosted", "sip.example.com\u{1b}[2J\r\nX-Evil: 1", 5060);
    hosted.uris[0].transport = "\u{1b}[31mUDP".to_owned();
    let mut used = trunk("used", "sip.example.com", 5060);
    used.uris[0].user = "\u{1b}[2J\r\nX-Evil: 1".to_owned();
    let giant = trunk("giant", &"h".repeat(100_000), 5060);
    stage.api.set_trunks(vec![named, referred, hosted, used, giant, trunk("good", "sip.example.com", 5060)]);
    stage.start_api().await;
    let phrase = format!("{evil}{}", "x".repeat(1 << 20));
    let requester = FakeRequester::start(stage.requester_port, move |request| {
        let header = [("Server", phrase.as_str()), ("Unsupported", &phrase), ("Retry-After", &phrase)];
        Some(if to(request) == "good" { super::fake::ok(600) } else { reply(46, &phrase, &header) })
    })
    .await;
    let service = stage.run(&[("LOGS_LEVEL", "debug")]);
    let settled = async || match stage.private("/summary").await? {
        summary if summary["counts"]["pending"] == 0 && summary["counts"]["registered"] == 1 => Ok(()),
        summary => Err(summary.to_string()),
    };
    wait_for(settled, SOON, "every trunk to be registered, failing or invalid").await;
    assert!(requester.seen().iter().all(|request| !request.target.contains(char::is_control)));
    let views = stage.views().await.unwrap();
    assert_eq!(views.len(), 6);
    for (reference, state) in
        [("hosted", "invalid"), ("used", "invalid"), ("giant", "invalid"), ("evil", "failing")]
    {
        assert_eq!(views[reference]["state"], state, "{}", views[reference]);
    }
    for args in [&["trunks"][..], &["trunks", "--watch"], &["trunks", "--json"]] {
        let mut client = stage.client(args);
        let shown = async || client.output().contains("good");
        wait_until(shown, SOON, "the trunks to be shown").await;
        if args.contains(&"--watch") {
            client.terminate(SOON).await;
        } else {
            client.exit(SOON).await;
        }
        match args.last() {
            // JSON is for programs: what steers a terminal is escaped, the rest is as it is.
            Some(&"--json") => no_control_characters("--json", &client.output()),
            last => harmless(last.unwrap(), &client.output()),
        }
        assert!(
            client.output().lines().all(|line| line.len() < 20_000),
            "a line for a person is not that long"
        );
    }
    let metrics = stage.public("/metrics").await.unwrap().1;
    no_control_characters("/metrics", &metrics);
    no_control_characters("the log", &service.output());
    assert!(service.output().lines().all(|line| line.len() < 20_000));
    stage.keeps_secrets(&service).await;
}

/// Any text that a SIP message might carry, and some that none should.
fn any_text(rng: &mut SmallRng) -> String {
    let length = *[0, 1, 3, 20, 2_000].get(rng.random_range(0..5)).unwrap();
    (0..length).map(|_| char::from_u32(rng.random_range(0..0x3000)).unwrap_or('\u{fffd}')).collect()
}

fn any_number(rng: &mut SmallRng) -> i32 {
    *[0, -1, 1, 5, 600, i32::MAX, i32::MIN, rng.random()].get(rng.random_range(0..8)).unwrap()
}

fn any_message(rng: &mut SmallRng) -> Option<SipMessage> {
    let names = ["Min-Expires", "Retry-After", "Unsupported", "CSeq", "X-Routr-Local", "Contact"];
    let values = [any_text(rng), any_number(rng).to_string(), "gin, path".to_owned()];
    let extensions: Vec<(&str, &str)> = (0..rng.random_range(0..5))
        .map(|_| (names[rng.random_range(0..names.len())], values[rng.random_range(0..3)].as_str()))
        .collect();
    let uri = SipUri {
        host: if rng.random() { format!("host-{}.example", rng.random_range(0..9)) } else { any_text(rng) },
        port: any_number(rng),
        transport_param: any_text(rng),
        secure: rng.random(),
        ..SipUri::default()
    };
    let mut message =
        reply(if rng.random() { rng.random_range(-2..60) } else { 7 }, &any_text(rng), &extensions);
    if rng.random() {
        let address = Some(Address { uri: rng.random::<bool>().then_some(uri), ..Address::default() });
        message.contact = Some(Contact { address, expires: any_number(rng), ..Contact::default() });
    }
    if rng.random() {
        message.expires = Some(Expires { expires: any_number(rng) });
    }
    match rng.random_range(0..20) {
        0 => return Some(SipMessage::default()),
        1 => message.message_type = Some(MessageType::RequestUri(SipUri::default())),
        // No response at all; its place is given back at the deadline.
        2 => return None,
        _ => {}
    }
    Some(message)
}

#[tokio::test]
async fn a_requester_that_answers_at_random() {
    let mut stage = TestRegistry::bare().await;
    let refs: Vec<String> = (0..30).map(|n| format!("t{n}")).collect();
    stage.api.set_trunks(refs.iter().map(|r| trunk(r, "sip.example.com", 5060)).collect());
    stage.start_api().await;
    let seed = AtomicU64::new(1);
    let requester = FakeRequester::start(stage.requester_port, move |_| {
        any_message(&mut SmallRng::seed_from_u64(seed.fetch_add(1, Ordering::Relaxed)))
    })
    .await;
    let more = "  registration:\n    ratePerRegistrar: unlimited\n    timeout: 1s\n    redirects: { domains: ['*'], credentials: true }\n";
    stage.write(&stage.config(more));
    let service = stage.run(&[]);
    let listed = async || stage.views().await.is_ok_and(|views| views.len() == refs.len());
    wait_until(listed, SOON, "the trunks to be read").await;
    let mut next = refs.iter().cycle();
    let asked = async || {
        stage.refresh(next.next().unwrap()).await.unwrap();
        requester.seen().len() >= 600
    };
    wait_until(asked, SOON, "600 answers at random").await;
    drop(requester);
    assert_eq!(stage.public("/livez").await.unwrap().0, 200);
    harmless("the table", &run(&stage, &["trunks"]).await);
    no_control_characters("/readyz", &stage.public("/readyz").await.unwrap().1);
    no_control_characters("/metrics", &stage.public("/metrics").await.unwrap().1);
    no_control_characters("the log", &service.output());

    // And then all is well.
    let good = FakeRequester::granting(stage.requester_port, 600).await;
    let well = async || {
        for reference in &refs {
            stage.refresh(reference).await?;
        }
        match stage.private("/summary").await? {
            summary if summary["counts"]["registered"] == 30 => Ok(()),
            summary => Err(summary.to_string()),
        }
    };
    wait_for(well, SOON, "every trunk to be registered").await;
    drop(good);
    stage.keeps_secrets(&service).await;
}
