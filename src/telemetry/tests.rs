use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns what is written when `act` logs through a subscriber made as asked.
fn written(json: bool, filter: EnvFilter, act: impl FnOnce()) -> String {
    let lines = Lines::default();
    let sink = lines.clone();
    tracing::subscriber::with_default(subscriber(json, false, filter, move || sink.clone()), act);
    String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
}

fn speak() {
    tracing::trace!("own trace");
    tracing::debug!("own debug");
    tracing::info!("own info");
    tracing::warn!("own warn");
    tracing::error!("own error");
    tracing::debug!(target: "h2::client", "library debug");
    tracing::info!(target: "hyper_util::client", "library info");
    tracing::info!(target: "hickory_resolver::name_server", "library info");
    tracing::warn!(target: "tonic::transport", "library warn");
    tracing::error!(target: "rustls::conn", "library error");
    tracing::error!(target: "kube_client::client::builder", "failed with error client error (Connect)");
    tracing::warn!(target: "kube_runtime::watcher", "watch list error with 403: Status");
}

fn messages(rust_log: Option<&str>, logs_level: Option<&str>) -> Vec<String> {
    written(true, filter(rust_log, logs_level).unwrap(), speak)
        .lines()
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["message"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn default_is_info_with_quiet_libraries() {
    let expected = ["own info", "own warn", "own error", "library warn", "library error"];
    assert_eq!(messages(None, None), expected);
    assert_eq!(messages(None, Some("info")), expected);
}

#[test]
fn every_level_of_routr_is_known_in_any_case() {
    let all =
        ["own trace", "own debug", "own info", "own warn", "own error", "library warn", "library error"];
    assert_eq!(messages(None, Some("silly")), all);
    assert_eq!(messages(None, Some("verbose")), all[1..]);
    assert_eq!(messages(None, Some("DEBUG")), all[1..]);
    assert_eq!(messages(None, Some(" warn ")), all[3..]);
    assert_eq!(messages(None, Some("error")), ["own error", "library error"]);
}

/// Field case W5: 59 of 62 lines in 30 s of an unreachable API server said `error client error (Connect)`.
#[test]
fn w5_a_library_that_repeats_each_failed_request_without_its_cause_is_silent() {
    for level in ["error", "info", "silly"] {
        let shown = messages(None, Some(level));
        assert!(!shown.iter().any(|line| line.contains("Connect") || line.contains("403")), "{shown:?}");
    }
    let asked_for = messages(Some("kube_client=error"), None);
    assert_eq!(asked_for, ["failed with error client error (Connect)"]);
    let tls = written(true, filter(None, None).unwrap(), || {
        tracing::warn!(target: "kube_client::client::tls", "failed to reload CA bundle; keeping stale roots");
    });
    assert!(tls.contains("stale roots"), "nothing else says it");
}

#[test]
fn the_innermost_cause_is_what_an_operating_system_said() {
    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Outer(#[source] io::Error);
    let refused = io::Error::from_raw_os_error(111);
    let error = Outer(refused);
    assert!(innermost(&error).contains("refused"), "{}", innermost(&error));
    assert_eq!(error_chain(&error), format!("client error (Connect): {}", innermost(&error)));
}

#[test]
fn rust_log_wins_and_is_taken_as_it_stands() {
    assert_eq!(messages(Some("off,h2=debug"), Some("silly")), ["library debug"]);
    assert_eq!(messages(Some("error,kube_client=off"), Some("nonsense")), ["own error", "library error"]);
}

#[test]
fn wrong_values_are_named_with_the_right_ones() {
    let level = filter(None, Some("loud")).unwrap_err();
    assert_eq!(
        level.to_string(),
        "LOGS_LEVEL: \"loud\" is not a level; use silly, verbose, debug, info, warn or error"
    );
    let rust_log = filter(Some("info,h2=loud"), None).unwrap_err().to_string();
    assert!(rust_log.starts_with("RUST_LOG: \"info,h2=loud\" is not a filter ("), "{rust_log}");
    assert!(rust_log.ends_with("; use for example info, or info,routr_registry=debug"), "{rust_log}");
}

#[test]
fn json_carries_the_fields_at_the_top() {
    let line = written(true, filter(None, None).unwrap(), || {
        tracing::info!(trunk = "trunk-01", code = 403, "trunk failing");
    });
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["level"], "INFO");
    assert_eq!(event["message"], "trunk failing");
    assert_eq!(event["trunk"], "trunk-01");
    assert_eq!(event["code"], 403);
    assert!(event["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')), "{line}");
}

#[test]
fn text_is_one_line_even_when_a_registrar_sends_escapes() {
    let line = written(false, filter(None, None).unwrap(), || {
        tracing::info!(phrase = "\u{1b}[2Jgone\r\nforged line", "trunk failing");
    });
    assert!(line.contains("trunk failing"), "{line}");
    assert!(!line.contains('\u{1b}'), "{line:?}");
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
}

/// U+202E and its kind, and all else that is no plain text, in messages, fields, `Display` and `Debug`.
#[test]
fn what_is_invisible_is_escaped_in_text_and_in_json_with_and_without_colour() {
    let hostile = "a\u{202e}b\u{2066}c\u{200f}d\u{200b}e\u{2028}f\u{ffff}g\u{e0041}h\u{1b}[31mi\u{9b}j\u{feff}k\u{7f}l\rm";
    for (json, colour) in [(true, false), (false, false), (false, true)] {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = subscriber(json, colour, filter(None, None).unwrap(), move || sink.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(field = hostile, shown = %hostile, debug = ?hostile, "{hostile}");
            tracing::warn!(hostile, error = &io::Error::other(hostile) as &dyn std::error::Error, "fixed");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 2, "{text:?}");
        let hidden = |c: char| !routr_types::text::is_plain(c) && c != '\n' && !(colour && c == '\u{1b}');
        assert!(!text.contains(hidden), "{text:?}");
        // Those of each line's time and level.
        assert_eq!(text.matches('\u{1b}').count(), if colour { 8 } else { 0 }, "{text:?}");
        assert!(!text.contains("\u{1b}[31mi"), "{text:?}");
        if json {
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let decoded = format!(
                    "{}{}",
                    line["message"].as_str().unwrap(),
                    line["field"].as_str().unwrap_or_default()
                );
                assert!(decoded.chars().all(routr_types::text::is_plain), "{decoded:?}");
            }
            assert!(text.contains("a\\\\u{202e}b"), "{text}");
        }
    }
}

#[test]
fn auto_is_json_unless_somebody_watches() {
    assert!(!is_json(LogFormat::Auto, true));
    assert!(is_json(LogFormat::Auto, false));
    assert!(is_json(LogFormat::Json, true));
    assert!(!is_json(LogFormat::Text, false));
}

#[test]
fn a_registry_has_its_share_of_lines_wherever_they_are_written() {
    let act = || {
        let span = tracing::info_span!(parent: None, "engine", registry = %"share/loud");
        for n in 0..60 {
            span.in_scope(|| tracing::info!(n, "by its engine"));
            tracing::warn!(registry = %"share/loud", "by its reconcile");
            tracing::warn!(namespace = "share", registry = "loud", "by the controller");
        }
        span.in_scope(|| {
            tracing::info_span!("deeper").in_scope(|| tracing::error!("beyond its share"));
            tracing::info!(target: share::SUM, "many in one");
            tracing::debug!("for who wants them all");
        });
        tracing::info!(registry = "share/quiet", "of another one");
        (0..200).for_each(|_| tracing::info!("of nobody"));
    };
    for json in [true, false] {
        let text = written(json, EnvFilter::new("debug"), act);
        let lines = |said: &str| text.lines().filter(|line| line.contains(said)).count();
        let counted = ["by its engine", "by its reconcile", "by the controller"].map(lines);
        // The window of the first turn goes on in the second.
        let share = if json { [34, 33, 33] } else { [0, 0, 0] };
        assert_eq!(counted, share);
        let others =
            ["beyond its share", "many in one", "for who wants", "of another one", "of nobody"].map(lines);
        assert_eq!(others, [0, 1, 1, 1, 200]);
    }
    let left_out = share::left_out();
    let (_, lines) = left_out.iter().find(|(registry, _)| registry == "share/loud").unwrap();
    assert_eq!(*lines, 2 * 181 - 100);
    assert!(left_out.iter().all(|(registry, _)| registry != "share/quiet"), "{left_out:?}");
}
