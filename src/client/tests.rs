use clap::Parser;

use super::{watch::Changes, *};
use crate::{
    admin::fake::{NOW, Ports, failing, start, trunk},
    engine::view::TrunkView,
};

#[derive(Parser)]
enum Cli {
    Trunks(TrunksArgs),
    Refresh(RefreshArgs),
}

fn parse(words: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("routr-registry").chain(words.split_whitespace()))
}

/// Arguments of `trunks` for a served fake, as the command line gives them.
fn trunks_args(ports: &Ports, words: &str) -> TrunksArgs {
    match parse(&format!("trunks --url {} {words}", ports.url())) {
        Ok(Cli::Trunks(args)) => args,
        _ => panic!("{words}"),
    }
}

async fn written(
    work: impl FnOnce(&mut Vec<u8>) -> Result<(), ClientError> + Send + 'static,
) -> Result<String, ClientError> {
    blocking(move || {
        let mut out = Vec::new();
        work(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    })
    .await
}

async fn table_of(ports: &Ports, words: &str) -> String {
    let args = trunks_args(ports, words);
    written(move |out| print_table(&args, Terminal::default(), out)).await.unwrap()
}

async fn refresh_of(ports: &Ports, reference: &str) -> Result<String, ClientError> {
    let service = ServiceArgs { url: ports.url() };
    let args = RefreshArgs { reference: reference.to_owned(), service };
    written(move |out| print_refresh(&args, out)).await
}

fn many(count: usize) -> Vec<TrunkView> {
    (0..count).map(|i| trunk(&format!("t-{i:05}"), &format!("Trunk {i:05}"))).collect()
}

#[tokio::test]
async fn the_table_shows_the_troubled_first_and_a_summary() {
    let ports = start(vec![trunk("t-1", "North"), failing("t-2", "South")]).await;
    assert_eq!(
        table_of(&ports, "").await,
        "TRUNK  REGISTRAR             STATE       EXPIRES IN  NEXT TRY    REASON\n\
         South  sip.example:5060/UDP  failing     -           in 42 s     \
         CredentialsRejected (403) for 3 m: the registrar answered 403 Forbidden\n\
         North  sip.example:5060/UDP  registered  10 m        in 8 m 5 s\n\
         \n\
         2 trunks: 1 registered, 1 failing\n"
    );
}

#[tokio::test]
async fn filters_reach_the_service() {
    let mut other = trunk("t-3", "West");
    other.registrar = "pbx.example:5061/TLS".to_owned();
    let ports = start(vec![trunk("t-1", "North"), failing("t-2", "South"), other]).await;
    for (words, shown, hidden) in [
        ("--state failing", "South", ["North", "West"]),
        ("--registrar PBX.example", "West", ["North", "South"]),
        ("--search nort", "North", ["South", "West"]),
        ("--state registered,atRisk --search t-3", "West", ["North", "South"]),
    ] {
        let table = table_of(&ports, words).await;
        assert!(table.contains(shown) && !hidden.iter().any(|h| table.contains(h)), "{words}: {table}");
    }
    let none = table_of(&ports, "--search nobody").await;
    assert_eq!(none, "No trunk matches the filter. Of all trunks:\n3 trunks: 2 registered, 1 failing\n");
}

#[tokio::test]
async fn a_limit_never_hides_the_troubled_and_says_so() {
    let mut trunks = many(1200);
    trunks.push(failing("z-last", "Last by ref"));
    let ports = start(trunks).await;
    let table = table_of(&ports, "--limit 3").await;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[1].starts_with("Last by ref"), "{table}");
    assert_eq!(lines.len(), 1 + 3 + 1 + 1 + 1, "{table}");
    assert_eq!(
        lines[5],
        "Only 3 trunks are shown; narrow with --state, --registrar or --search, or raise --limit."
    );
    assert_eq!(table_of(&ports, "").await.lines().filter(|line| line.contains("sip.example")).count(), 1000);
    let exactly = table_of(&ports, "--limit 1201").await;
    assert!(!exactly.contains("are shown"), "{}", exactly.lines().last().unwrap());
}

#[tokio::test]
async fn json_is_one_array_over_all_pages() {
    let ports = start(many(1234)).await;
    let args = trunks_args(&ports, "--json");
    let text = written(move |out| print_json(&args, out)).await.unwrap();
    let all: Vec<TrunkView> = serde_json::from_str(&text).unwrap();
    assert_eq!(all, many(1234));
    assert_eq!(ports.world.lock().unwrap().lists, 3);

    let args = trunks_args(&ports, "--json --limit 7");
    let text = written(move |out| print_json(&args, out)).await.unwrap();
    assert_eq!(serde_json::from_str::<Vec<TrunkView>>(&text).unwrap().len(), 7);

    let args = trunks_args(&ports, "--json --search nobody");
    assert_eq!(written(move |out| print_json(&args, out)).await.unwrap(), "[]\n");
}

