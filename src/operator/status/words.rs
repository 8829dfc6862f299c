//! What others wrote (names, phrases, errors) made fit for a status: bounded, on one line, nothing that moves a cursor.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Ends what was cut.
const CUT: &str = "... (cut)";

/// Takes out what is no printable text, makes one space of all white space in a row, and cuts what takes more than `most`
/// bytes as JSON, at a character's boundary.
pub fn clean(text: &str, most: usize) -> String {
    let mut out = String::new();
    // Up to where the mark still fits behind it.
    let mut fits = 0;
    let mut used = 0;
    let mut space = false;
    for c in text.chars() {
        if c.is_whitespace() {
            space = !out.is_empty();
            continue;
        }
        if is_invisible(c) {
            continue;
        }
        let more = usize::from(space) + cost(c);
        if used + more > most {
            out.truncate(fits);
            out.push_str(CUT);
            return out;
        }
        if std::mem::take(&mut space) {
            out.push(' ');
        }
        out.push(c);
        used += more;
        if used + CUT.len() <= most {
            fits = out.len();
        }
    }
    out
}

/// Control characters, and those that change how their neighbours are shown.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Bytes in JSON as the API server writes it: it escapes what HTML would take for its own.
fn cost(c: char) -> usize {
    match c {
        '<' | '>' | '&' => 6,
        '"' | '\\' => 2,
        _ => c.len_utf8(),
    }
}

/// `1 trunk`, `2 trunks`.
pub(super) fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// `is` or `are`.
pub(super) fn are(n: u64) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

/// A number for a field that Kubernetes wants signed.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A time of Kubernetes: whole seconds, rounded down, so that it is the same when it is read again.
pub(super) fn time(ms: u64) -> Time {
    Time(Timestamp::from_second(signed(ms / 1_000)).unwrap_or(Timestamp::MAX))
}

/// As [`time`]; `None` where it is not known.
pub fn known_time(ms: u64) -> Option<Time> {
    (ms > 0).then(|| time(ms))
}

/// A time for people.
pub(super) fn at(ms: u64) -> String {
    time(ms).0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
