use std::io::Write as _;

use super::*;

/// Each scalar value of Unicode, in texts of some thousand.
fn all() -> Vec<String> {
    let characters: Vec<char> = ('\0'..=char::MAX).collect();
    assert_eq!(characters.len(), 1_112_064);
    characters.chunks(4_096).map(String::from_iter).collect()
}

#[test]
fn what_passes_is_as_the_table_says() {
    for c in ['a', 'é', 'ß', 'ñ', 'Ж', '中', '日', 'ย', '٣', '€', '…', '«', '☎', '😀', '\u{fffd}', '\u{301}']
    {
        assert!(is_plain(c), "{c:?}");
    }
    let refused = [
        '\0',
        '\n',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{a0}',
        '\u{ad}',
        '\u{61c}',
        '\u{180e}',
        '\u{200b}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{206f}',
        '\u{feff}',
        '\u{fff9}',
        '\u{fe0f}',
        '\u{3164}',
        '\u{2800}',
        '\u{e000}',
        '\u{f8ff}',
        '\u{fdd0}',
        '\u{fdef}',
        '\u{fffe}',
        '\u{ffff}',
        '\u{1d173}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{e0100}',
        '\u{f0000}',
        '\u{10ffff}',
        '\u{378}',
    ];
    for c in refused {
        assert!(!is_plain(c), "{c:?}");
    }
    for plane in 0..=16_u32 {
        for end in [0xfffe, 0xffff] {
            assert!(!is_plain(char::from_u32((plane << 16) + end).unwrap()), "plane {plane}");
        }
    }
    let plain = ('\0'..=char::MAX).filter(|c| is_plain(*c)).count();
    assert!((140_000..200_000).contains(&plain), "{plain} characters pass");
}

