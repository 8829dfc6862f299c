//! The terminal: what it is like, and its alternate screen, drawn over and over.

use std::io::{self, IsTerminal, Write};

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Properties of standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Width and height in characters, where it is a terminal.
    pub size: Option<(u16, u16)>,
    /// True where colours are welcome: on a terminal that is not `dumb`, and without `NO_COLOR`.
    pub colour: bool,
}

impl Terminal {
    /// Looks at standard output; a terminal may change its size at any time.
    pub fn detect() -> Self {
        if !io::stdout().is_terminal() {
            return Self::default();
        }
        let size = terminal_size::terminal_size_of(io::stdout()).map_or((80, 24), |(w, h)| (w.0, h.0));
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { size: Some(size), colour }
    }

    /// The width in columns.
    pub fn width(self) -> Option<u16> {
        self.size.map(|(width, _)| width)
    }
}

/// The alternate screen with a hidden cursor; dropping it brings back what was there before.
#[derive(Debug)]
pub struct Screen<W: Write> {
    out: W,
}

impl<W: Write> Screen<W> {
    /// Takes the screen over.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn enter(mut out: W) -> io::Result<Self> {
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        Ok(Self { out })
    }

    /// Draws `body`, cut to what `height` lines leave, and `footer` under it after an empty line. The first
    /// line of the body, its heading, stays.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn draw(&mut self, body: &[String], footer: &[String], height: u16) -> io::Result<()> {
        // One write for all, from the top, so that the picture does not flicker. A line is cleared before its
        // text: after a text as wide as the terminal, clearing would take its last character.
        let mut picture = String::from("\x1b[H");
        let lines = fit(body, footer, usize::from(height));
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                picture.push('\n');
            }
            picture.push_str(if index + 1 < lines.len() { "\x1b[K" } else { "\x1b[J" });
            picture.push_str(line);
        }
        self.out.write_all(picture.as_bytes())?;
        self.out.flush()
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = self.out.write_all(LEAVE.as_bytes());
        let _ = self.out.flush();
    }
}

fn fit<'a>(body: &'a [String], footer: &'a [String], height: usize) -> Vec<&'a str> {
    let footer_room = footer.len().min(height);
    // The last line of the body replaces the blank line.
    let tight = body.len() + footer_room == height;
    let gap = usize::from(!body.is_empty() && !footer.is_empty() && !tight);
    let room = height.saturating_sub(footer_room + gap);
    let mut lines: Vec<&str> = body.iter().take(room).map(String::as_str).collect();
    if body.len() > room
        && let Some(last) = lines.last_mut()
    {
        *last = "…";
    }
    if !lines.is_empty() && gap == 1 {
        lines.push("");
    }
    lines.extend(footer.iter().take(footer_room).map(String::as_str));
    if footer.len() > footer_room
        && let Some(last) = lines.last_mut()
    {
        *last = "…";
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_footer_stays_when_the_body_is_too_long() {
        let body = lines(&["HEAD", "a", "b", "c"]);
        let footer = lines(&["total"]);
        assert_eq!(fit(&body, &footer, 6), ["HEAD", "a", "b", "c", "", "total"]);
        assert_eq!(fit(&body, &footer, 5), ["HEAD", "a", "b", "c", "total"]);
        assert_eq!(fit(&body, &footer, 4), ["HEAD", "…", "", "total"]);
        assert_eq!(fit(&body, &footer, 1), ["total"]);
        assert_eq!(fit(&body, &lines(&["total", "a", "b"]), 2), ["total", "…"], "what is cut is marked");
        assert_eq!(fit(&[], &footer, 5), ["total"]);
    }

    #[test]
    fn a_drop_brings_the_old_screen_back() {
        let mut out = Vec::new();
        let mut screen = Screen::enter(&mut out).unwrap();
        screen.draw(&lines(&["HEAD", "a"]), &lines(&["total"]), 24).unwrap();
        drop(screen);
        let written = String::from_utf8(out).unwrap();
        assert_eq!(written, format!("{ENTER}\x1b[H\x1b[KHEAD\n\x1b[Ka\n\x1b[K\n\x1b[Jtotal{LEAVE}"));
    }
}
