//! The story of `make demo-k8s` as a test: each of its steps fails when the effect that it announces is not
//! to be seen.

mod show;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// A text that grows.
#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_what_it_announces() {
    let text = Text::default();
    let done = show::run(&show::Screen::text(text.clone())).await;
    let shown = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
    println!("{shown}");
    done.unwrap();
    let mut rest = shown.as_str();
    // In this order.
    for line in [
        "$ helm install ",
        "customresourcedefinition.apiextensions.k8s.io/registries.routr.io",
        "$ routr-registry operator ",
        "$ kubectl apply -f registry.yaml\nregistry.routr.io/demo created",
        "$ kubectl get registries --watch\nNAME ",
        "AllRegistered",
        "the SIP registrars hold 6 bindings",
        "registry.routr.io/demo condition met",
        "TrunksAtRisk",
        "TrunksFailing",
        "$ kubectl describe registry demo",
        "CredentialsRejected",
        "TrunksRejected",
        "AllRegistered",
        "the SIP registrars hold 6 bindings",
        "$ kubectl delete registry demo",
        "deleted",
        "the SIP registrars hold 0 bindings",
        "Deregistered",
        "All that the demo had started is ended",
    ] {
        let at =
            rest.find(line).unwrap_or_else(|| panic!("{line:?} does not stand there, or not in its place"));
        rest = &rest[at + line.len()..];
    }
    for password in ["demo-globex-sha256-password", "demo-acme-tcp-password"] {
        assert!(!shown.contains(password), "a password is shown");
    }
}
