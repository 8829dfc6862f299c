//! README's example of one container, as a newcomer runs it.

use std::fs;

use tempfile::TempDir;

use super::serve_alice;
use crate::field::harness::PASSWORD;
use crate::support::kamailio::{Kamailio, Options, User};
use crate::support::process::tail;
use crate::support::service::Service;
use crate::support::wait::{PATIENCE, wait_for, wait_until};
use crate::support::{http, ports};
use routr_registry::devstack::samples::SAMPLES;

const TEXT: &str = include_str!("../../../README.md");

/// The section about one container.
fn section() -> &'static str {
    let section = TEXT.split("\n### ").find(|section| section.starts_with("One container")).unwrap();
    section.split("\n## ").next().unwrap()
}

/// The code of this language in the section.
fn blocks(language: &str) -> Vec<&'static str> {
    let parts = section().split(&format!("```{language}\n")).skip(1).collect::<Vec<_>>();
    parts.into_iter().map(|part| part.split("```").next().unwrap()).collect()
}

/// Starts the program with these arguments, for a file and ports of its own.
fn start(args: &[&str], file: &str, private: u16) -> (Service, u16) {
    let public = ports::free();
    let listen = [format!("127.0.0.1:{public}"), format!("127.0.0.1:{private}")];
    let own = ["--listen", &listen[0], "--admin-listen", &listen[1]];
    (Service::start(args.iter().copied().chain(own), &[("CONFIG_PATH", file)]), public)
}

#[tokio::test]
async fn the_file_and_the_arguments_of_one_container_register_a_trunk_at_a_kamailio() {
    let kamailio = Kamailio::start(Options::with_users([User::new("alice", PASSWORD)])).await;
    let [api_port, requester, private] = [(); 3].map(|()| ports::free());
    let _api = serve_alice(&kamailio, api_port).await;

    // The file as it stands there, with ports that are free here.
    let text = blocks("yaml")[0];
    for address in ["apiserver:51907", "localhost:51909"] {
        assert_eq!(text.matches(address).count(), 1, "{address} in:\n{text}");
    }
    let text = text
        .replace("apiserver:51907", &format!("localhost:{api_port}"))
        .replace("localhost:51909", &format!("localhost:{requester}"));
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("registry.yaml");
    fs::write(&file, text).unwrap();
    let line = blocks("sh")[0].lines().find(|line| line.starts_with("docker run ")).unwrap();
    let args: Vec<_> = line.split(' ').skip_while(|word| !word.starts_with("REGISTRY/")).skip(1).collect();
    let (registry, public) = start(&args, file.to_str().unwrap(), private);

    let bound = async || {
        let contacts: Vec<_> = kamailio.bindings().await.into_iter().map(|binding| binding.contact).collect();
        let expected = ["sip:alice@sip.example.com:5060;transport=udp"];
        if contacts == expected { Ok(()) } else { Err(format!("{contacts:?}; {}", tail(&registry.output()))) }
    };
    wait_for(bound, PATIENCE, "the binding").await;
    let ready = async || match http::get(&format!("http://127.0.0.1:{public}/readyz")).await {
        Ok((status, _)) if status.is_success() => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(ready, PATIENCE, "/readyz").await;
    registry.assert_never_said(PASSWORD);
}

#[tokio::test]
async fn the_demo_without_its_registry_serves_one_that_carries_the_requester() {
    let dir = TempDir::new().unwrap();
    let demo =
        Service::start(["demo", "--without-registry", "--resources", dir.path().to_str().unwrap()], &[]);
    let file = dir.path().join("registry.yaml");
    let command = format!(" run --requester --config {}", file.display());
    wait_until(async || demo.output().contains(&command), PATIENCE, "the command to run").await;

    let [requester, private] = [(); 2].map(|()| ports::free());
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches("localhost:51909").count(), 1, "{text}");
    fs::write(&file, text.replace("localhost:51909", &format!("localhost:{requester}"))).unwrap();
    let (registry, _) = start(&["run", "--requester"], file.to_str().unwrap(), private);
    let healthy = SAMPLES.iter().filter(|sample| sample.healthy).count();
    let url = format!("http://127.0.0.1:{private}/summary");
    let settled = async || {
        let (_, body) = http::get(&url).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let summary: serde_json::Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        if summary["counts"]["registered"] == healthy {
            Ok(())
        } else {
            Err(text + &tail(&registry.output()))
        }
    };
    wait_for(settled, PATIENCE, "the good samples to be registered").await;
}
