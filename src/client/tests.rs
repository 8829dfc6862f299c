use clap::Parser;

use super::{watch::Changes, *};
use crate::admin::fake::{NOW, Ports, Replica, engine, failing, replica, start, trunk};
use crate::registry::RegistryName;
use routr_leader_election::LeadershipStatus;
use routr_registration::engine::view::{Down, Health, TrunkView};

#[derive(Parser)]
enum Cli {
    Trunks(TrunksArgs),
    Refresh(RefreshArgs),
    Why(WhyArgs),
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

/// Returns what is written to the output.
async fn written(
    work: impl AsyncFnOnce(&mut Vec<u8>) -> Result<(), ClientError>,
) -> Result<String, ClientError> {
    let mut out = Vec::new();
    work(&mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

async fn table_of(ports: &Ports, words: &str) -> String {
    let args = trunks_args(ports, words);
    written(async |out| print_table(&args, Terminal::default(), out).await).await.unwrap()
}

async fn refresh_of(ports: &Ports, reference: &str) -> Result<String, ClientError> {
    let service = ServiceArgs { url: ports.url(), registry: None };
    let args = RefreshArgs { reference: reference.to_owned(), service };
    written(async |out| print_refresh(&args, out).await).await
}

fn many(count: usize) -> Vec<TrunkView> {
    (0..count).map(|i| trunk(&format!("t-{i:05}"), &format!("Trunk {i:05}"))).collect()
}

#[tokio::test]
async fn the_table_shows_the_troubled_first_and_a_summary() {
    let ports = start(vec![trunk("t-1", "North"), failing("t-2", "South")]).await;
    assert_eq!(
        table_of(&ports, "").await,
        "TRUNK  REGISTRAR             EDGEPORT           STATE       EXPIRES IN  NEXT TRY    REASON\nSouth  \
         sip.example:5060/UDP  edge.example:5060  failing     -           in 42 s     CredentialsRejected \
         (403) for 3 m: the registrar responded with 403 Forbidden\nNorth  sip.example:5060/UDP  \
         edge.example:5060  registered  10 m        in 8 m 5 s\n\n2 trunks: 1 registered, 1 failing\n"
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
    let text = written(async |out| print_json(&args, out).await).await.unwrap();
    let all: Vec<TrunkView> = serde_json::from_str(&text).unwrap();
    assert_eq!(all, many(1234));
    assert_eq!(ports.world.lock().unwrap().lists, 3);

    let args = trunks_args(&ports, "--json --limit 7");
    let text = written(async |out| print_json(&args, out).await).await.unwrap();
    assert_eq!(serde_json::from_str::<Vec<TrunkView>>(&text).unwrap().len(), 7);

    let args = trunks_args(&ports, "--json --search nobody");
    assert_eq!(written(async |out| print_json(&args, out).await).await.unwrap(), "[]\n");
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
    let service = ServiceArgs { url: url.clone(), registry: None };
    let problem = refresh(RefreshArgs { reference: "t-1".to_owned(), service }).await.unwrap_err();
    assert!(matches!(problem, ClientError::NoResponse { .. }), "{problem:?}");
    let text = problem.to_string();
    assert!(text.starts_with(&format!("cannot reach routr-registry at {url}: ")), "{text}");
    assert!(text.contains("kubectl port-forward"), "{text}");
}

#[tokio::test]
async fn the_wrong_port_is_recognised() {
    let ports = start(Vec::new()).await;
    let api = Api::new(&format!("http://{}", ports.public), None);
    let problem = api.summary().await.unwrap_err();
    // The public port responds in the same manner, so its own hint is shown.
    assert_eq!(
        problem.to_string(),
        "not found; try /livez, /readyz or /metrics (trunks are on the private port)"
    );
    let api = Api::new(&format!("http://{}/readyz?", ports.public), None);
    let problem = api.summary().await.unwrap_err();
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
    for registry in ["/main", "paris/", "/"] {
        let problem = parse(&format!("trunks --registry {registry}")).err().unwrap().to_string();
        assert!(problem.contains("use NAMESPACE/NAME, or NAME alone"), "{problem}");
    }
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
    let api = Api::new(&ports.url(), None);
    let answer = api.fetch(&Filter::default(), usize::MAX).await;
    changes.of(answer).unwrap()
}

#[tokio::test]
async fn watching_without_a_terminal_prints_changes_only() {
    let ports = start(vec![trunk("t-1", "North"), trunk("t-2", "South")]).await;
    let mut changes = Changes::default();
    assert_eq!(
        tick(&ports, &mut changes).await,
        [
            "North: registered at sip.example:5060/UDP through EdgePort edge.example:5060, expires in 10 m; next: refresh in 8 m 5 s",
            "South: registered at sip.example:5060/UDP through EdgePort edge.example:5060, expires in 10 m; next: refresh in 8 m 5 s",
            "2 trunks: 2 registered",
        ]
    );
    // Time passes, a refresh moves the expiry: that is no change.
    ports.world.lock().unwrap().trunks[0].expires_at_ms = Some(NOW + 599_000);
    assert_eq!(tick(&ports, &mut changes).await, Vec::<String>::new());
    // Another EdgePort is one, and so is a registrar that is down.
    {
        let mut world = ports.world.lock().unwrap();
        (world.trunks[0].edge_port, world.trunks[0].failed_over) = ("10.0.0.2:5060".to_owned(), true);
        let down = Down { what: "registrar".to_owned(), name: "sip.example".to_owned(), ..Down::default() };
        (world.summary.down, world.summary.registrars_down) = (vec![down], 1);
    }
    let lines = tick(&ports, &mut changes).await;
    let moved =
        "North: registered at sip.example:5060/UDP through EdgePort 10.0.0.2:5060 (failed over), expires";
    assert!(lines[0].starts_with(moved), "{lines:#?}");
    assert!(lines[2].starts_with("registrar sip.example: down for "), "{lines:#?}");
    assert_eq!(tick(&ports, &mut changes).await, Vec::<String>::new());
    {
        let mut world = ports.world.lock().unwrap();
        (world.summary.down, world.summary.registrars_down) = (Vec::new(), 0);
    }
    {
        let mut world = ports.world.lock().unwrap();
        world.trunks = vec![failing("t-2", "South")];
        world.summary.counts.registered = 0;
        world.summary.counts.failing = 1;
    }
    assert_eq!(
        tick(&ports, &mut changes).await,
        [
            "South: failing at sip.example:5060/UDP through EdgePort edge.example:5060; next: retry in 42 s; \
             CredentialsRejected (403) for 3 m: the registrar responded with 403 Forbidden",
            "North: no longer listed",
            "1 trunk: 1 failing",
        ]
    );
}

#[tokio::test]
async fn a_service_that_goes_away_while_watched_is_said_once() {
    let silence =
        || Err(ClientError::NoResponse { url: "http://x".to_owned(), problem: "refused".to_owned() });
    let mut changes = Changes::default();
    assert!(changes.of(silence()).is_err(), "at first it is an error");
    let ports = start(vec![trunk("t-1", "North")]).await;
    assert_eq!(tick(&ports, &mut changes).await.len(), 2);
    assert_eq!(changes.of(silence()).unwrap().len(), 1);
    assert_eq!(changes.of(silence()).unwrap(), Vec::<String>::new());
    assert_eq!(tick(&ports, &mut changes).await, ["the service responds again"]);
}

/// A leader with three registries, one of them unhealthy.
async fn three() -> Replica {
    let replica = replica(
        LeadershipStatus::Leading,
        vec![
            (RegistryName::of("berlin", "main"), vec![trunk("t-1", "North"), trunk("t-2", "East")]),
            (RegistryName::of("paris", "main"), vec![trunk("t-7", "Ouest"), failing("t-9", "Sud")]),
            (RegistryName::of("paris", "spare"), Vec::new()),
        ],
    )
    .await;
    {
        let mut paris = replica.worlds[1].lock().unwrap();
        paris.summary.next_expiry_ms = Some(NOW + 600_000);
        paris.summary.cache = Health {
            ok: Some(false),
            message: Some("timed out".to_owned()),
            since_ms: NOW - 65_000,
            ..Health::default()
        };
    }
    replica
}

#[tokio::test]
async fn of_several_registries_a_short_table_is_shown() {
    let replica = three().await;
    assert_eq!(
        table_of(&replica.ports, "").await,
        "REGISTRY     TRUNKS  REGISTERED  AT RISK  FAILING  INVALID  PENDING  NEXT EXPIRY\nparis/main        \
         2           1        0        1        0        0         10 m\n\u{20}   cache: not working for 1 m \
         5 s: timed out; running from memory\nberlin/main       2           2        0        0        \
         0        0            -\nparis/spare       0           0        0        0        0        \
         0            -\n\n3 registries, 4 trunks: 3 registered, 1 failing; next expiry in 10 m\nTrunks of \
         one: routr-registry trunks --registry paris/main\n"
    );
    let filtered = table_of(&replica.ports, "--state failing").await;
    assert!(
        filtered.contains("--state, --registrar, --search and --limit filter the trunks of one registry.\n"),
        "{filtered}"
    );
}

#[tokio::test]
async fn one_of_several_is_shown_as_if_it_were_alone() {
    let replica = three().await;
    let table = table_of(&replica.ports, "--registry paris/main").await;
    assert!(table.starts_with("TRUNK "), "{table}");
    assert!(table.contains("Sud ") && !table.contains("North"), "{table}");
    assert!(table.contains("2 trunks: 1 registered, 1 failing"), "{table}");
    assert!(table_of(&replica.ports, "--registry spare").await.starts_with("No trunks: "));
    let args = trunks_args(&replica.ports, "--json --registry berlin/main");
    let json = written(async |out| print_json(&args, out).await).await.unwrap();
    assert_eq!(serde_json::from_str::<Vec<TrunkView>>(&json).unwrap().len(), 2);
}

#[tokio::test]
async fn what_needs_one_registry_says_how_to_name_it() {
    let replica = three().await;
    let args = trunks_args(&replica.ports, "--json");
    let json = written(async |out| print_json(&args, out).await).await.unwrap_err().to_string();
    let refresh = refresh_of(&replica.ports, "t-1").await.unwrap_err().to_string();
    for problem in [json, refresh] {
        assert_eq!(
            problem,
            "registry: 3 run here; name one with ?registry=NAMESPACE/NAME, or on the command line with \
             --registry NAMESPACE/NAME: berlin/main, paris/main, paris/spare"
        );
    }
    let args = trunks_args(&replica.ports, "--registry rome/main");
    let unknown = written(async |out| print_table(&args, Terminal::default(), out).await).await.unwrap_err();
    assert!(unknown.to_string().starts_with("registry: there is no \"rome/main\"; "), "{unknown}");
}

#[tokio::test]
async fn refresh_reaches_the_registry_that_is_named() {
    let replica = three().await;
    let of = async |registry: &str, reference: &str| {
        let service = ServiceArgs { url: replica.ports.url(), registry: Some(registry.to_owned()) };
        let args = RefreshArgs { reference: reference.to_owned(), service };
        written(async |out| print_refresh(&args, out).await).await
    };
    assert!(of("paris/main", "Sud").await.unwrap().starts_with("t-9: queued"));
    assert_eq!(replica.worlds[1].lock().unwrap().refreshed, ["Sud", "t-9"]);
    let elsewhere = of("berlin/main", "t-9").await.unwrap_err().to_string();
    assert!(elsewhere.starts_with("there is no trunk with ref \"t-9\""), "{elsewhere}");
    let unknown = of("rome/main", "t-9").await.unwrap_err().to_string();
    assert!(unknown.starts_with("registry: there is no \"rome/main\"; "), "{unknown}");
}

#[tokio::test]
async fn the_only_registry_of_a_leader_needs_no_name() {
    let name = RegistryName::of("paris", "main");
    let replica = replica(LeadershipStatus::Leading, vec![(name, vec![trunk("t-1", "North")])]).await;
    assert!(table_of(&replica.ports, "").await.starts_with("TRUNK "));
    assert!(refresh_of(&replica.ports, "North").await.unwrap().starts_with("t-1: queued"));
}

#[tokio::test]
async fn a_replica_that_follows_sends_to_the_leader_and_an_empty_leader_says_so() {
    let replica =
        replica(LeadershipStatus::Following { leader: Some("registry-0".to_owned()) }, Vec::new()).await;
    let args = trunks_args(&replica.ports, "");
    let problem = written(async |out| print_table(&args, Terminal::default(), out).await)
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        problem,
        format!(
            "no registry runs at {}: this replica follows registry-0, which runs all of them: ask it \
             (`kubectl port-forward pod/registry-0 8081`)",
            replica.ports.url()
        )
    );
    replica.standing.send(LeadershipStatus::Leading).unwrap();
    assert_eq!(table_of(&replica.ports, "").await, "No registries: there is no Registry resource here.\n");
}

#[tokio::test]
async fn watching_several_registries_prints_changes_only() {
    let replica = three().await;
    let mut changes = Changes::default();
    assert_eq!(
        tick(&replica.ports, &mut changes).await,
        [
            "paris/main: 2 trunks: 1 registered, 1 failing; \
             cache: not working for 1 m 5 s: timed out; running from memory",
            "berlin/main: 2 trunks: 2 registered",
            "paris/spare: no trunks",
        ]
    );
    // A expire that moves on is no change.
    replica.worlds[1].lock().unwrap().summary.next_expiry_ms = Some(NOW + 900_000);
    assert_eq!(tick(&replica.ports, &mut changes).await, Vec::<String>::new());
    replica.worlds[1].lock().unwrap().summary.cache.ok = Some(true);
    replica.ports.directory.leave(
        &RegistryName::of("paris", "spare"),
        &replica.ports.directory.get(&RegistryName::of("paris", "spare")).unwrap(),
    );
    assert_eq!(
        tick(&replica.ports, &mut changes).await,
        ["paris/main: 2 trunks: 1 registered, 1 failing", "paris/spare: no longer listed"]
    );
    // With one left, its trunks are shown; with two again, the registries are.
    replica.ports.directory.leave(
        &RegistryName::of("paris", "main"),
        &replica.ports.directory.get(&RegistryName::of("paris", "main")).unwrap(),
    );
    let alone = tick(&replica.ports, &mut changes).await;
    assert_eq!(alone.len(), 3, "{alone:?}");
    assert_eq!(alone[2], "2 trunks: 2 registered");
    let (handle, _world, _task) = engine(Vec::new());
    replica.ports.directory.enter(RegistryName::of("rome", "main"), handle);
    assert_eq!(
        tick(&replica.ports, &mut changes).await,
        ["berlin/main: 2 trunks: 2 registered", "rome/main: no trunks"]
    );
}

/// Returns what `why` writes, and whether the trunk is registered.
async fn why_of(ports: &Ports, words: &[&str]) -> Result<(String, bool), ClientError> {
    let url = ports.url();
    let parsed = Cli::try_parse_from([&["routr-registry", "why", "--url", &url], words].concat());
    let Ok(Cli::Why(args)) = parsed else { panic!("{words:?}") };
    let mut well = false;
    let clock = table::Clock::utc();
    let text =
        written(async |out| why::print(&args, Terminal::default(), &clock, out, &mut well).await).await?;
    Ok((text, well))
}

#[tokio::test]
async fn why_explains_one_trunk_by_ref_or_name() {
    let trunks =
        vec![trunk("a/b c?d", "North"), failing("t-2", "South"), trunk("t-3", "Twin"), trunk("t-4", "Twin")];
    let ports = start(trunks).await;
    let (text, well) = why_of(&ports, &["a/b c?d"]).await.unwrap();
    assert!(well && text.starts_with("North (a/b c?d) is registered\n"), "{text}");
    for name in ["t-2", "South"] {
        let (text, well) = why_of(&ports, &[name]).await.unwrap();
        assert!(
            !well && text.starts_with("South (t-2) is failing: not registered, for 3 m, since "),
            "{text}"
        );
    }
    assert_eq!(
        why_of(&ports, &["Twin"]).await.unwrap_err().to_string(),
        "2 trunks are named \"Twin\"; give the ref of one of them: t-3, t-4"
    );
    assert_eq!(
        why_of(&ports, &["Nobody"]).await.unwrap_err().to_string(),
        refresh_of(&ports, "Nobody").await.unwrap_err().to_string()
    );
    let (json, well) = why_of(&ports, &["South", "--output", "json"]).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((well, &json["reference"], &json["nowMs"]), (false, &"t-2".into(), &NOW.into()));
    ports.world.lock().unwrap().summary.paused = true;
    let (text, _) = why_of(&ports, &["t-2"]).await.unwrap();
    assert!(text.contains("; its registry is suspended\n"), "{text}");
}

#[tokio::test]
async fn why_asks_the_registry_that_is_named() {
    let replica = three().await;
    let several = why_of(&replica.ports, &["t-9"]).await.unwrap_err().to_string();
    assert!(several.starts_with("registry: 3 run here; name one with "), "{several}");
    let (text, _) = why_of(&replica.ports, &["t-9", "--registry", "paris/main"]).await.unwrap();
    assert!(text.starts_with("Sud (t-9) is failing"), "{text}");
}
