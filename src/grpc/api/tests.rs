//! API servers that misbehave while the list is read, over real sockets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::ApiServer;
use crate::{
    config::{Endpoint, SyncBounds},
    proto::trunks::{
        FindByRequest, FindByResponse, GetTrunkRequest, ListTrunkRequest, ListTrunksResponse, Trunk,
        TrunkUri,
        trunks_server::{Trunks, TrunksServer},
    },
    runtime::ports::TrunkSource,
};
use routr_registration::model::{Absence, SourceError, TrunkItem};
use routr_types::host::HostPort;

/// Request to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    FindBy,
    List { size: i32, token: String },
    Get(String),
}

type Answer = Result<(Vec<Trunk>, String), Status>;

/// A server that follows a script.
#[derive(Clone)]
struct Scripted {
    script: Arc<dyn Fn(&Ask) -> Answer + Send + Sync>,
    pause: Duration,
    asked: Arc<Mutex<Vec<Ask>>>,
}

impl Scripted {
    async fn answer(&self, ask: Ask) -> Answer {
        tokio::time::sleep(self.pause).await;
        let answer = (self.script)(&ask);
        self.asked.lock().unwrap().push(ask);
        answer
    }
}

#[tonic::async_trait]
impl Trunks for Scripted {
    async fn get(&self, request: Request<GetTrunkRequest>) -> Result<Response<Trunk>, Status> {
        let (items, _) = self.answer(Ask::Get(request.into_inner().r#ref)).await?;
        Ok(Response::new(items.into_iter().next().unwrap_or_default()))
    }

    async fn find_by(&self, _: Request<FindByRequest>) -> Result<Response<FindByResponse>, Status> {
        let (items, _) = self.answer(Ask::FindBy).await?;
        Ok(Response::new(FindByResponse { items }))
    }

    async fn list(&self, request: Request<ListTrunkRequest>) -> Result<Response<ListTrunksResponse>, Status> {
        let ListTrunkRequest { page_size, page_token } = request.into_inner();
        let (items, next_page_token) = self.answer(Ask::List { size: page_size, token: page_token }).await?;
        Ok(Response::new(ListTrunksResponse { items, next_page_token }))
    }
}

struct Harness {
    client: ApiServer,
    asked: Arc<Mutex<Vec<Ask>>>,
}

impl Harness {
    async fn start(bounds: SyncBounds, script: impl Fn(&Ask) -> Answer + Send + Sync + 'static) -> Self {
        Self::slow(Duration::ZERO, bounds, script).await
    }

    async fn slow(
        pause: Duration,
        bounds: SyncBounds,
        script: impl Fn(&Ask) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::default();
        let service = Scripted { script: Arc::new(script), pause, asked: Arc::clone(&asked) };
        let service = TrunksServer::new(service).max_encoding_message_size(usize::MAX);
        tokio::spawn(
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let address = HostPort::new(&address.ip().to_string(), address.port());
        let endpoint = Endpoint::plain(address, Duration::from_secs(10));
        Self { client: ApiServer::new(&endpoint, bounds).unwrap(), asked }
    }

    /// The refs of a list, in their order.
    async fn list(&self) -> Result<(Vec<String>, Absence), SourceError> {
        let (sender, batches) = mpsc::channel(2);
        let (result, refs) = tokio::join!(self.client.list(sender), collect(batches));
        result.map(|absence| (refs, absence))
    }

    async fn refused(&self) -> String {
        self.list().await.unwrap_err().to_string()
    }

    async fn look_up(&self, refs: &[&str]) -> Result<(Vec<String>, bool), SourceError> {
        let (sender, batches) = mpsc::channel(2);
        let missing = refs.iter().map(|reference| (*reference).into()).collect();
        let (result, refs) = tokio::join!(self.client.look_up(missing, sender), collect(batches));
        result.map(|certain| (refs, certain))
    }

    /// Returns what was asked since the last time.
    fn asked(&self) -> Vec<Ask> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn count(&self, method: fn(&Ask) -> bool) -> usize {
        self.asked.lock().unwrap().iter().filter(|ask| method(ask)).count()
    }
}

async fn collect(mut batches: mpsc::Receiver<Vec<super::RawTrunk>>) -> Vec<String> {
    let mut refs = Vec::new();
    while let Some(batch) = batches.recv().await {
        refs.extend(batch.iter().map(|trunk| trunk.reference().unwrap_or_default().to_owned()));
    }
    refs
}

fn trunk(reference: &str) -> Trunk {
    let uri = TrunkUri { host: "sip.example".into(), user: "u".into(), enabled: true, ..TrunkUri::default() };
    Trunk { r#ref: reference.into(), send_register: true, uris: vec![uri], ..Trunk::default() }
}

fn no_find_by() -> Answer {
    Err(Status::unimplemented("FindBy"))
}

fn page(refs: &[&str], token: &str) -> Answer {
    Ok((refs.iter().map(|reference| trunk(reference)).collect(), token.to_owned()))
}

/// A server with pages only, by their tokens.
async fn paged(pages: &[(&str, &[&str], &str)]) -> Harness {
    let pages: BTreeMap<String, Answer> =
        pages.iter().map(|(token, refs, next)| ((*token).to_owned(), page(refs, next))).collect();
    Harness::start(SyncBounds::default(), move |ask| match ask {
        Ask::List { token, .. } => pages[token].clone(),
        Ask::Get(_) => Err(Status::not_found("no such trunk")),
        Ask::FindBy => no_find_by(),
    })
    .await
}

#[tokio::test]
async fn g4_tokens_that_go_in_a_circle_are_an_error() {
    for circle in [&["A"][..], &["A", "B"], &["A", "B", "C"], &["A", "B", "C", "D", "E", "F", "G"]] {
        let mut pages = vec![("", &["t"][..], circle[0])];
        pages.extend((0..circle.len()).map(|at| (circle[at], &["u"][..], circle[(at + 1) % circle.len()])));
        let harness = paged(&pages).await;
        let said = harness.refused().await;
        assert!(said.contains("nextPageToken \"A\" came twice"), "{said}");
        assert!(harness.asked().len() <= circle.len() + 2, "it went round and round");
    }
}

#[tokio::test]
async fn g4_a_list_without_end_stops_at_each_bound_and_names_it() {
    let tight = SyncBounds { max_pages: 50, max_trunks: 300, max_bytes: 1 << 20, ..SyncBounds::default() };
    let wide = SyncBounds { max_pages: 1_000_000, max_trunks: 10_000_000, ..SyncBounds::default() };
    let endless = |items: usize, name: usize| {
        move |ask: &Ask| match ask {
            Ask::List { token, .. } => {
                let number: usize = token.parse().unwrap_or(0);
                let item = Trunk { name: "n".repeat(name), ..trunk(&format!("t{number}")) };
                Ok((vec![item; items], (number + 1).to_string()))
            }
            _ => no_find_by(),
        }
    };
    for (items, name, bounds, expected) in [
        (0, 0, tight, "it has more than 50 pages, with 0 trunks so far; spec.sync.maxPages"),
        (1, 0, tight, "it has more than 50 pages, with 50 trunks so far; spec.sync.maxPages"),
        (70, 0, tight, "it has more than 300 trunks; spec.sync.maxTrunks"),
        (1, 100_000, tight, "with 10 trunks so far; spec.sync.maxBytes allows 1048576"),
        (1, 0, SyncBounds { timeout: Duration::from_millis(300), ..wide }, "within 0.3 s, with "),
    ] {
        let pause = if expected.contains("within") { Duration::from_millis(10) } else { Duration::ZERO };
        let harness = Harness::slow(pause, bounds, endless(items, name)).await;
        let said = harness.refused().await;
        assert!(said.starts_with("the API server's list exceeds a bound: it "), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn g4_find_by_is_bounded_too() {
    let bounds = SyncBounds { max_trunks: 300, max_bytes: 1 << 20, ..SyncBounds::default() };
    let of = |items: usize, name: usize| {
        Harness::start(bounds, move |ask| match ask {
            Ask::FindBy => Ok((vec![Trunk { name: "n".repeat(name), ..trunk("t") }; items], String::new())),
            _ => Err(Status::unimplemented("not here")),
        })
    };
    assert_eq!(of(300, 0).await.list().await.unwrap().0.len(), 300);
    let said = of(301, 0).await.refused().await;
    assert!(said.contains("more than 300 trunks; spec.sync.maxTrunks"), "{said}");
    let said = of(200, 10_000).await.refused().await;
    assert!(
        said.contains("exceeds a bound: a response of 20")
            && said.contains("spec.sync.maxBytes allows 1048576"),
        "{said}"
    );
}

#[tokio::test]
async fn g4_an_empty_page_with_a_token_is_no_end() {
    let harness = paged(&[("", &["a"], "1"), ("1", &[], "2"), ("2", &[], "3"), ("3", &["b"], "")]).await;
    assert_eq!(harness.list().await.unwrap(), (vec!["a".to_owned(), "b".to_owned()], Absence::Unconfirmed));
    let harness = paged(&[("", &[], "1"), ("1", &["a"], "")]).await;
    assert_eq!(harness.list().await.unwrap().0, ["a"]);
}

#[tokio::test]
async fn g4_an_opaque_last_token_is_asked_for_and_ends_the_list() {
    let harness = paged(&[("", &["a", "b"], "b3BhcXVl/+=="), ("b3BhcXVl/+==", &[], "")]).await;
    for _ in 0..3 {
        assert_eq!(harness.list().await.unwrap().0, ["a", "b"]);
    }
    assert_eq!(harness.count(|ask| matches!(ask, Ask::Get(_))), 0, "it is no ref");
    let long = "x".repeat(60_000);
    let harness = paged(&[("", &["a"], &long), (&long, &["b"], "")]).await;
    assert_eq!(harness.list().await.unwrap().0, ["a", "b"]);
    let harness = paged(&[("", &["a"], &"x".repeat(70_000))]).await;
    assert!(harness.refused().await.contains("nextPageToken has 70000 bytes; at most 65536"));
}

#[tokio::test]
async fn g4_a_ref_as_last_token_that_get_never_knows_ends_the_list_the_second_time() {
    let harness = paged(&[("", &["a", "b"], "b"), ("b", &[], "")]).await;
    assert!(harness.refused().await.contains("deleted while the pages were read"));
    for _ in 0..3 {
        assert_eq!(
            harness.list().await.unwrap(),
            (vec!["a".to_owned(), "b".to_owned()], Absence::Unconfirmed)
        );
    }
}

#[tokio::test]
async fn g4_a_server_without_get_can_end_its_list_with_a_ref() {
    for status in [Status::unimplemented("Get"), Status::permission_denied("Get"), Status::internal("Get")] {
        let harness = Harness::start(SyncBounds::default(), move |ask| match ask {
            Ask::List { token, .. } if token.is_empty() => page(&["a", "b"], "b"),
            Ask::List { .. } => page(&[], ""),
            Ask::Get(_) => Err(status.clone()),
            Ask::FindBy => no_find_by(),
        })
        .await;
        assert_eq!(harness.list().await.unwrap().1, Absence::Unconfirmed);
        assert_eq!(harness.look_up(&["a"]).await.unwrap(), (vec![], false), "it cannot say");
    }
}

#[tokio::test]
async fn g4_find_by_too_large_and_list_unimplemented_once_are_tried_again() {
    // The first response of List comes from a server that is just being replaced.
    let lists = Mutex::new(0);
    let harness = Harness::start(SyncBounds::default(), move |ask| match ask {
        Ask::FindBy => Err(Status::resource_exhausted("trying to send message larger than max")),
        Ask::List { .. } => {
            *lists.lock().unwrap() += 1;
            if *lists.lock().unwrap() == 1 { Err(Status::unimplemented("List")) } else { page(&["a"], "") }
        }
        Ask::Get(_) => page(&[], ""),
    })
    .await;
    let said = harness.refused().await;
    assert!(said.contains("larger than max") && said.contains("does not implement List"), "{said}");
    for _ in 0..3 {
        assert_eq!(harness.list().await.unwrap().0, ["a"], "refused for ever");
    }
    // And in reverse: pages that are gone with an upgrade, and a size that is not refused any more.
    let list_is_there = Arc::new(Mutex::new(true));
    let there = Arc::clone(&list_is_there);
    let harness = Harness::start(SyncBounds::default(), move |ask| match (ask, *there.lock().unwrap()) {
        (Ask::FindBy, true) => Err(Status::out_of_range("too large")),
        (Ask::List { .. }, false) => Err(Status::unimplemented("List")),
        _ => page(&["a"], ""),
    })
    .await;
    assert_eq!(harness.list().await.unwrap().0, ["a"]);
    *list_is_there.lock().unwrap() = false;
    for _ in 0..3 {
        assert_eq!(harness.list().await.unwrap().0, ["a"], "refused for ever");
    }
}

#[tokio::test]
async fn g4_list_that_vanishes_in_mid_list_fails_this_sync_only() {
    let harness = Harness::start(SyncBounds::default(), |ask| match ask {
        Ask::FindBy => Err(Status::resource_exhausted("too large")),
        Ask::List { token, .. } if token.is_empty() => page(&["a"], "next"),
        Ask::List { .. } => Err(Status::unimplemented("List")),
        Ask::Get(_) => page(&[], ""),
    })
    .await;
    for _ in 0..2 {
        let said = harness.refused().await;
        assert_eq!(
            said,
            "the API server refused: in the middle of the pages: it does not implement List of Routr's Trunks service"
        );
    }
}

#[tokio::test]
async fn g4_a_page_that_is_too_large_to_be_sent_is_read_in_smaller_ones() {
    let harness = Harness::start(SyncBounds::default(), |ask| match ask {
        Ask::FindBy => Err(Status::resource_exhausted("too large")),
        Ask::List { size, .. } if *size > 100 => Err(Status::resource_exhausted("message larger than max")),
        Ask::List { .. } => page(&["a"], ""),
        Ask::Get(_) => page(&[], ""),
    })
    .await;
    assert_eq!(harness.list().await.unwrap().0, ["a"]);
    assert_eq!(harness.count(|ask| matches!(ask, Ask::List { .. })), 3);
    assert_eq!(harness.list().await.unwrap().0, ["a"]);
    assert!(harness.count(|ask| matches!(ask, Ask::List { .. })) <= 5, "the size that worked is forgotten");
}

#[tokio::test]
async fn g4_only_a_list_of_one_moment_says_that_a_trunk_is_gone() {
    let harness = Harness::start(SyncBounds::default(), |ask| match ask {
        Ask::FindBy => page(&["a"], ""),
        _ => page(&[], ""),
    });
    assert_eq!(harness.await.list().await.unwrap().1, Absence::Certain);
    let harness = Harness::start(SyncBounds::default(), |_| page(&[], ""));
    assert_eq!(harness.await.list().await.unwrap(), (vec![], Absence::Unconfirmed), "empty");
    assert_eq!(paged(&[("", &["a"], "")]).await.list().await.unwrap().1, Absence::Certain);
    assert_eq!(paged(&[("", &[], "")]).await.list().await.unwrap().1, Absence::Unconfirmed);
    let two = paged(&[("", &["a"], "t"), ("t", &["b"], "")]).await;
    assert_eq!(two.list().await.unwrap().1, Absence::Unconfirmed);
}

#[tokio::test]
async fn g4_missing_trunks_are_looked_up_one_by_one() {
    let harness = Harness::start(SyncBounds::default(), |ask| match ask {
        Ask::Get(reference) => match reference.as_str() {
            "there" => page(&["there"], ""),
            "off" => Ok((vec![Trunk { send_register: false, ..trunk("off") }], String::new())),
            "big" => Ok((vec![Trunk { name: "n".repeat(300_000), ..trunk("big") }], String::new())),
            "other" => page(&["another"], ""),
            "empty" => page(&[], ""),
            "down" => Err(Status::unavailable("the database is down")),
            _ => Err(Status::not_found("no such trunk")),
        },
        _ => page(&[], ""),
    })
    .await;
    let there = |refs: &[&str]| refs.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    assert_eq!(harness.look_up(&["there", "gone", "off", "big"]).await, Ok((there(&["there", "big"]), true)));
    assert_eq!(harness.look_up(&["other"]).await, Ok((vec![], false)), "a trunk that was not asked for");
    assert_eq!(harness.look_up(&["empty", "gone"]).await, Ok((vec![], false)));
    assert!(matches!(harness.look_up(&["gone", "down"]).await, Err(SourceError::Unavailable(_))));
    let many: Vec<String> = (0..100).map(|number| format!("gone-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(harness.look_up(&many).await, Ok((vec![], true)));
}

#[tokio::test]
async fn g4_a_trunk_that_is_too_large_is_its_own_matter() {
    let harness = Harness::start(SyncBounds::default(), |ask| match ask {
        Ask::FindBy => {
            let big = Trunk { uris: vec![TrunkUri::default(); 200_000], ..trunk("big") };
            Ok((vec![trunk("a"), big, trunk("b")], String::new()))
        }
        _ => page(&[], ""),
    })
    .await;
    let (sender, mut batches) = mpsc::channel(2);
    let take = async {
        let batch: Vec<super::RawTrunk> = batches.recv().await.unwrap();
        batch.iter().map(|trunk| trunk.decode().map_err(|problem| problem.to_string())).collect::<Vec<_>>()
    };
    let (result, decoded) = tokio::join!(harness.client.list(sender), take);
    assert_eq!((result, decoded.len()), (Ok(Absence::Certain), 3));
    assert!(decoded[0].is_ok() && decoded[2].is_ok());
    let said = decoded[1].as_ref().unwrap_err();
    assert!(
        said.contains("the trunk is too large: it has 4000") && said.contains("spec.sync.maxTrunkBytes"),
        "{said}"
    );
}
