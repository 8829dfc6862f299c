//! `trunks` and `refresh` against a running service, and against none.

use routr_registry::proto::sipmessage::ResponseType;
use serde_json::Value;

use super::SOON;
use super::fake::{FakeRequester, ok, reply, to};
use super::test_registry::{TestRegistry, tells, trunk};
use crate::support::process::tail;
use crate::support::service::Service;
use crate::support::wait::wait_for;

async fn ended(mut client: Service) -> (Option<i32>, String) {
    let status = client.exit(SOON).await;
    (status.code(), client.output())
}

/// «good» and «twin-1», «twin-2» of one name are registered, «locked» has no account, «broken» no host.
async fn stage() -> (TestRegistry, FakeRequester, Service) {
    let mut stage = TestRegistry::bare().await;
    let mut trunks: Vec<_> =
        ["good", "locked"].map(|reference| trunk(reference, "sip.example.com", 5060)).into();
    trunks.extend(["twin-1", "twin-2"].map(|reference| {
        let mut twin = trunk(reference, "sip.example.net", 5060);
        twin.name = "Twin".to_owned();
        twin
    }));
    trunks.push(trunk("broken", "", 5060));
    stage.api.set_trunks(trunks);
    stage.start_api().await;
    let requester = FakeRequester::start(stage.requester_port, |request| {
        Some(match to(request).as_str() {
            "locked" => reply(ResponseType::Forbidden.into(), "Account Locked", &[]),
            _ => ok(600),
        })
    })
    .await;
    let service = stage.run(&[]);
    stage
        .settles(&[
            ("good", "registered"),
            ("locked", "failing"),
            ("twin-1", "registered"),
            ("twin-2", "registered"),
            ("broken", "invalid"),
        ])
        .await;
    (stage, requester, service)
}

#[tokio::test]
async fn trunks_shows_a_table_those_in_trouble_first() {
    let (stage, _requester, service) = stage().await;
    let (code, table) = ended(stage.client(&["trunks"])).await;
    assert_eq!(code, Some(0), "{table}");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("TRUNK ") && lines[0].ends_with("REASON"), "{table}");
    assert!(
        lines[1].starts_with("Trunk locked ") && lines[1].contains("CredentialsRejected (403) for "),
        "{table}"
    );
    assert!(
        lines[1].ends_with("the registrar responded with 403 Account Locked; check username and password"),
        "{table}"
    );
    assert!(lines[2].contains(" invalid ") && lines[2].contains("uris[0].host"), "{table}");
    assert!(table.contains("5 trunks: 3 registered, 1 failing, 1 invalid; next expiry in "), "{table}");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (flags, shown) in [
        (&["--state", "failing"][..], &["Trunk locked"][..]),
        (&["--state", "failing,invalid"], &["Trunk locked", "Trunk broken"]),
        (&["--search", "TWIN-2"], &["Twin"]),
        (&["--registrar", "sip.example.net"], &["Twin", "Twin"]),
        (&["--registrar", "sip.example.net", "--limit", "1"], &["Twin"]),
    ] {
        let (code, table) = ended(stage.client(&[&["trunks"], flags].concat())).await;
        let lines = lines(&table);
        let rows: Vec<&str> = lines[1..]
            .iter()
            .take_while(|line| !line.is_empty())
            .map(|l| l.split("  ").next().unwrap())
            .collect();
        assert_eq!((code, &rows[..]), (Some(0), shown), "{flags:?}\n{table}");
    }
    let (_, cut) = ended(stage.client(&["trunks", "--limit", "1"])).await;
    assert!(cut.contains("Only 1 trunks are shown; narrow with --state"), "{cut}");
    let (_, none) = ended(stage.client(&["trunks", "--search", "no such trunk"])).await;
    assert!(none.starts_with("No trunk matches the filter. Of all trunks:\n5 trunks: "), "{none}");
    stage.keeps_secrets(&service).await;
}

#[tokio::test]
async fn trunks_prints_json_and_watches_by_lines() {
    let (stage, _requester, service) = stage().await;
    let (code, json) = ended(stage.client(&["trunks", "--json"])).await;
    let trunks: Vec<Value> = serde_json::from_str(&json).unwrap();
    let refs: Vec<&str> = trunks.iter().map(|trunk| trunk["reference"].as_str().unwrap()).collect();
    assert_eq!((code, &refs[..]), (Some(0), &["broken", "good", "locked", "twin-1", "twin-2"][..]));
    assert_eq!(trunks[2]["failure"]["code"], 403);

    let mut watch = stage.client(&["trunks", "--watch"]);
    let shows = async |watch: &Service, text: &str| {
        let shown = async || if watch.output().contains(text) { Ok(()) } else { Err(tail(&watch.output())) };
        wait_for(shown, SOON, text).await;
    };
    shows(&watch, "5 trunks: ").await;
    stage.api.set_trunks(vec![trunk("good", "sip.example.com", 5060), trunk("new", "sip.example.com", 5060)]);
    shows(&watch, "Trunk new: registered at sip.example.com:5060/UDP").await;
    shows(&watch, "Trunk locked: no longer listed").await;
    let lines = watch.output();
    assert_eq!(lines.matches("Trunk good: registered").count(), 1, "a line for each change:\n{lines}");
    drop(service);
    shows(&watch, "cannot reach routr-registry at ").await;
    assert!(watch.terminate(SOON).await.code() == Some(0), "ending a watch is no failure");
    assert!(!watch.output().contains('\u{1b}'), "no terminal, no escape sequences");
}

#[tokio::test]
async fn refresh_registers_one_trunk_now_by_ref_or_name() {
    let (stage, requester, _service) = stage().await;
    for (name, times) in [("good", 2), ("Trunk good", 3)] {
        let (code, said) = ended(stage.client(&["refresh", name])).await;
        assert_eq!(
            (code, said.as_str()),
            (Some(0), "good: queued: the REGISTER goes out as soon as the budgets allow\n")
        );
        let sent = async || match requester.of("good").len() {
            sent if sent == times => Ok(()),
            sent => Err(format!("{sent} REGISTERs")),
        };
        wait_for(sent, SOON, "the REGISTER").await;
        stage.rests("good").await;
    }
    assert_eq!((requester.of("twin-1").len(), requester.of("locked").len()), (1, 1), "no other trunk");
    for (name, problem) in [
        ("Twin", "2 trunks are named \"Twin\"; give the ref of one of them: "),
        ("nobody", "there is no trunk with ref \"nobody\" and sendRegister: true"),
        ("broken", "cannot be registered as configured: uris[0].host: "),
    ] {
        let (code, said) = ended(stage.client(&["refresh", name])).await;
        assert!(code == Some(1) && said.starts_with("error: ") && said.contains(problem), "{said}");
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_explained() {
    let mut stage = TestRegistry::bare().await;
    for args in [&["trunks"][..], &["trunks", "--json"], &["trunks", "--watch"], &["refresh", "a"]] {
        let (code, said) = ended(stage.client(args)).await;
        let url = format!("error: cannot reach routr-registry at http://127.0.0.1:{}: ", stage.private);
        assert!(code == Some(1) && said.starts_with(&url) && said.contains("kubectl port-forward"), "{said}");
    }
    // The public port is not the private one.
    stage.start_api().await;
    let service = stage.run(&[]);
    tells(&service, "starting", 1).await;
    stage.settles(&[]).await;
    stage.private = stage.public;
    let (code, said) = ended(stage.client(&["trunks"])).await;
    assert!(code == Some(1) && said.starts_with("error: ") && said.contains("private port"), "{said}");
}