#[tokio::test]
async fn refresh_by_ref_and_by_a_name_that_only_one_has() {
    let ports = start(vec![
        trunk("a/b c?d", "North"),
        failing("t-2", "South"),
        trunk("t-3", "Twin"),
        trunk("t-4", "Twin"),
    ])
    .await;
    let queued = "queued: the REGISTER goes out as soon as the budgets allow\n";
    assert_eq!(refresh_of(&ports, "t-2").await.unwrap(), format!("t-2: {queued}"));
    assert_eq!(refresh_of(&ports, "a/b c?d").await.unwrap(), format!("a/b c?d: {queued}"));
    assert_eq!(refresh_of(&ports, "South").await.unwrap(), format!("t-2: {queued}"));
    assert_eq!(
        refresh_of(&ports, "Twin").await.unwrap_err().to_string(),
        "2 trunks are named \"Twin\"; give the ref of one of them: t-3, t-4"
    );
    assert_eq!(
        refresh_of(&ports, "Nobody").await.unwrap_err().to_string(),
        "there is no trunk with ref \"Nobody\" and sendRegister: true; refs are listed by /registrations"
    );
}

#[tokio::test]
async fn nothing_listening_is_said_with_what_to_do() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let service = ServiceArgs { url: url.clone() };
    let problem = refresh(RefreshArgs { reference: "t-1".to_owned(), service }).await.unwrap_err();
    assert!(matches!(problem, ClientError::NoAnswer { .. }), "{problem:?}");
    let text = problem.to_string();
    assert!(text.starts_with(&format!("no routr-registry answers at {url}: ")), "{text}");
    assert!(text.contains("kubectl port-forward"), "{text}");
}

#[tokio::test]
async fn the_wrong_port_is_recognised() {
    let ports = start(Vec::new()).await;
    let api = Api::new(&format!("http://{}", ports.public));
    let problem = blocking(move || api.summary()).await.unwrap_err();
    // The public port answers in the same manner, so its own hint is shown.
    assert_eq!(
        problem.to_string(),
        "there is nothing here; try /livez, /readyz or /metrics (trunks are on the private port)"
    );
    let api = Api::new(&format!("http://{}/readyz?", ports.public));
    let problem = blocking(move || api.summary()).await.unwrap_err();
    assert!(matches!(problem, ClientError::NotARegistry { .. }), "{problem:?}");
}

#[test]
fn arguments_are_checked() {
    let state = parse("trunks --state broken").err().unwrap().to_string();
    assert!(state.contains("'broken'") && state.contains("use one or more of registered, atRisk"), "{state}");
    for url in ["https://127.0.0.1:8081", "ftp://x", "http://", "http://x?y=z"] {
        let problem = parse(&format!("trunks --url {url}")).err().unwrap().to_string();
        assert!(problem.contains("use http://HOST:PORT"), "{problem}");
    }
    assert!(parse("trunks --json --watch").is_err());
    let Ok(Cli::Refresh(args)) = parse("refresh t-1 --url 10.0.0.7:8081/") else { panic!() };
    assert_eq!(args.service.url, "http://10.0.0.7:8081");
    let Ok(Cli::Trunks(args)) = parse("trunks --state FAILING,atrisk") else { panic!() };
    assert_eq!(args.state, [TrunkState::Failing, TrunkState::AtRisk]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
    assert!(quiet_pipe(Err(ClientError::Output(pipe()))).is_ok());
    assert!(quiet_pipe(Err(ClientError::Json(serde_json::Error::io(pipe())))).is_ok());
    assert!(quiet_pipe(Err(ClientError::Output(io::ErrorKind::StorageFull.into()))).is_err());
}

/// Asks the served fake as `trunks --watch` does, and gives the lines it would print.
async fn tick(ports: &Ports, changes: &mut Changes) -> Vec<String> {
    let api = Api::new(&ports.url());
    let answer = blocking(move || api.listing(&Filter::default(), usize::MAX)).await;
    changes.of(answer).unwrap()
}

#[tokio::test]
async fn watching_without_a_terminal_prints_changes_only() {
    let ports = start(vec![trunk("t-1", "North"), trunk("t-2", "South")]).await;
    let mut changes = Changes::default();
    assert_eq!(
        tick(&ports, &mut changes).await,
        [
            "North: registered at sip.example:5060/UDP, expires in 10 m; next: refresh in 8 m 5 s",
            "South: registered at sip.example:5060/UDP, expires in 10 m; next: refresh in 8 m 5 s",
            "2 trunks: 2 registered",
        ]
    );
    // Time passes, a refresh moves the expiry: that is no change.
    ports.world.lock().unwrap().trunks[0].expires_at_ms = Some(NOW + 599_000);
    assert_eq!(tick(&ports, &mut changes).await, Vec::<String>::new());
    {
        let mut world = ports.world.lock().unwrap();
        world.trunks = vec![failing("t-2", "South")];
        world.summary.counts.registered = 0;
        world.summary.counts.failing = 1;
    }
    assert_eq!(
        tick(&ports, &mut changes).await,
        [
            "South: failing at sip.example:5060/UDP; next: retry in 42 s; \
             CredentialsRejected (403) for 3 m: the registrar answered 403 Forbidden",
            "North: no longer listed",
            "1 trunk: 1 failing",
        ]
    );
}

#[tokio::test]
async fn a_service_that_goes_away_while_watched_is_said_once() {
    let silence = || Err(ClientError::NoAnswer { url: "http://x".to_owned(), problem: "refused".to_owned() });
    let mut changes = Changes::default();
    assert!(changes.of(silence()).is_err(), "at first it is an error");
    let ports = start(vec![trunk("t-1", "North")]).await;
    assert_eq!(tick(&ports, &mut changes).await.len(), 2);
    assert_eq!(changes.of(silence()).unwrap().len(), 1);
    assert_eq!(changes.of(silence()).unwrap(), Vec::<String>::new());
    assert_eq!(tick(&ports, &mut changes).await, ["the service answers again"]);
}
