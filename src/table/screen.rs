//! A terminal's alternate screen, drawn over and over.

use std::io::{self, Write};

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

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

    /// Draws `body`, cut to what `height` lines leave, and `footer` under it after an empty line. The first line of the
    /// body, its heading, stays.
    ///
    /// # Errors
    /// When the terminal cannot be written to.
    pub fn draw(&mut self, body: &[String], footer: &[String], height: u16) -> io::Result<()> {
        // One write for all, from the top, each line cleared to its end: the picture never flickers.
        let mut picture = String::from("\x1b[H");
        let lines = fit(body, footer, usize::from(height));
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                picture.push_str("\r\n");
            }
            picture.push_str(line);
            picture.push_str("\x1b[K");
        }
        picture.push_str("\x1b[J");
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
    let gap = usize::from(!body.is_empty() && !footer.is_empty());
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
        assert_eq!(fit(&body, &footer, 5), ["HEAD", "a", "…", "", "total"]);
        assert_eq!(fit(&body, &footer, 1), ["total"]);
        assert_eq!(fit(&[], &footer, 5), ["total"]);
    }

    #[test]
    fn a_drop_brings_the_old_screen_back() {
        let mut out = Vec::new();
        let mut screen = Screen::enter(&mut out).unwrap();
        screen.draw(&lines(&["HEAD", "a"]), &lines(&["total"]), 24).unwrap();
        drop(screen);
        let written = String::from_utf8(out).unwrap();
        assert_eq!(
            written,
            format!("{ENTER}\x1b[HHEAD\x1b[K\r\na\x1b[K\r\n\x1b[K\r\ntotal\x1b[K\x1b[J{LEAVE}")
        );
    }
}