#[test]
fn what_does_not_pass_is_visible() {
    assert_eq!(clean("403 Forbidden\u{ffff}", 400), "403 Forbidden\\u{ffff}");
    assert_eq!(clean(" a\r\n\u{2028}b\u{85}\tc  ", 400), "a b c");
    assert_eq!(clean("\u{202e}moc.elpmaxe", 400), "\\u{202e}moc.elpmaxe");
    assert_eq!(clean("\u{1b}[2Jgone", 400), "\\u{1b}[2Jgone");
    assert_eq!(
        clean("\u{301}e\u{301}\u{301}\u{301}\u{301}\u{301}", 400),
        "\\u{301}e\u{301}\u{301}\u{301}\u{301}\\u{301}"
    );
    assert_eq!(clean("é日本 \"q\" \\", 400), "é日本 \"q\" \\");
    assert_eq!(clean(&"\u{ffff}".repeat(9), 40), "\\u{ffff}\\u{ffff}\\u{ffff}... (cut)");
    assert_eq!(clean(&"x".repeat(9), 9), "x".repeat(9));
    assert_eq!(quoted("a\r\nb \"\u{202e}\u{a0}", 60), r#""a\r\nb \"\u{202e}\u{a0}""#);
    assert_eq!(quoted("abcdef", 3), "\"abc...\"");
}

#[test]
fn twice_is_once_and_the_bound_holds() {
    for text in all() {
        let once = one_line(&text);
        assert_eq!(one_line(&once), once);
        assert!(once.chars().all(is_plain));
        for most in [20, 400, 4_000] {
            let cut = clean(&text, most);
            assert!(cut.len() <= most && (cut == once || cut.ends_with(CUT)), "{cut:?}");
        }
    }
}

#[test]
fn json_of_all_of_unicode_is_read_back() {
    for text in all() {
        let clean = one_line(&text);
        for text in [text, clean] {
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
    // What `str` cannot hold, JSON can spell.
    for spelled in [r#""\ud800""#, r#""\udfff""#, r#""\ud800\u0041""#] {
        serde_json::from_str::<String>(spelled).expect_err("an unpaired surrogate");
    }
}

/// Model of what a terminal does with a text.
#[derive(Default)]
struct Terminal {
    printed: String,
    acts: Vec<String>,
}

impl vte::Perform for Terminal {
    fn print(&mut self, c: char) {
        self.printed.push(c);
    }
    fn execute(&mut self, byte: u8) {
        self.acts.push(format!("{byte:#x}"));
    }
    fn csi_dispatch(&mut self, _: &vte::Params, _: &[u8], _: bool, action: char) {
        self.acts.push(format!("CSI {action}"));
    }
    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        self.acts.push(format!("ESC {byte:#x}"));
    }
    fn osc_dispatch(&mut self, _: &[&[u8]], _: bool) {
        self.acts.push("OSC".to_owned());
    }
}

fn shown_on_a_terminal(text: &str) -> Terminal {
    let (mut parser, mut terminal) = (vte::Parser::new(), Terminal::default());
    parser.advance(&mut terminal, text.as_bytes());
    terminal
}

#[test]
fn a_terminal_only_prints_all_of_unicode() {
    assert!(!shown_on_a_terminal("\u{1b}[2J\u{9b}1m").acts.is_empty(), "the parser acts");
    for text in all() {
        let clean = one_line(&text);
        let terminal = shown_on_a_terminal(&clean);
        assert_eq!((terminal.printed, terminal.acts), (clean, Vec::new()));
    }
}

/// A line as it leaves the program.
fn logged(json: bool, line: &str) -> String {
    let mut sink = Vec::new();
    LogLine::new(&mut sink, json, false).write_all(line.as_bytes()).unwrap();
    String::from_utf8(sink).unwrap()
}

#[test]
fn a_log_line_of_all_of_unicode_is_one_line_of_plain_text() {
    let shown = |c: char| is_plain(c) || (c.is_whitespace() && !c.is_control());
    for text in all() {
        let json = serde_json::json!({ "message": text, "level": "INFO" }).to_string() + "\n";
        let line = logged(true, &json);
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON still");
        let message = read["message"].as_str().unwrap();
        assert!(message.chars().all(|c| shown(c) || matches!(c, '\n' | '\t')), "{message:?}");
        assert_eq!(line.matches('\n').count(), 1);
        let line = logged(false, &format!("{text}\n"));
        assert!(
            line.strip_suffix('\n').unwrap().chars().all(|c| shown(c) || matches!(c, '\n' | '\t')),
            "{line:?}"
        );
    }
    assert_eq!(
        logged(true, "{\"a\":\"\\u001b[m \\\\u001b \\\" \\n\"}\n"),
        "{\"a\":\"\\\\u{1b}[m \\\\u001b \\\" \\n\"}\n"
    );
    assert_eq!(logged(false, "one\ntwo\n"), "one\n    two\n");
    assert_eq!(logged(true, "{}\n"), "{}\n");
}

/// Reads a text in the format of OpenMetrics as its grammar has it, as far as labels go; returns their
/// values.
fn label_values(text: &str) -> Vec<String> {
    let mut values = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (_, labels) = line.split_once('{').expect("labels");
        let mut rest = labels.chars();
        loop {
            let name: String = rest.by_ref().take_while(|c| *c != '=').collect();
            assert!(
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
                "{name:?} in {line}"
            );
            assert_eq!(rest.next(), Some('"'));
            let mut value = String::new();
            loop {
                match rest.next().expect("the end of a value") {
                    '"' => break,
                    '\\' => match rest.next() {
                        Some('n') => value.push('\n'),
                        Some(c @ ('"' | '\\')) => value.push(c),
                        other => panic!("an escape of {other:?}"),
                    },
                    c => value.push(c),
                }
            }
            values.push(value);
            match rest.next() {
                Some(',') => {}
                Some('}') => break,
                other => panic!("{other:?} behind a value in {line}"),
            }
        }
        let value: String = rest.collect();
        value.trim().parse::<f64>().unwrap_or_else(|_| panic!("{value:?} is no number"));
    }
    values
}

#[test]
fn labels_of_all_of_unicode_are_read_back() {
    use prometheus_client::{
        encoding::text::encode,
        metrics::{counter::Counter, family::Family},
        registry::Registry,
    };
    for text in all() {
        for text in [one_line(&text), text] {
            let family = Family::<Vec<(&'static str, String)>, Counter>::default();
            family.get_or_create(&vec![("registrar", text.clone())]).inc();
            let mut registry = Registry::default();
            registry.register("c", "help", family);
            let mut out = String::new();
            encode(&mut out, &registry).unwrap();
            // `lines` takes a CR before an LF for a part of the line's end.
            assert_eq!(label_values(&out.replace('\r', "\u{2400}")), [text.replace('\r', "\u{2400}")]);
        }
    }
}
