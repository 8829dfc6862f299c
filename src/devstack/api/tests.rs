mod mistakes;

use std::{fs, net::SocketAddr, time::Duration};

use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

use super::*;
use crate::proto::trunks::{
    FindByRequest, FindByResponse, GetTrunkRequest, ListTrunkRequest, ListTrunksResponse,
    trunks_client::TrunksClient,
};

const TRUNKS: &str = r#"
- apiVersion: v2beta1
  kind: Trunk
  ref: trunk-01
  metadata: { name: Test Trunk, region: us-east1 }
  spec:
    inbound: { uri: trunk01.acme.com, credentialsRef: credentials-05 }
    outbound:
      sendRegister: true
      credentialsRef: credentials-04
      uris:
        - uri: { user: pbx-1, host: sip.provider.net, port: 7060, transport: udp }
          priority: 10
          weight: 20
          enabled: true
        - uri: { user: pbx-2, host: sip2.provider.net }
- apiVersion: v2
  kind: Trunk
  ref: trunk-02
  metadata: { name: Quiet }
  spec: { inbound: { uri: trunk02.acme.com } }
- apiVersion: v2beta1
  kind: Agent
  ref: agent-01
  spec: { username: "1001" }
"#;

const CREDENTIALS: &str = r#"
apiVersion: v2beta1
kind: Credentials
ref: credentials-04
metadata: { name: Trunk credentials }
spec: { credentials: { username: trunk01, password: "tru=nk:01" } }
---
apiVersion: v2beta1
kind: Credentials
ref: credentials-05
spec: { credentials: { username: in, password: "s3cr3t" } }
"#;

/// A server on a loopback port, ended when the test is.
struct Running {
    server: ApiServer,
    client: TrunksClient<Channel>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    async fn start(server: ApiServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn({
            let (server, shutdown) = (server.clone(), shutdown.clone());
            async move { server.serve(listener, shutdown).await }
        });
        let client = TrunksClient::connect(format!("http://{address}")).await.unwrap();
        let client = client.max_decoding_message_size(usize::MAX);
        Self { server, client, shutdown, task }
    }

    async fn find_by(&mut self, field: &str, value: &str) -> Result<FindByResponse, tonic::Status> {
        let request = FindByRequest { field_name: field.into(), field_value: value.into() };
        Ok(self.client.find_by(request).await?.into_inner())
    }

    async fn registering(&mut self) -> Vec<Trunk> {
        self.find_by("sendRegister", "true").await.unwrap().items
    }

    async fn page(&mut self, size: i32, token: &str) -> Result<ListTrunksResponse, tonic::Status> {
        let request = ListTrunkRequest { page_size: size, page_token: token.into() };
        Ok(self.client.list(request).await?.into_inner())
    }

