//! Helpers of the targets: a reader of bytes, a bound on time, and a search for texts that must not be shown.

use std::fmt::Display;

use nix::time::{ClockId, clock_gettime};

/// The password that the inputs in the tree have. Mutations keep it, so errors and `Debug` can be searched
/// for it.
pub const SECRET: &str = "swordfish-77";

/// Length of the texts that [`stretched`] makes, in bytes.
const STRETCHED: usize = 60_000;
/// Microseconds for an input as libFuzzer makes it (up to 4 KiB): far above what any takes on any machine.
const SHORT_US: u128 = 500_000;
/// Microseconds for a long one, above which its growth is looked at: about what the slowest target takes.
const LONG_US: u128 = 50_000;

/// Takes an input apart, byte by byte; zeros and nothing follow its end.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Bytes as text, where they are none as near to it as can be.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns how often `needle` is in `hay`.
pub fn count(hay: &[u8], needle: &[u8]) -> usize {
    if needle.is_empty() || hay.len() < needle.len() {
        return 0;
    }
    hay.windows(needle.len()).filter(|window| *window == needle).count()
}

/// Returns whether a text is a secret that can be searched for: long enough not to be anywhere by chance, and
/// only once in the input, so that it is in no other place from where it may be shown.
pub fn is_distinct(input: &[u8], secret: &str) -> bool {
    secret.len() >= 8 && count(input, secret.as_bytes()) == 1
}

/// Returns whether a text shows a secret, and not only because the secret is made of words that are always
/// there, which the fuzzer finds: `others` are texts like it that were made of other secrets.
pub fn shows<'a>(text: &str, secret: &str, others: impl IntoIterator<Item = &'a str>) -> bool {
    text.contains(secret) && !others.into_iter().any(|other| other.contains(secret))
}

/// Asserts that a message about bad input is presentable, and returns it: something, on one line, of a
/// bounded length.
pub fn assert_presentable(said: &impl Display) -> String {
    let said = said.to_string();
    assert!(!said.is_empty());
    assert!(said.len() < 2_000, "{} bytes: {said}", said.len());
    assert!(!said.contains(char::is_control), "{said:?}");
    said
}

/// Returns whether a text has nothing that ends a header field.
pub fn is_one_line(text: &str) -> bool {
    !text.contains(['\r', '\n', '\0'])
}

/// A small generator for choices that need no byte of the input.
pub struct Choices(u64);

impl Choices {
    pub fn of(bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }
}

/// Runs `work` on an input, which must not take longer than a short one may.
pub fn check_short(input: &[u8], work: impl Fn(&[u8])) {
    let spent = spent_on(input, work);
    assert!(spent <= SHORT_US * slowness(), "{} bytes took {spent} us of processor time", input.len());
}

/// Runs `work` on a long input, which must take time in proportion to its size: where it takes more than any
/// ought to, it is compared with a quarter of the same, so that neither a slow machine nor a costly kind of
/// input is blamed.
pub fn check_stretched(input: &[u8], work: impl Fn(&[u8])) {
    let long = stretched(input, STRETCHED);
    let spent = spent_on(&long, &work);
    if spent <= LONG_US * slowness() {
        return;
    }
    let quarter = stretched(input, STRETCHED / 4);
    let least = |input: &[u8]| (0..3).map(|_| spent_on(input, &work)).min().unwrap().max(1);
    let (spent, quarter_spent) = (least(&long), least(&quarter));
    // Four times as much for what is in proportion, sixteen times for what takes a step for each pair of
    // bytes.
    assert!(
        spent * u128::try_from(quarter.len()).unwrap()
            <= 2 * quarter_spent * u128::try_from(long.len()).unwrap(),
        "{} bytes took {spent} us of processor time, {} bytes {quarter_spent} us: more than in proportion",
        long.len(),
        quarter.len()
    );
}

/// Built as usual, everything is slower.
fn slowness() -> u128 {
    if cfg!(fuzzing) { 1 } else { 20 }
}

/// Microseconds of processor time of this thread, so that a busy machine changes nothing.
fn spent_on(input: &[u8], work: impl Fn(&[u8])) -> u128 {
    let before = processor_time_us();
    work(input);
    processor_time_us() - before
}

fn processor_time_us() -> u128 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    std::time::Duration::from(now).as_micros()
}

/// A long input from a short one: pieces of it again and again, the numbers in each copy counted on, so that
/// what has to be different (keys, names) is.
fn stretched(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut choices = Choices::of(bytes);
    let (from, to) = (choices.below(bytes.len() + 1), choices.below(bytes.len() + 1));
    let piece = &bytes[from.min(to)..from.max(to)];
    let mut long = bytes[..from.min(to)].to_vec();
    let digit = piece.iter().position(u8::is_ascii_digit);
    let mut copies = 0_u32;
    while !piece.is_empty() && long.len() + piece.len() < size {
        match digit {
            Some(at) => {
                long.extend_from_slice(&piece[..at]);
                long.extend_from_slice(copies.to_string().as_bytes());
                long.extend_from_slice(&piece[at + 1..]);
            }
            None => long.extend_from_slice(piece),
        }
        copies += 1;
    }
    long.extend_from_slice(&bytes[from.max(to)..]);
    long
}
