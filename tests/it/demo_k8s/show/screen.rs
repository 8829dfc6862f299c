//! Output of the demo: a terminal, at a pace that a person can follow, or a text for a test.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use routr_registry::table::{Terminal, wrapped};

use super::Done;

/// Lines longer than this are hard to read, however wide the terminal is.
const WIDEST: u16 = 100;
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Screen of the demo.
pub struct Screen {
    sink: Mutex<Box<dyn Write + Send>>,
    width: u16,
    colour: bool,
    quick: bool,
}

impl Screen {
    /// Standard output; `quick` leaves the pauses out.
    #[allow(dead_code, reason = "the test in tests/it reads a text")]
    pub fn terminal(quick: bool) -> Self {
        let terminal = Terminal::detect();
        let width = terminal.width().unwrap_or(WIDEST).min(WIDEST);
        Self { sink: Mutex::new(Box::new(io::stdout())), width, colour: terminal.colour, quick }
    }

    /// Writes for a test: without pauses.
    #[allow(dead_code, reason = "the demo itself shows a terminal")]
    pub fn text(sink: impl Write + Send + 'static) -> Self {
        Self { sink: Mutex::new(Box::new(sink)), width: 80, colour: false, quick: true }
    }

    fn put(&self, text: &str, bold: bool) -> Done {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        match bold && self.colour {
            true => writeln!(sink, "{BOLD}{text}{PLAIN}")?,
            false => writeln!(sink, "{text}")?,
        }
        Ok(sink.flush()?)
    }

    /// A new step.
    pub async fn title(&self, text: &str) -> Done {
        self.pause(1500).await;
        self.put("", false)?;
        self.put(&format!("== {text}"), true)
    }

    /// Plain words, of any length.
    pub fn say(&self, text: &str) -> Done {
        wrapped(text, "", Some(self.width)).iter().try_for_each(|line| self.put(line, false))
    }

    /// Shows a command as a user would type it.
    pub async fn command(&self, text: &str) -> Done {
        self.pause(700).await;
        self.put("", false)?;
        self.put(&format!("$ {text}"), true)
    }

    /// Shows the output of a program, as it is.
    pub fn output(&self, text: &str) -> Done {
        text.lines().try_for_each(|line| self.put(line, false))
    }

    /// Time to read, in milliseconds.
    pub async fn pause(&self, milliseconds: u64) {
        if !self.quick {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
    }
}