    async fn stop(self) {
        drop(self.client);
        self.shutdown.cancel();
        timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap().unwrap();
    }
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// Writes a file in one step, as a careful editor does.
fn write(dir: &TempDir, name: &str, text: &str) {
    let draft = dir.path().join(".draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, dir.path().join(name)).unwrap();
}

fn quick() -> ApiOptions {
    ApiOptions { poll_interval: Duration::from_millis(10), ..ApiOptions::default() }
}

fn trunk(reference: &str) -> Trunk {
    Trunk { r#ref: reference.into(), send_register: true, ..Trunk::default() }
}

#[tokio::test]
async fn serves_trunks_with_their_credentials_as_the_real_server_does() {
    let dir =
        folder(&[("trunks.yaml", TRUNKS), ("credentials.yml", CREDENTIALS), ("notes.txt", "- nothing: [")]);
    let mut api = Running::start(ApiServer::load(&dir).unwrap()).await;
    let items = api.registering().await;
    assert_eq!(items.len(), 1);
    let found = &items[0];
    assert_eq!((found.r#ref.as_str(), found.name.as_str()), ("trunk-01", "Test Trunk"));
    assert_eq!((found.api_version.as_str(), found.inbound_uri.as_str()), ("v2beta1", "trunk01.acme.com"));
    let outbound = found.outbound_credentials.as_ref().unwrap();
    assert_eq!((outbound.username.as_str(), outbound.password.as_str()), ("trunk01", "tru=nk:01"));
    assert_eq!(found.inbound_credentials.as_ref().unwrap().username, "in");
    let region = &found.extended.as_ref().unwrap().fields["region"];
    assert_eq!(region.kind, Some(prost_types::value::Kind::StringValue("us-east1".into())));
    let [first, second] = found.uris.as_slice() else { panic!("two URIs") };
    assert_eq!((first.user.as_str(), first.host.as_str(), first.port), ("pbx-1", "sip.provider.net", 7060));
    assert_eq!(
        (first.transport.as_str(), first.priority, first.weight, first.enabled),
        ("udp", 10, 20, true)
    );
    // What is absent is empty on the wire, and `enabled` false.
    assert_eq!((second.port, second.transport.as_str(), second.enabled), (0, "", false));

    assert_eq!(api.find_by("sendRegister", "false").await.unwrap().items[0].r#ref, "trunk-02");
    assert_eq!(api.find_by("name", "Quiet").await.unwrap().items[0].r#ref, "trunk-02");
    assert_eq!(api.find_by("colour", "red").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(api.find_by("sendRegister", "yes").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(api.page(10, "").await.unwrap_err().code(), Code::Unimplemented);
    let got = api.client.get(GetTrunkRequest { r#ref: "trunk-02".into() }).await.unwrap().into_inner();
    assert_eq!(got.name, "Quiet");
    let missing = api.client.get(GetTrunkRequest { r#ref: "trunk-9".into() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!((api.server.calls(Rpc::FindBy), api.server.calls(Rpc::Get)), (5, 2));
    api.stop().await;
}

#[test]
fn reads_json_and_single_resources() {
    let json = r#"{"apiVersion":"v2","kind":"Trunk","ref":"t","metadata":{"name":"T"},"spec":{"outbound":{"sendRegister":true}}}"#;
    let server = ApiServer::load(folder(&[("one.json", json), ("empty.yaml", "# nothing yet\n")])).unwrap();
    assert_eq!(server.len(), 1);
}

#[tokio::test]
async fn edits_are_followed_and_bad_ones_keep_the_last_good_state() {
    let dir = folder(&[("trunks.yaml", TRUNKS), ("credentials.yaml", CREDENTIALS)]);
    let mut api = Running::start(ApiServer::load_with(&dir, quick()).unwrap()).await;
    let edited = async |api: &Running, known: u64| {
        timeout(Duration::from_secs(10), api.server.changed_since(known))
            .await
            .expect("the edit is not followed")
    };

    let generation = api.server.generation();
    write(&dir, "trunks.yaml", &TRUNKS.replace("7060", "7061"));
    let generation = edited(&api, generation).await;
    assert_eq!(api.registering().await[0].uris[0].port, 7061);

    // A bad edit is not used, but another file's good one beside it is.
    write(&dir, "trunks.yaml", &TRUNKS.replace("7060", "many"));
    write(
        &dir,
        "more.yaml",
        "{ apiVersion: v2, kind: Trunk, ref: t3, spec: { outbound: { sendRegister: true } } }",
    );
    let generation = edited(&api, generation).await;
    let items = api.registering().await;
    let refs: Vec<_> = items.iter().map(|t| t.r#ref.as_str()).collect();
    assert_eq!(refs, ["t3", "trunk-01"]);
    assert_eq!(items[1].uris[0].port, 7061, "the last good state is kept");

    // A file that goes away takes its resources with it.
    fs::remove_file(dir.path().join("more.yaml")).unwrap();
    edited(&api, generation).await;
    assert_eq!(api.registering().await.len(), 1);
    api.stop().await;
}

#[tokio::test]
async fn edits_are_followed_by_the_next_server_too() {
    let dir = folder(&[("trunks.yaml", TRUNKS), ("credentials.yaml", CREDENTIALS)]);
    let api = Running::start(ApiServer::load_with(&dir, quick()).unwrap()).await;
    let server = api.server.clone();
    api.stop().await;
    let mut again = Running::start(server).await;
    let generation = again.server.generation();
    write(&dir, "trunks.yaml", &TRUNKS.replace("7060", "7061"));
    timeout(Duration::from_secs(10), again.server.changed_since(generation)).await.unwrap();
    assert_eq!(again.registering().await[0].uris[0].port, 7061);
    again.stop().await;
}

#[test]
fn a_file_is_read_only_when_it_has_settled() {
    let dir = folder(&[("t.yaml", "[]")]);
    let (mut folder, _) = Folder::open(dir.path()).unwrap();
    assert!(folder.poll().is_none());
    write(&dir, "t.yaml", "- { apiVersion: v2, kind: Trunk, ref: a, spec: {} }");
    assert!(folder.poll().is_none(), "it was read at first sight");
    assert_eq!(folder.poll().map(|trunks| trunks.len()), Some(1));
    assert!(folder.poll().is_none(), "nothing has changed since");
    fs::remove_file(dir.path().join("t.yaml")).unwrap();
    assert!(folder.poll().is_none(), "a replacement may follow");
    assert_eq!(folder.poll().map(|trunks| trunks.len()), Some(0));
}

#[test]
fn files_that_do_not_fit_together_change_nothing_until_they_do() {
    let dir = folder(&[("trunks.yaml", TRUNKS), ("credentials.yaml", CREDENTIALS)]);
    let (mut folder, _) = Folder::open(dir.path()).unwrap();
    let mut settle = || {
        assert!(folder.poll().is_none());
        folder.poll()
    };
    fs::remove_file(dir.path().join("credentials.yaml")).unwrap();
    assert!(settle().is_none(), "a trunk would be served without its credentials");
    write(&dir, "trunks.yaml", &TRUNKS.replace("7060", "7062"));
    assert!(settle().is_none(), "a trunk would be served without its credentials");
    write(&dir, "credentials.yaml", &CREDENTIALS.replace("tru=nk:01", "new"));
    let trunks = settle().expect("all fits together again");
    assert_eq!(trunks[0].uris[0].port, 7062);
    assert_eq!(trunks[0].outbound_credentials.as_ref().unwrap().password, "new");
}

#[tokio::test]
async fn paged_lists_go_newest_first_and_end_with_an_empty_page() {
    let options = ApiOptions { paged: true, ..ApiOptions::default() };
    let trunks = (0..5).map(|n| trunk(&format!("t{n}"))).collect();
    let mut api = Running::start(ApiServer::from_trunks_with(trunks, options)).await;
    let (mut token, mut pages) = (String::new(), Vec::new());
    loop {
        let page = api.page(2, &token).await.unwrap();
        token = page.next_page_token;
        if page.items.is_empty() {
            break;
        }
        let refs: Vec<_> = page.items.into_iter().map(|t| t.r#ref).collect();
        assert_eq!(refs.last(), Some(&token));
        pages.push(refs);
    }
    assert_eq!(token, "");
    assert_eq!(pages, [vec!["t4", "t3"], vec!["t2", "t1"], vec!["t0"]]);
    assert_eq!(api.page(2, "gone").await.unwrap().items, []);
    api.stop().await;
}

#[tokio::test]
async fn faults_act_from_one_call_to_the_next() {
    let mut api = Running::start(ApiServer::from_trunks(vec![trunk("a"), trunk("b")])).await;
    assert_eq!(api.registering().await.len(), 2);
    api.server.set_trunks(vec![trunk("c")]);
    assert_eq!(api.registering().await[0].r#ref, "c");

    let cases = [
        (Fault::Unavailable, Code::Unavailable),
        (Fault::Refuse(Code::Internal, "no".into()), Code::Internal),
        (Fault::TooLarge { limit: 4, code: SizeCode::ResourceExhausted }, Code::ResourceExhausted),
        (Fault::TooLarge { limit: 4, code: SizeCode::OutOfRange }, Code::OutOfRange),
    ];
    for (fault, code) in cases {
        api.server.set_fault(Rpc::FindBy, Some(fault));
        assert_eq!(api.find_by("sendRegister", "true").await.unwrap_err().code(), code);
    }
    api.server.set_fault(Rpc::FindBy, Some(Fault::TooLarge { limit: 400, code: SizeCode::OutOfRange }));
    assert_eq!(api.registering().await.len(), 1);
    api.server.set_fault(Rpc::FindBy, Some(Fault::Slow(Duration::from_millis(20))));
    assert_eq!(api.registering().await.len(), 1);
    api.server.set_fault(Rpc::FindBy, None);
    assert_eq!(api.registering().await.len(), 1);
    // A call that hangs does not keep the server from ending.
    api.server.set_fault(Rpc::FindBy, Some(Fault::Hang));
    let mut client = api.client.clone();
    let hanging = tokio::spawn(async move {
        client.find_by(FindByRequest { field_name: "sendRegister".into(), field_value: "true".into() }).await
    });
    let calls = api.server.calls(Rpc::FindBy);
    while api.server.calls(Rpc::FindBy) == calls && !hanging.is_finished() {
        tokio::task::yield_now().await;
    }
    api.stop().await;
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn answers_far_past_four_mebibytes() {
    let trunks =
        (0..20_000).map(|n| Trunk { name: "x".repeat(300), ..trunk(&format!("trunk-{n}")) }).collect();
    let mut api = Running::start(ApiServer::from_trunks(trunks)).await;
    let answer = api.find_by("sendRegister", "true").await.unwrap();
    assert!(prost::Message::encoded_len(&answer) > 5 * 1024 * 1024);
    assert_eq!(answer.items.len(), 20_000);
    api.stop().await;
}
