//! The demo as a newcomer runs it.

use routr_registry::devstack::samples::SAMPLES;

use super::SOON;
use crate::support::process::{Process, command, tail};
use crate::support::service::Service;
use crate::support::wait::{wait_for, wait_until};

const PASSWORDS: [&str; 3] = ["demo-acme-udp-password", "demo-right-password", "demo-old-password"];

#[tokio::test]
async fn once_ends_by_itself_and_says_how_each_trunk_stands() {
    let mut demo = Service::start(["demo", "--once"], &[]);
    let status = demo.exit(SOON).await;
    let output = demo.output();
    // Not 1: that is what it ends with where a trunk has not settled in its own time.
    assert_eq!(status.code(), Some(0), "{output}");
    for part in ["\nTRUNK ", " REGISTRAR ", " STATE ", " EXPIRES IN ", " NEXT TRY ", " REASON\n"] {
        assert!(output.contains(part), "{part:?} is not in:\n{output}");
    }
    let table = output.split_once("\nTRUNK ").unwrap().1;
    for sample in SAMPLES {
        let name = sample.name;
        let row =
            table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}:\n{table}"));
        let state = [" registered ", " failing ", " invalid "].into_iter().find(|state| row.contains(state));
        assert_eq!(state == Some(" registered "), sample.healthy, "{row}");
    }
    for reason in [
        "CredentialsRejected (401)",
        "UnknownAccount (404)",
        "RetryAfter (503)",
        "no response from registrar 127.0.0.",
        "uris[0].host",
    ] {
        assert!(table.contains(reason), "{reason} is not in:\n{table}");
    }
    assert!(
        output.ends_with("6 working trunks are registered, 5 faulty ones report why they are not.\n"),
        "{output}"
    );
    PASSWORDS.iter().for_each(|password| demo.assert_never_said(password));
}

#[tokio::test]
async fn without_a_terminal_it_prints_lines_until_it_is_told_to_end() {
    let mut demo = Service::start(["demo"], &[]);
    let settled = async || {
        let output = demo.output();
        let known = SAMPLES.iter().filter(|sample| {
            let name = sample.name;
            let state = if sample.healthy { "registered" } else { "failing" };
            [state, "invalid"].iter().any(|state| output.contains(&format!("{name}: {state}")))
        });
        if known.count() == SAMPLES.len() { Ok(output) } else { Err(tail(&output)) }
    };
    let output = wait_for(settled, SOON, "a line for each trunk").await;
    assert!(!output.contains('\u{1b}'), "no terminal, no escape sequences:\n{output}");
    // The folder that is to be edited is there, and an edit is followed.
    let folder = output.split("are read from ").nth(1).unwrap().split(": edit").next().unwrap().to_owned();
    let credentials = std::path::Path::new(&folder).join("credentials.yaml");
    let text = std::fs::read_to_string(&credentials).unwrap();
    std::fs::write(&credentials, text.replace("demo-old-password", "demo-right-password")).unwrap();
    let repaired = async || demo.output().contains("Wrong password: registered at ");
    wait_until(repaired, SOON, "the repaired password to be taken").await;
    assert_eq!(demo.terminate(SOON).await.code(), Some(0));
    assert!(!std::path::Path::new(&folder).exists(), "what is temporary is cleared away");
    PASSWORDS.iter().for_each(|password| demo.assert_never_said(password));
}

#[tokio::test]
async fn an_interrupted_once_is_no_success() {
    let mut demo = Service::start(["demo", "--once"], &[]);
    wait_until(async || demo.output().contains("Silent registrar: pending"), SOON, "the demo to run").await;
    assert_eq!(demo.terminate(SOON).await.code(), Some(1));
    assert!(
        demo.output().ends_with("error: interrupted before all trunks had settled\n"),
        "{}",
        demo.output()
    );
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut command = command("bash");
    let program = env!("CARGO_BIN_EXE_routr-registry");
    command.args(["-c", &format!("set -o pipefail; {program} demo | head -n 1")]);
    let mut piped = Process::spawn("bash", command, &dir.path().join("output.log"));
    assert_eq!(piped.exit(SOON).await.code(), Some(0), "{}", piped.output());
    assert!(piped.output().starts_with("Running on loopback"), "{}", piped.output());
    assert_eq!(piped.output().lines().count(), 1, "{}", piped.output());
}

/// Shows the program's output as a terminal of that size does, through a pseudo-terminal. Its process id goes
/// into the file `pid`.
fn on_a_terminal(columns: u16, rows: u16, dir: &tempfile::TempDir) -> Process {
    let mut command = command("script");
    let program = env!("CARGO_BIN_EXE_routr-registry");
    let pid = dir.path().join("pid");
    let line = format!("stty cols {columns} rows {rows}; echo $$ >{}; exec {program} demo", pid.display());
    command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]).env("TERM", "xterm");
    command.env("SHELL", "/bin/sh").env_remove("NO_COLOR");
    Process::spawn("script", command, &dir.path().join("output.log"))
}

/// The last whole picture, without escape sequences.
fn picture(output: &str) -> Vec<String> {
    let pictures: Vec<&str> = output.split("\u{1b}[H").collect();
    // The one that is being drawn may not be whole.
    let last = pictures.len().checked_sub(2).filter(|n| *n > 0).map_or("", |n| pictures[n]);
    let mut plain = String::new();
    let mut rest = last.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => drop(rest.by_ref().find(char::is_ascii_alphabetic)),
            '\r' => {}
            c => plain.push(c),
        }
    }
    plain.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn on_a_terminal_it_draws_a_table_that_fits() {
    tokio::join!(draws(80, 24), draws(140, 40));
}

async fn draws(columns: u16, rows: u16) {
    let dir = tempfile::TempDir::new().unwrap();
    let mut demo = on_a_terminal(columns, rows, &dir);
    let settled = async || {
        let shown = picture(&demo.output());
        let total = "11 trunks: 6 registered, 4 failing, 1 invalid";
        if shown.iter().any(|line| line.starts_with(total)) { Ok(shown) } else { Err(shown.join("\n")) }
    };
    let shown = wait_for(settled, SOON, "the demo to have settled on the screen").await;
    let text = shown.join("\n");
    assert!(shown.len() <= usize::from(rows), "{text}");
    assert!(shown.iter().all(|line| line.chars().count() <= usize::from(columns)), "{text}");
    // The sick ones come first. Where the lines below the table are long, and the screen is small, it says
    // that there is more.
    let more = rows < 30 && shown.iter().any(|line| line == "…");
    for sample in SAMPLES {
        let name = sample.name;
        let there = shown.iter().any(|line| line.starts_with(name));
        assert!(there || sample.healthy && more, "{name} is not in:\n{text}");
    }
    assert_eq!(shown.last().map(String::as_str), Some("Ctrl-C ends."));
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(demo.exit(SOON).await.code(), Some(0));
    assert!(demo.output().contains("\u{1b}[?25h\u{1b}[?1049l"), "the screen is given back");
}
