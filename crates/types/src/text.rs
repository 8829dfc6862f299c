//! Foreign text made harmless: phrases of registrars, names and refs of trunks, messages of gRPC, Redis and
//! Kubernetes, values of a configuration. The one sanitiser of the program; it is pure.
//!
//! # What passes, what is escaped
//!
//! | characters | shown as |
//! |---|---|
//! | white space and line ends in a row (CR, LF, TAB, U+0085, U+2028, U+2029, U+00A0, ...) | one space; none at either end |
//! | letters, digits, marks, punctuation, symbols that Unicode has assigned | themselves |
//! | control characters (C0, DEL, C1) | `\u{1b}` |
//! | bidirectional controls, zero-width and other format characters, tags (U+E0000 and on), variation selectors | `\u{202e}` |
//! | fillers that look like nothing (U+115F, U+2800, U+3164, ...) | `\u{3164}` |
//! | noncharacters (U+FFFE and U+FFFF of each plane, U+FDD0 to U+FDEF), private use, unassigned | `\u{ffff}` |
//! | a combining mark with nothing in front of it, or the fifth and further ones in a row | `\u{301}` |
//!
//! An escape is visible: who reads it knows that something was there. A backslash is not doubled, so that
//! text that passes twice is the same as text that passes once; an escape may therefore also be what the
//! other side wrote. Emoji that consist of several characters with U+200D between them are taken apart.
//!
//! # What each sink refuses
//!
//! * Kubernetes: its server-side apply reads a body as YAML, which has no C0 (but TAB, LF, CR), no DEL, no C1
//!   (but U+0085), no U+FEFF, no U+FFFE and no U+FFFF: it responds 400 for ever. A message of a condition has
//!   at most 32 KiB, a note of an event less than 1 KiB.
//! * JSON has no unpaired surrogates. `str` cannot hold any.
//! * OpenMetrics escapes backslash, quote and LF in a label's value, which the encoder does.
//! * Terminals act on C0 and C1, reorder by bidirectional controls, and draw marks over the lines above.
//! * SIP: no CR, LF or NUL in a start line or a header field.
//! * Redis takes any bytes.
//!
//! `tests` feeds all of Unicode through their real parsers; so does `tests/it/hostile/truth.rs`.

mod log_line;
mod words;

pub use self::{
    log_line::LogLine,
    words::{agree, count, duration, hex, plural},
};

/// Ends a text that was cut.
pub const CUT: &str = "... (cut)";
/// Combining marks in a row that pass.
const MAX_MARKS: usize = 4;

/// Returns whether a character is shown as it is; white space but U+0020 is not.
pub fn is_plain(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{a0}' => false,
        // Assigned letters, marks and symbols that look like nothing.
        '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2065}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{1d159}'
        | '\u{e0000}'..='\u{e0fff}' => false,
        c => is_printable(c),
    }
}

/// Returns what Rust shows in `Debug` of a text: no control, format, private, unassigned character, and no
/// white space. It has the tables of Unicode.
fn is_printable(c: char) -> bool {
    // Behind a letter, for a combining mark at the beginning is escaped.
    let mut bytes = [b'a'; 5];
    let end = 1 + c.encode_utf8(&mut bytes[1..]).len();
    std::str::from_utf8(&bytes[..end]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

/// Returns whether a printable character is drawn upon the one before.
fn is_mark(c: char) -> bool {
    c > '\u{2ff}' && c.escape_debug().next() == Some('\\')
}

/// Form in which a character of a text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Part of a run of white space.
    Space,
    Plain(char),
    Escaped(char),
}

impl Shown {
    /// Bytes in JSON as the API server of Kubernetes writes it: it escapes what HTML would take for its own.
    fn cost(self) -> usize {
        match self {
            Self::Space => 1,
            Self::Plain('<' | '>' | '&') => 6,
            Self::Plain('"' | '\\') => 2,
            Self::Plain(c) => c.len_utf8(),
            // The backslash is escaped once more.
            Self::Escaped(c) => c.escape_unicode().len() + 1,
        }
    }

    fn push(self, out: &mut String) {
        match self {
            Self::Space => out.push(' '),
            Self::Plain(c) => out.push(c),
            Self::Escaped(c) => out.extend(c.escape_unicode()),
        }
    }
}

/// Returns how each character is shown.
fn characters(text: &str) -> impl Iterator<Item = Shown> {
    // At the beginning there is nothing to draw a mark upon.
    let mut marks = MAX_MARKS;
    text.chars().map(move |c| {
        if c.is_whitespace() {
            marks = MAX_MARKS;
            return Shown::Space;
        }
        let plain = is_plain(c);
        if plain && is_mark(c) {
            marks += 1;
            return if marks > MAX_MARKS { Shown::Escaped(c) } else { Shown::Plain(c) };
        }
        marks = 0;
        if plain { Shown::Plain(c) } else { Shown::Escaped(c) }
    })
}

/// Makes a text fit for every sink (see the module): one line that takes at most `most` bytes as JSON, with
/// [`CUT`] at its end where something is missing.
pub fn clean(text: &str, most: usize) -> String {
    let mut out = String::new();
    // Up to where the mark still fits behind it.
    let mut fits = 0;
    let mut used = 0;
    let mut space = false;
    for shown in characters(text) {
        if shown == Shown::Space {
            space = !out.is_empty();
            continue;
        }
        let more = usize::from(space) + shown.cost();
        if used + more > most {
            out.truncate(fits);
            out.push_str(CUT);
            return out;
        }
        if std::mem::take(&mut space) {
            out.push(' ');
        }
        shown.push(&mut out);
        used += more;
        if used + CUT.len() <= most {
            fits = out.len();
        }
    }
    out
}

/// Cleans a text as [`clean`] does, whole: for one that is bounded already.
pub fn one_line(text: &str) -> String {
    clean(text, usize::MAX)
}

/// A value within an error, in quotes, of at most `most` characters: nothing is left out or made a space, for
/// the value is what is wrong.
pub fn quoted(text: &str, most: usize) -> String {
    format!("\"{}\"", escaped(text, most))
}

/// Escapes a text as [`quoted`] does, without the quotes around it.
pub fn escaped(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut characters = text.chars().zip(characters(text));
    for (c, shown) in characters.by_ref().take(most) {
        match (c, shown) {
            ('"' | '\\' | '\n' | '\r' | '\t', _) => out.extend(c.escape_default()),
            (' ', _) => out.push(' '),
            (c, Shown::Space) => out.extend(c.escape_unicode()),
            (_, shown) => shown.push(&mut out),
        }
    }
    if characters.next().is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests;
