//! API servers whose lists have no end, are cut short or full of nothing, and Requesters whose responses are:
//! the built program keeps what it has, and says what is wrong.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use routr_registry::proto::sipmessage::{RecordRoute, SipMessage};
use routr_registry::proto::trunks::trunks_server::{Trunks, TrunksServer};
use routr_registry::proto::trunks::{
    FindByRequest, FindByResponse, GetTrunkRequest, ListTrunkRequest, ListTrunksResponse, Trunk,
};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::standalone::fake::{FakeRequester, ok, to};
use crate::standalone::test_registry::{TestRegistry, listen, log, trunk};
use crate::support::process::tail;
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, wait_for, wait_until};

const SOON: Duration = PATIENCE;

/// Request to an API server.
#[derive(Clone, Debug)]
enum Ask {
    FindBy,
    /// A page, by its token.
    List(String),
    Get(String),
}

type Answer = Result<(Vec<Trunk>, String), Status>;
type Script = dyn Fn(&Ask) -> Answer + Send + Sync;

/// An API server that follows a script, which can be replaced. It ends when it is dropped.
struct FakeApi {
    shared: Arc<Shared>,
    _end: DropGuard,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    /// Takes its place when the next list begins: no list is of both.
    next: Mutex<Option<Arc<Script>>>,
    /// Calls of `FindBy` and of the first page of `List`, and of any page.
    asked: Mutex<(usize, usize)>,
}

impl FakeApi {
    async fn start(port: u16, script: impl Fn(&Ask) -> Answer + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            next: Mutex::default(),
            asked: Mutex::default(),
        });
        let end = CancellationToken::new();
        let service = TrunksServer::from_arc(Arc::clone(&shared)).max_encoding_message_size(usize::MAX);
        let incoming = TcpIncoming::from(listen(port).await);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming_shutdown(incoming, end.clone().cancelled_owned()));
        Self { shared, _end: end.drop_guard() }
    }

    fn set(&self, script: impl Fn(&Ask) -> Answer + Send + Sync + 'static) {
        *self.shared.next.lock().unwrap() = Some(Arc::new(script));
    }

    fn lists(&self) -> usize {
        self.shared.asked.lock().unwrap().0
    }

    fn calls(&self) -> usize {
        self.shared.asked.lock().unwrap().1
    }

    /// Waits until that many more lists were begun: all but the last of them have been worked up.
    async fn lists_again(&self, more: usize) {
        let before = self.lists();
        wait_until(async || self.lists() >= before + more, SOON, "the trunks to be read again").await;
    }
}

impl Shared {
    fn answer(&self, ask: &Ask) -> Answer {
        let begins = match ask {
            Ask::FindBy => true,
            Ask::List(token) => token.is_empty(),
            Ask::Get(_) => false,
        };
        if begins && let Some(next) = self.next.lock().unwrap().take() {
            *self.script.lock().unwrap() = next;
        }
        let script = Arc::clone(&self.script.lock().unwrap());
        let mut asked = self.asked.lock().unwrap();
        asked.1 += 1;
        asked.0 += usize::from(begins);
        drop(asked);
        script(ask)
    }
}

