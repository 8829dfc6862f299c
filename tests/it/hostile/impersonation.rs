//! Messages that a host on the path has forged in a provider's name: redirections, a 423, responses from
//! elsewhere, a weaker challenge.

use std::net::SocketAddr;

use prost_types::{Struct, value::Kind};
use routr_registry::devstack::field::{Case, PlayOptions, Seen};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::SOON;
use crate::field::harness::{Chain, Play, Setup, View, trunk};
use crate::support::service::Service;
use crate::support::wait::wait_for;

/// A provider at `registrar`, an attacker at `attacker`, who grants what it is asked for. Both want
/// credentials.
async fn play(rules: &str) -> Play {
    let text = format!(
        "name: Forged\nsummary: forged messages\noutcome: no credentials for the attacker\nnodes: [{{ name: registrar }}, {{ name: attacker }}]\n\
         digest: [{{ realm: field }}]\nrules:\n{rules}"
    );
    let case = Case::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Play::of(case, PlayOptions::default()).await
}

/// The first REGISTER of each Call-ID gets this redirection to the attacker.
fn moved(code: u16, parameters: &str) -> String {
    format!(
        "  - when: {{ node: registrar, request: 1 }}\n    respond: |\n      SIP/2.0 {code} Moved\n      Contact: \
         <sip:${{user}}@${{node.attacker}}>{parameters}\n"
    )
}

/// Adds these lines of `spec.registration`, in flow style.
fn setup(registration: &str) -> Setup {
    let more = format!("  registration: {{ ratePerRegistrar: unlimited, {registration} }}\n");
    Setup { more, ..Setup::default() }
}

fn at(play: &Play, node: &str) -> Vec<Seen> {
    play.player.seen().into_iter().filter(|seen| seen.node == node && seen.method == "REGISTER").collect()
}

#[tokio::test]
async fn a_forged_redirection_to_another_domain_is_not_followed() {
    for code in [301, 302] {
        let play = play(&moved(code, ";expires=86400")).await;
        let attacker = play.player.node("attacker").unwrap().to_string();
        let chain = Chain::start(vec![play.trunk("alice", "UDP")]).await;
        let view = chain.failing("alice", SOON).await;
        assert_eq!((view.reason(), view.code()), ("RedirectNotAllowed", u64::from(code)), "{view:?}");
        for part in [&*attacker, "spec.registration.redirects.domains"] {
            assert!(view.message().contains(part), "{view:?}");
        }
        chain.logs("RedirectNotAllowed", SOON).await;
        // The registrar itself is asked again, and only that one.
        chain.refresh("alice").await;
        let view = chain.registered("alice").await;
        assert_eq!(view.0["redirected"], serde_json::Value::Null, "{view:?}");
        assert_eq!(at(&play, "attacker"), []);
    }
}

