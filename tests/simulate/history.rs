//! Events of a world, as text: one line for each thing that passed a port, each view, each line of the log.
//! The same seed gives the same text to the byte.

use std::{cell::RefCell, fmt, sync::Arc};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::world::World;

/// Every secret of a world begins with this, so one search finds them all.
pub const SECRET: &str = "hush-";

/// Text of everything that happened in a world.
#[derive(Default)]
pub struct History {
    text: String,
    pub lines: u64,
    /// Lines that gave a secret away.
    pub leaks: Vec<String>,
}

impl History {
    /// Adds a line.
    pub fn note(&mut self, at: u64, what: fmt::Arguments<'_>) {
        use fmt::Write;
        let from = self.text.len();
        let (s, ms) = (at / 1_000, at % 1_000);
        let (day, h, m, s) = (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60);
        let _ = writeln!(self.text, "{day}d {h:02}:{m:02}:{s:02}.{ms:03} {what}");
        self.lines += 1;
        if self.text[from..].contains(SECRET) {
            self.leaks.push(self.text[from..].trim_end().to_owned());
        }
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Two histories with the same number are the same.
    pub fn digest(&self) -> u64 {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for chunk in self.text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        hash
    }
}

thread_local! {
    /// The world that runs on this thread, and the process in it that is being polled.
    static HERE: RefCell<(Option<Arc<World>>, u32)> = const { RefCell::new((None, 0)) };
}

/// From now on this thread's log goes into this world's history.
pub fn enter(world: Option<Arc<World>>) {
    HERE.with(|here| *here.borrow_mut() = (world, 0));
}

/// From now on it is this process that speaks. Returns who spoke before.
pub fn speaks(life: u32) -> u32 {
    HERE.with(|here| std::mem::replace(&mut here.borrow_mut().1, life))
}

/// Takes the product's log into the histories.
pub struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("routr_registry")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let (world, life) = HERE.with(|here| here.borrow().clone());
        let Some(world) = world else { return };
        let mut words = Words(String::new());
        event.record(&mut words);
        world.lock().say(format_args!("#{life} log {}{}", event.metadata().level(), words.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