#[tonic::async_trait]
impl Trunks for Shared {
    async fn get(&self, request: Request<GetTrunkRequest>) -> Result<Response<Trunk>, Status> {
        let (items, _) = self.answer(&Ask::Get(request.into_inner().r#ref))?;
        Ok(Response::new(items.into_iter().next().unwrap_or_default()))
    }

    async fn find_by(&self, _: Request<FindByRequest>) -> Result<Response<FindByResponse>, Status> {
        let (items, _) = self.answer(&Ask::FindBy)?;
        Ok(Response::new(FindByResponse { items }))
    }

    async fn list(&self, request: Request<ListTrunkRequest>) -> Result<Response<ListTrunksResponse>, Status> {
        let (items, next_page_token) = self.answer(&Ask::List(request.into_inner().page_token))?;
        Ok(Response::new(ListTrunksResponse { items, next_page_token }))
    }
}

fn one(reference: &str) -> Trunk {
    trunk(reference, "127.0.0.1", 5060)
}

fn all(refs: &[&str]) -> Vec<Trunk> {
    refs.iter().map(|reference| one(reference)).collect()
}

/// Pages alone: these two, with an opaque token between them. `Get` knows these trunks.
fn pages(first: &[&str], second: &[&str], known: &[&str]) -> impl Fn(&Ask) -> Answer + Send + Sync + 'static {
    let (first, second, known) = (all(first), all(second), all(known));
    move |ask| match ask {
        Ask::FindBy => Err(Status::unimplemented("FindBy")),
        Ask::List(token) if token.is_empty() => Ok((first.clone(), "b3BhcXVl".to_owned())),
        Ask::List(_) => Ok((second.clone(), String::new())),
        Ask::Get(reference) => match known.iter().find(|trunk| trunk.r#ref == *reference) {
            Some(trunk) => Ok((vec![trunk.clone()], String::new())),
            None => Err(Status::not_found("no such trunk")),
        },
    }
}

/// Returns the users whose bindings were removed so far.
fn deregistered(requester: &FakeRequester) -> Vec<String> {
    let removal = |request: &&_| expires(request) == Some(0);
    let mut users: Vec<String> = requester.seen().iter().filter(removal).map(to).collect();
    users.dedup();
    users
}

fn expires(request: &routr_registry::proto::requester::SendMessageRequest) -> Option<i32> {
    Some(request.message.as_ref()?.expires.as_ref()?.expires)
}

/// Waits for a line of the log with that message, and returns it.
async fn logged(service: &Service, message: &str) -> Value {
    let line = async || {
        let found = log(service).into_iter().find(|line| line["message"].as_str() == Some(message));
        found.ok_or_else(|| tail(&service.output()))
    };
    wait_for(line, SOON, message).await
}

const LAST_LIST: &str = "cannot read the trunks: the last good list stays in use";

#[tokio::test]
async fn g4_a_page_that_is_empty_for_a_moment_removes_nothing() {
    let stage = TestRegistry::bare().await;
    let requester = FakeRequester::granting(stage.requester_port, 300).await;
    let four = ["a", "b", "c", "d"];
    let api = FakeApi::start(stage.api_port, pages(&four[..2], &four[2..], &four)).await;
    let service = stage.run(&[]);
    let registered = four.map(|reference| (reference, "registered"));
    stage.settles(&registered).await;
    // The server can be asked for each of them: the list may be wrong for long.
    for cut in [pages(&four[..2], &[], &four), pages(&[], &four[2..], &four), pages(&[], &[], &four)] {
        api.set(cut);
        api.lists_again(3).await;
        assert_eq!(deregistered(&requester), Vec::<String>::new());
        stage.settles(&registered).await;
    }
    // It cannot: then one wrong list is no removal.
    let wrong = Mutex::new(0);
    let (good, cut) = (pages(&four[..2], &four[2..], &four), pages(&four[..2], &[], &four));
    api.set(move |ask| match ask {
        Ask::Get(_) => Err(Status::unimplemented("Get")),
        Ask::List(token) if !token.is_empty() => {
            *wrong.lock().unwrap() += 1;
            if *wrong.lock().unwrap() % 2 == 1 { cut(ask) } else { good(ask) }
        }
        _ => good(ask),
    });
    api.lists_again(5).await;
    assert_eq!(deregistered(&requester), Vec::<String>::new());
    stage.settles(&registered).await;
    // What is gone is gone, by the word of Get at once.
    api.set(pages(&four[..2], &four[3..], &["a", "b", "d"]));
    stage.settles(&[("a", "registered"), ("b", "registered"), ("d", "registered")]).await;
    assert_eq!(deregistered(&requester), ["c"]);
    drop(service);
}

#[tokio::test]
async fn g4_lists_without_end_leave_the_last_one_in_use() {
    let stage = TestRegistry::bare().await;
    let requester = FakeRequester::granting(stage.requester_port, 300).await;
    let good = || pages(&["a"], &["b"], &["a", "b"]);
    let api = FakeApi::start(stage.api_port, good()).await;
    stage.write(&stage.config("  sync: {maxPages: 40, maxTrunks: 2000}\n"));
    let service = stage.run(&[]);
    stage.settles(&[("a", "registered"), ("b", "registered")]).await;
    let next = |token: &str| (token.parse().unwrap_or(0_u32) + 1).to_string();
    let endless = |ask: &Ask, items: usize, next: &dyn Fn(&str) -> String| match ask {
        Ask::List(token) => {
            let new = |number| one(&format!("new-{token}-{number}"));
            Ok(((0..items).map(new).collect(), next(token)))
        }
        _ => Err(Status::unimplemented("not here")),
    };
    let circle = |token: &str| if token == "A" { "B".to_owned() } else { "A".to_owned() };
    for (round, said) in [
        "nextPageToken \"A\" came twice",
        "it has more than 40 pages, with 0 trunks so far; spec.sync.maxPages sets the bound",
        "it has more than 2000 trunks; spec.sync.maxTrunks sets the bound",
    ]
    .into_iter()
    .enumerate()
    {
        let (before, lists) = (api.calls(), api.lists());
        api.set(move |ask| match round {
            0 => endless(ask, 0, &circle),
            1 => endless(ask, 0, &next),
            _ => endless(ask, 500, &next),
        });
        let line = async || {
            let mut lines = log(&service).into_iter().filter(|line| line["message"] == LAST_LIST);
            let found =
                lines.next_back().filter(|line| line["error"].as_str().is_some_and(|e| e.contains(said)));
            found.ok_or_else(|| tail(&service.output()))
        };
        wait_for(line, SOON, said).await;
        api.lists_again(2).await;
        // A list has 41 pages at the most.
        let (calls, lists) = (api.calls() - before, api.lists() - lists);
        assert!(calls <= 42 * (lists + 1), "{calls} calls in {lists} lists");
        let status = stage.private("/summary").await.unwrap();
        assert!(status["api"]["message"].as_str().is_some_and(|text| text.contains(said)), "{status}");
        if round < 2 {
            stage.settles(&[("a", "registered"), ("b", "registered")]).await;
        }
        api.set(good());
        api.lists_again(2).await;
    }
    let removed = deregistered(&requester);
    assert!(!removed.iter().any(|user| user == "a" || user == "b"), "{removed:?}");
}

#[tokio::test]
async fn g4_without_any_list_the_log_claims_none() {
    let stage = TestRegistry::bare().await;
    let api = FakeApi::start(stage.api_port, |_| Err(Status::permission_denied("not you"))).await;
    let service = stage.run(&[]);
    let message = "cannot read the trunks, and there is no earlier list: nothing is registered or refreshed until one is read";
    let line = logged(&service, message).await;
    assert_eq!(line["error"], "the API server refused: PermissionDenied: not you");
    api.set(pages(&[], &[], &[]));
    logged(&service, "the API server is back").await;
    api.set(|_| Err(Status::permission_denied("not you")));
    logged(&service, LAST_LIST).await;
}

/// The most memory that the process had at a time, in MiB.
fn peak_mib(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

/// Responds to `FindBy` with this message, as it is, and implements nothing else.
async fn serve_message(port: u16, message: Vec<u8>) -> DropGuard {
    let (listener, end) = (listen(port).await, CancellationToken::new());
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let frame = Bytes::from([&[0][..], &length, &message].concat());
    let serve = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let frame = frame.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let response = http::Response::builder().header("content-type", "application/grpc");
                    if request.uri().path().ends_with("/FindBy") {
                        let mut body = respond.send_response(response.body(()).unwrap(), false).unwrap();
                        body.send_data(frame.clone(), false).unwrap();
                        let status = [("grpc-status".parse().unwrap(), "0".parse().unwrap())];
                        body.send_trailers(status.into_iter().collect()).unwrap();
                    } else {
                        let refused = response.header("grpc-status", "12").body(()).unwrap();
                        respond.send_response(refused, true).unwrap();
                    }
                }
            });
        }
    };
    tokio::spawn(end.clone().run_until_cancelled_owned(serve));
    end.drop_guard()
}

