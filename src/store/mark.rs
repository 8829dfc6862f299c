//! A key by which a loss of data is noticed, and another process that writes the same keys.
//!
//! The mark is the run's token and a number that rises each time that it is looked at. What is found must be
//! the last number written, or a later one whose confirmation was lost: an older one, an earlier run's, or
//! none means that Redis has lost something. Another run's that was written since then means that its process
//! acts for the registry as well.

use serde::{Deserialize, Serialize};

use super::process;
use routr_registration::model::Rival;
use routr_types::text;

/// State of this run's mark.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// The last number that was written, or may have been.
    pub(super) attempted: u64,
    /// The last number that was written for certain.
    pub(super) confirmed: Option<u64>,
    /// Time of that write, in milliseconds since the Unix epoch.
    pub(super) confirmed_at_ms: u64,
    /// The run of another process whose mark was found last.
    other: Option<Box<str>>,
}

/// Writer of a mark. Earlier versions do not record one.
#[derive(Debug, Serialize, Deserialize)]
struct Writer {
    host: String,
    pid: u32,
    since_ms: u64,
    at_ms: u64,
}

/// Result of a look at the mark.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing was lost.
    Kept,
    /// Something was.
    Lost,
    /// Another process writes marks.
    Other(Rival),
}

impl Mark {
    /// The mark with a number, as a process writes it at `now` that has acted since `since_ms`.
    pub(super) fn text(token: &str, number: u64, since_ms: u64, now: u64) -> String {
        let me = process::this();
        let writer = Writer { host: me.host.clone(), pid: me.pid, since_ms, at_ms: now };
        // What cannot be written is left out.
        format!("{token}:{number} {}", serde_json::to_string(&writer).unwrap_or_default())
    }

    /// Returns what it means that this stands there.
    pub(super) fn judge(&mut self, token: &str, found: Option<&[u8]>) -> Found {
        let text = found.and_then(|bytes| std::str::from_utf8(bytes).ok());
        let (head, writer) = text.map(|text| text.split_once(' ').unwrap_or((text, ""))).unwrap_or_default();
        let (run, number) = head.split_once(':').unwrap_or_default();
        let Some(confirmed) = self.confirmed else { return Found::Lost };
        let before = self.other.take();
        if run == token {
            return if number.parse::<u64>().is_ok_and(|number| number >= confirmed) {
                Found::Kept
            } else {
                Found::Lost
            };
        }
        if run.is_empty() {
            return Found::Lost;
        }
        let writer: Option<Writer> = serde_json::from_str(writer).ok();
        // An older copy of the data has the mark of an earlier run. Clocks differ: anyone who's is found
        // twice writes it.
        let later = writer.as_ref().is_some_and(|writer| writer.at_ms > self.confirmed_at_ms);
        let again = before.as_deref() == Some(run);
        self.other = Some(run.into());
        if !later && !again {
            return Found::Lost;
        }
        Found::Other(writer.map_or_else(
            || Rival { who: "a process of an earlier version".into(), since_ms: 0 },
            |writer| {
                // Whatever is in Redis, a line of text must stay one.
                let host = text::escaped(&writer.host, 253);
                Rival {
                    who: format!("process {} on host {host}", writer.pid).into(),
                    since_ms: writer.since_ms,
                }
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirmed(number: u64, at_ms: u64) -> Mark {
        Mark { attempted: number, confirmed: Some(number), confirmed_at_ms: at_ms, other: None }
    }

    fn judge(mark: &mut Mark, found: &str) -> Found {
        mark.judge("me", Some(found.as_bytes()))
    }

    #[test]
    fn only_the_last_mark_or_a_later_one_means_that_all_is_kept() {
        let mut mark = confirmed(5, 100);
        assert_eq!(judge(&mut mark, "me:5"), Found::Kept);
        assert_eq!(judge(&mut mark, &Mark::text("me", 6, 1, 2)), Found::Kept);
        for lost in ["me:4", "me:", "me", "", ":", "garbage", "me:5x {}"] {
            assert_eq!(judge(&mut mark, lost), Found::Lost, "{lost}");
        }
        assert_eq!(mark.judge("me", None), Found::Lost);
        assert_eq!(mark.judge("me", Some(&[255])), Found::Lost);
        assert_eq!(judge(&mut Mark::default(), "me:1"), Found::Lost, "never loaded");
    }

    #[test]
    fn a_mark_of_another_run_is_a_rivals_when_it_is_newer_or_comes_again() {
        let mut mark = confirmed(5, 100);
        let newer = Mark::text("you", 1, 90, 101);
        let Found::Other(rival) = judge(&mut mark, &newer) else { panic!("not seen") };
        assert!(rival.who.starts_with(&format!("process {} on host ", std::process::id())), "{rival:?}");
        assert_eq!(rival.since_ms, 90);
        assert_eq!(judge(&mut mark, "me:5"), Found::Kept);
        // Of an older copy of the data.
        let older = Mark::text("you", 1, 1, 99);
        assert_eq!(judge(&mut mark, &older), Found::Lost);
        // Its clock is late.
        assert!(matches!(judge(&mut mark, &Mark::text("you", 2, 1, 99)), Found::Other(_)));
        // An earlier version, which does not say who it is.
        assert_eq!(judge(&mut mark, "it:1"), Found::Lost);
        let Found::Other(rival) = judge(&mut mark, "it:2") else { panic!("not seen") };
        assert_eq!((&*rival.who, rival.since_ms), ("a process of an earlier version", 0));
    }
}