#[tokio::test]
async fn where_a_redirection_is_allowed_the_credentials_stay_at_home() {
    let play = play(&moved(302, ";expires=86400")).await;
    let setup = setup("redirects: { domains: [127.0.0.0/8] }");
    let chain = Chain::with(vec![play.trunk("alice", "UDP")], setup).await;
    let view = chain.failing("alice", SOON).await;
    assert_eq!(view.reason(), "RedirectNotAllowed", "{view:?}");
    assert!(view.message().contains("redirects.credentials"), "{view:?}");
    let seen = at(&play, "attacker");
    assert!(
        !seen.is_empty() && !seen.iter().any(|seen| seen.offers_credentials() || seen.gateway_auth),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_redirection_ends_in_time_and_shows_everywhere_until_then() {
    let play = play(&moved(301, ";expires=86400")).await;
    let (registrar, attacker) =
        (play.player.address().to_string(), play.player.node("attacker").unwrap().to_string());
    let setup = setup("redirects: { domains: [127.0.0.0/8], credentials: true, maxTime: 20s }");
    let chain = Chain::with(vec![play.trunk("alice", "UDP")], setup).await;
    let redirected = |view: &View| view.is_registered() && view.0["redirected"].is_object();
    let view = chain.becomes("alice", "redirected", SOON, redirected).await;
    assert_eq!(view.0["redirected"]["from"], format!("{registrar}/UDP"), "{view:?}");
    assert_eq!(view.0["redirected"]["to"], format!("{attacker}/UDP"), "{view:?}");
    let line = chain.logs("registration was redirected", SOON).await;
    assert!(line.contains(&registrar) && line.contains(&attacker) && line.contains("until"), "{line}");
    let summary = chain.get("/summary").await.unwrap();
    assert_eq!(summary["redirected"], 1, "{summary}");
    assert_eq!(summary["redirections"][0]["to"], format!("{attacker}/UDP"), "{summary}");
    let table = trunks_table(&chain).await;
    assert!(
        table.contains(&format!("redirected to {attacker}")) && table.contains("1 redirected"),
        "{table}"
    );
    // A day was asked for, and it is over in seconds: the next REGISTER goes to the registrar itself.
    let over = async || {
        let probe = chain.get("/summary").await.map_err(|error| error.to_string())?;
        if probe["redirections"][0]["untilMs"].is_null() || at(&play, "registrar").len() > 2 {
            return Ok(());
        }
        chain.refresh("alice").await;
        Err(probe.to_string())
    };
    wait_for(over, SOON * 2, "the redirection to end").await;
    chain.refresh("alice").await;
    let home = |view: &View| view.is_registered() && view.0["redirected"].is_null();
    chain.becomes("alice", "registered at home", SOON, home).await;
    assert!(play.player.seen().last().is_some_and(|seen| seen.node == "registrar"));
    chain.logs("back at the trunk's own registrar", SOON).await;
}

#[tokio::test]
async fn a_forged_423_of_a_day_changes_one_request_and_that_by_an_hour_at_most() {
    let rules = "  - when: { user: alice, request: 1 }\n    respond: |\n      SIP/2.0 423 Interval Too Brief\n      Min-Expires: 86400\n";
    let play = play(rules).await;
    let chain = Chain::start(vec![play.trunk("alice", "UDP")]).await;
    let view = chain.registered("alice").await;
    assert!(view.expires_in() <= 3_600, "{view:?}");
    chain.api.set_trunks(vec![play.trunk("alice", "UDP"), play.trunk("bob", "UDP")]);
    chain.registered("bob").await;
    chain.refresh("alice").await;
    let refreshed = async || {
        let asked: Vec<u32> = play.of_user("alice").iter().map(|seen| seen.asked).collect();
        if asked.last() == Some(&600) && asked.len() > 2 { Ok(asked) } else { Err(format!("{asked:?}")) }
    };
    let asked = wait_for(refreshed, SOON, "alice to be refreshed as configured").await;
    assert!(asked.iter().all(|asked| *asked <= 3_600), "{asked:?}");
    assert!(play.of_user("bob").iter().all(|seen| seen.asked == 600), "{:?}", play.of_user("bob"));
}

#[tokio::test]
async fn a_challenge_below_the_minimum_gets_no_credentials() {
    let challenge = |algorithm: &str| {
        format!(
            "  - when: {{ credentials: none }}\n    respond: |\n      SIP/2.0 401 Unauthorized\n      WWW-Authenticate: Digest realm=\"field\", \
             nonce=\"${{nonce}}\"{algorithm}\n"
        )
    };
    let strict = || setup("digest: { minAlgorithm: SHA-256, requireQop: true }");
    for weak in [", algorithm=MD5, qop=\"auth\"", ", algorithm=SHA-256", ""] {
        let play = play(&challenge(weak)).await;
        let chain = Chain::with(vec![play.trunk("alice", "UDP")], strict()).await;
        let view = chain.failing("alice", SOON).await;
        assert_eq!(view.reason(), "DigestTooWeak", "{weak}: {view:?}");
        assert!(view.message().contains("SHA-256 or better with qop"), "{view:?}");
        assert_eq!(play.offers(), 0, "{weak}");
    }
    // A trunk asks for more than its Registry.
    let weak = play(&challenge(", algorithm=MD5, qop=\"auth\"")).await;
    let mut strict_trunk = weak.trunk("alice", "UDP");
    let text = |text: &str| prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let digest = Struct { fields: [("minAlgorithm".to_owned(), text("SHA-256"))].into() };
    let digest = prost_types::Value { kind: Some(Kind::StructValue(digest)) };
    strict_trunk.extended = Some(Struct { fields: [("digest".to_owned(), digest)].into() });
    let chain = Chain::with(vec![strict_trunk], setup("digest: { minAlgorithm: MD5 }")).await;
    let view = chain.failing("alice", SOON).await;
    assert_eq!(view.reason(), "DigestTooWeak", "{view:?}");
    assert_eq!(weak.offers(), 0);
    let chain = Chain::with(vec![weak.trunk("bob", "UDP")], setup("digest: { minAlgorithm: MD5 }")).await;
    chain.registered("bob").await;

    let play = play(&challenge(", algorithm=SHA-256, qop=\"auth\"")).await;
    let chain = Chain::with(vec![play.trunk("alice", "UDP")], strict()).await;
    chain.registered("alice").await;
    assert!(play.offers() > 0);
}

/// A registrar over UDP that grants 300 s. Before each response, a forged one that grants 77 s comes from
/// another address, and one from its own that grants 88 s and is meant for another sender.
async fn forging_registrar(host: &str) -> (SocketAddr, JoinHandle<()>) {
    let registrar = UdpSocket::bind((host, 0)).await.unwrap();
    let attacker = UdpSocket::bind("127.77.0.66:0").await.unwrap();
    let address = registrar.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let (length, from) = registrar.recv_from(&mut buffer).await.unwrap();
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let granting = |seconds: u32, sender: Option<&str>| {
                let mut response = String::from("SIP/2.0 200 OK\r\n");
                for line in request.lines() {
                    let name = line.split(':').next().unwrap_or_default();
                    match name {
                        "Via" => {
                            let own = from.to_string();
                            response += &line.replace(&own, sender.unwrap_or(&own));
                        }
                        "From" | "Call-ID" | "CSeq" => response += line,
                        "To" => response += &format!("{line};tag=x"),
                        "Contact" => response += &format!("{line};expires={seconds}"),
                        _ => continue,
                    }
                    response += "\r\n";
                }
                response + "Content-Length: 0\r\n\r\n"
            };
            attacker.send_to(granting(77, None).as_bytes(), from).await.unwrap();
            registrar.send_to(granting(88, Some("192.0.2.1:5060")).as_bytes(), from).await.unwrap();
            registrar.send_to(granting(300, None).as_bytes(), from).await.unwrap();
        }
    });
    (address, task)
}

