//! The last door before a log: whatever a line is made of, what leaves the program shows its control
//! characters.

use std::{fmt::Write as _, io};

use super::is_plain;

/// Writes log lines, each of them in one call, with what is not plain text escaped.
///
/// The content of fields was sanitised where it came in; this is for everything else, lines of libraries
/// included.
#[derive(Clone, Copy, Debug)]
pub struct LogLine<W> {
    inner: W,
    json: bool,
    /// True to colour lines of text. That is done here: a formatter that does it leaves ESC in the `Display`
    /// of its fields.
    colour: bool,
}

impl<W> LogLine<W> {
    /// Writes lines to `inner`; `json`: they are JSON objects.
    pub fn new(inner: W, json: bool, colour: bool) -> Self {
        Self { inner, json, colour }
    }

    /// The line with what is not plain escaped; `None` where all of it is.
    fn safe(&self, line: &[u8]) -> Option<String> {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        let colour = self.colour && !self.json;
        if !colour && body.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'\\') {
            return None;
        }
        // A formatter writes whole lines of UTF-8.
        let text = String::from_utf8_lossy(body);
        let mut out = if self.json { json(&text) } else { plain(&text) };
        if colour {
            out = coloured(&out);
        }
        if body.len() < line.len() {
            out.push('\n');
        }
        Some(out)
    }
}

impl<W: io::Write> io::Write for LogLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.safe(bytes) {
            Some(line) => self.inner.write_all(line.as_bytes())?,
            None => self.inner.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn is_shown(c: char) -> bool {
    is_plain(c) || (c.is_whitespace() && !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}'))
}

/// A line of text. What follows a line end is indented: no line begins as one of the log that is none.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\n    "),
            '\t' => out.push('\t'),
            c if is_shown(c) => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// A line whose time is dim and whose level has its colour.
fn coloured(line: &str) -> String {
    const LEVELS: [(&str, u8); 5] = [("ERROR", 31), ("WARN", 33), ("INFO", 32), ("DEBUG", 34), ("TRACE", 35)];
    let Some((time, rest)) = line.split_once(' ') else { return line.to_owned() };
    let level = rest.trim_start();
    let space = &rest[..rest.len() - level.len()];
    let Some((name, colour)) = LEVELS.iter().find(|(name, _)| level.starts_with(name)) else {
        return line.to_owned();
    };
    format!("\u{1b}[2m{time}\u{1b}[0m {space}\u{1b}[{colour}m{name}\u{1b}[0m{}", &level[name.len()..])
}

/// An object of JSON: characters that are not plain stand in strings alone. They are escaped as text,
/// `\\u{202e}`, so that who decodes the line gets the escape and not the character; those that JSON has
/// escaped itself, too.
fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut rest, &mut out),
            c if is_shown(c) => out.push(c),
            c => visible(c, &mut out),
        }
    }
    out
}

/// Appends the character that stands behind a backslash.
fn escape(rest: &mut std::str::Chars<'_>, out: &mut String) {
    match rest.next() {
        Some('u') => {
            let code: String = rest.as_str().chars().take(4).collect();
            match u32::from_str_radix(&code, 16).ok().and_then(char::from_u32) {
                Some(c) if !is_shown(c) => {
                    visible(c, out);
                    rest.by_ref().take(4).for_each(drop);
                }
                _ => out.push_str("\\u"),
            }
        }
        Some('b') => visible('\u{8}', out),
        Some('f') => visible('\u{c}', out),
        Some('r') => visible('\r', out),
        Some(other) => {
            out.push('\\');
            out.push(other);
        }
        None => out.push('\\'),
    }
}

fn visible(c: char, out: &mut String) {
    // A String takes everything.
    let _ = write!(out, "\\{}", c.escape_unicode());
}