#[tokio::test]
async fn g4_a_trunk_of_12_mb_of_nothing_takes_no_memory_and_no_other_trunk_with_it() {
    let stage = TestRegistry::bare().await;
    let requester = FakeRequester::granting(stage.requester_port, 300).await;
    // Decoded, each URI of two bytes takes some hundred.
    let full_of_nothing = |reference, uris| [one(reference).encode_to_vec(), [0x5a, 0].repeat(uris)].concat();
    let items = [
        one("a").encode_to_vec(),
        full_of_nothing("big", 6_000_000),
        full_of_nothing("many", 100_000),
        one("b").encode_to_vec(),
    ];
    let mut message = Vec::new();
    for item in items {
        message.push(0x0a);
        prost::encoding::encode_varint(item.len().try_into().unwrap(), &mut message);
        message.extend(item);
    }
    let _api = serve_message(stage.api_port, message).await;
    let service = stage.run(&[]);
    let settled = [("a", "registered"), ("b", "registered"), ("big", "invalid"), ("many", "invalid")];
    stage.settles(&settled).await;
    // Some syncs later.
    let synced = async || stage.private("/summary").await.map(|summary| summary["lastSyncMs"].clone());
    for _ in 0..2 {
        let before = synced().await.unwrap();
        wait_until(async || synced().await.is_ok_and(|now| now != before), SOON, "another sync").await;
    }
    stage.settles(&settled).await;
    let peak = peak_mib(&service);
    assert!(peak < 150, "{peak} MiB");
    let views = stage.views().await.unwrap();
    for (reference, said) in [("big", "at most 262144 are allowed"), ("many", "more than 8192 fields")] {
        let shown = views[reference].to_string();
        assert!(shown.contains("the trunk is too large") && shown.contains(said), "{shown}");
    }
    assert_eq!(deregistered(&requester), Vec::<String>::new());
}