#[tokio::test]
async fn over_udp_a_response_from_elsewhere_is_dropped_and_counted() {
    let (address, registrar) = forging_registrar("127.77.0.1").await;
    let mut chain = Chain::start(vec![trunk("alice", "alice", address, "UDP")]).await;
    let view = chain.registered("alice").await;
    assert!((89..=300).contains(&view.expires_in()), "{view:?}");
    let logged = async || {
        let output = chain.requester().output();
        let line =
            output.lines().find(|line| line.contains("dropped a response over UDP")).map(str::to_owned);
        line.ok_or(output)
    };
    let line = wait_for(logged, SOON, "the Requester to log that").await;
    assert!(
        line.contains("127.77.0.66") && line.contains(&address.to_string()) && line.contains("\"dropped\":1"),
        "{line}"
    );
    registrar.abort();
}

#[tokio::test]
async fn a_response_from_elsewhere_is_taken_where_that_is_said() {
    let (address, registrar) = forging_registrar("127.77.0.2").await;
    let requester = vec!["--responses-from".to_owned(), "anywhere".to_owned()];
    let setup = Setup { requester, ..Setup::default() };
    let chain = Chain::with(vec![trunk("alice", "alice", address, "UDP")], setup).await;
    let view = chain.registered("alice").await;
    assert!(view.expires_in() <= 77, "{view:?}");
    registrar.abort();
}

/// Returns the output of `routr-registry trunks`.
async fn trunks_table(chain: &Chain) -> String {
    let url = format!("http://{}", chain.private_address());
    let mut command = Service::start(["trunks", "--url", &url], &[]);
    let status = command.exit(SOON).await;
    assert!(status.success(), "{}", command.output());
    command.output()
}
