//! Choice of the method that reads the list. A method that a server refuses once it may offer later, after an
//! upgrade or on another replica: each refusal holds for a while only.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// Trunks in one page of `List`.
const DEFAULT_PAGE_SIZE: i32 = 1_000;
/// Number of trunks from which pages are preferred.
const LARGE_LIST: usize = 10_000;
/// Time that a method is not the first choice after refusals in a row.
const RETRY_AFTER: Backoff = Backoff::new(Duration::from_mins(5), Duration::from_hours(1));

/// A method to read the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// All in one message.
    FindBy,
    /// Pages, one after the other.
    List,
}

/// Methods of a server, as far as they are known.
#[derive(Debug)]
pub(super) struct Methods {
    large: bool,
    find_by: MethodBackoff,
    list: MethodBackoff,
    page_size: i32,
    /// A hash of the page token whose trunk `Get` did not know.
    deleted: Option<u64>,
}

impl Default for Methods {
    fn default() -> Self {
        let (find_by, list) = Default::default();
        Self { large: false, find_by, list, page_size: DEFAULT_PAGE_SIZE, deleted: None }
    }
}

impl Methods {
    /// The methods in the order to try them. Both are in it always: none is given up.
    pub(super) fn order(&self, now: Instant) -> [Method; 2] {
        let pages = (self.large || self.find_by.holds(now)) && !self.list.holds(now);
        if pages { [Method::List, Method::FindBy] } else { [Method::FindBy, Method::List] }
    }

    /// The list was read by this method.
    pub(super) fn worked(&mut self, method: Method, trunks: usize) {
        match method {
            Method::FindBy => {
                self.large = trunks > LARGE_LIST;
                self.find_by = MethodBackoff::default();
            }
            Method::List => {
                self.large &= trunks > LARGE_LIST / 2;
                self.list = MethodBackoff::default();
                self.page_size = self.page_size.saturating_mul(2).min(DEFAULT_PAGE_SIZE);
            }
        }
    }

    /// The server refused the method. Returns whether that is news.
    pub(super) fn refused(&mut self, method: Method, now: Instant) -> bool {
        let setback = match method {
            Method::FindBy => &mut self.find_by,
            Method::List => &mut self.list,
        };
        setback.add(now);
        setback.times == 1
    }

    /// Another server may be there next time.
    pub(super) fn connection_lost(&mut self) {
        (self.find_by, self.list) = Default::default();
    }

    /// Trunks to ask for in one page.
    pub(super) fn page_size(&self) -> i32 {
        self.page_size
    }

    /// Asks for fewer trunks in one page from now on; that grows again with each list that is read. Returns
    /// how many.
    pub(super) fn shrink_pages(&mut self) -> i32 {
        self.page_size = (self.page_size / 4).max(1);
        self.page_size
    }

    /// The trunk of that page token was not found.
    pub(super) fn deleted(&mut self, cursor: u64) {
        self.deleted = Some(cursor);
    }

    /// Returns whether the trunk of that page token was not found the last time, either.
    pub(super) fn deleted_before(&self, cursor: u64) -> bool {
        self.deleted == Some(cursor)
    }
}

/// A method that was refused, for a while.
#[derive(Debug, Default)]
struct MethodBackoff {
    until: Option<Instant>,
    times: u32,
}

impl MethodBackoff {
    fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn add(&mut self, now: Instant) {
        let wait = RETRY_AFTER.pause(self.times, 0);
        // A list may take both methods, and the second one before its time: that is no news.
        if !self.holds(now) {
            self.times = self.times.saturating_add(1);
            self.until = Some(now + wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g4_a_refused_method_is_tried_again_after_minutes_then_an_hour_and_when_the_connection_was_lost() {
        let mut methods = Methods::default();
        let mut now = Instant::now();
        let first = |methods: &Methods, now| methods.order(now)[0];
        assert_eq!(first(&methods, now), Method::FindBy);
        for minutes in [5, 10, 20, 40, 60, 60] {
            methods.refused(Method::FindBy, now);
            assert_eq!(
                first(&methods, now + Duration::from_mins(minutes) - Duration::from_secs(1)),
                Method::List
            );
            now += Duration::from_mins(minutes);
            assert_eq!(first(&methods, now), Method::FindBy, "{minutes}");
        }
        methods.refused(Method::FindBy, now);
        methods.refused(Method::List, now);
        assert_eq!(methods.order(now), [Method::FindBy, Method::List], "both are tried all the same");
        methods.worked(Method::List, 3);
        assert_eq!(first(&methods, now), Method::List);
        methods.connection_lost();
        assert_eq!(first(&methods, now), Method::FindBy);
    }

    #[test]
    fn pages_are_for_large_lists_and_shrink_where_they_are_too_large() {
        let mut methods = Methods::default();
        let now = Instant::now();
        methods.worked(Method::FindBy, LARGE_LIST + 1);
        assert_eq!(methods.order(now)[0], Method::List);
        methods.worked(Method::List, LARGE_LIST - 1);
        assert_eq!(methods.order(now)[0], Method::List, "no flapping");
        methods.worked(Method::List, LARGE_LIST / 2);
        assert_eq!(methods.order(now)[0], Method::FindBy);
        let sizes: Vec<i32> = (0..6).map(|_| methods.shrink_pages()).collect();
        assert_eq!(sizes, [250, 62, 15, 3, 1, 1]);
        (0..12).for_each(|_| methods.worked(Method::List, 1));
        assert_eq!(methods.page_size(), DEFAULT_PAGE_SIZE);
    }
}