#[tokio::test]
async fn g4_a_response_of_a_requester_full_of_nothing_is_that_trunks_failure() {
    let stage = TestRegistry::bare().await;
    let _requester = FakeRequester::start(stage.requester_port, |request| {
        let routes = match to(request).as_str() {
            "fields" => 60_000,
            "bytes" => 140_000,
            _ => 0,
        };
        Some(SipMessage { record_route: vec![RecordRoute::default(); routes], ..ok(300) })
    })
    .await;
    let refs = ["a", "b", "c", "fields", "bytes"];
    let _api = FakeApi::start(stage.api_port, move |ask| match ask {
        Ask::FindBy => Ok((all(&refs), String::new())),
        _ => Err(Status::unimplemented("not here")),
    })
    .await;
    let service = stage.run(&[]);
    let said = async || {
        let views = stage.views().await?;
        let is = |reference: &str, text: &str| {
            views.get(reference).is_some_and(|view| view.to_string().contains(text))
        };
        let good = ["a", "b", "c"].iter().all(|reference| is(reference, r#""state":"registered""#));
        let bad = is("fields", "more than 4096 fields") && is("bytes", "262144 bytes");
        if good && bad { Ok(()) } else { Err(format!("{views:#?}")) }
    };
    wait_for(said, SOON, "each to be registered or failing by itself").await;
    let peak = peak_mib(&service);
    assert!(peak < 150, "{peak} MiB");
}
