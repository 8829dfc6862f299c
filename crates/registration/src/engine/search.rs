//! A listing of trunks, a piece at a time: looking through a million of them must not hold up a refresh.

use std::collections::BinaryHeap;

use super::{
    Engine,
    slots::Slot,
    view::{Filter, Page, TrunkView},
};
use crate::registration::time::Now;

/// A listing under way: trunks that pass a filter, by ref, after a page token. A trunk that comes, goes or
/// changes meanwhile may be in it or not.
#[derive(Debug)]
pub struct Search {
    /// Its text is in lower case.
    filter: Filter,
    after: Option<String>,
    limit: usize,
    /// The next slot to look at.
    next: u32,
    /// The smallest refs so far, one more than asked for, largest on top; the slot tells two entries of a ref
    /// apart.
    first: BinaryHeap<(Box<str>, u32)>,
}

impl Search {
    /// Nothing looked at yet.
    pub fn new(mut filter: Filter, after: Option<String>, limit: usize) -> Self {
        filter.text = filter.text.map(|text| text.to_lowercase());
        Self { filter, after, limit, next: 0, first: BinaryHeap::new() }
    }

    fn offer(&mut self, slot: u32, entry: &Slot) {
        let reference = entry.trunk.reference();
        let full = self.first.len() > self.limit;
        if self.after.as_ref().is_some_and(|after| reference <= after.as_str())
            || full && self.first.peek().is_some_and(|(last, _)| reference > &**last)
            || !self.passes(entry)
        {
            return;
        }
        self.first.push((reference.into(), slot));
        if full {
            self.first.pop();
        }
    }

    fn passes(&self, entry: &Slot) -> bool {
        let filter = &self.filter;
        if !filter.states.is_empty() && !filter.states.contains(&entry.state()) {
            return false;
        }
        if filter.registrar.is_none() && filter.text.is_none() {
            return true;
        }
        let trunk = entry.trunk.view();
        let uri = trunk.uri(trunk.order().resolve(entry.registration.ranks().0));
        let registrar = filter
            .registrar
            .as_ref()
            .is_none_or(|host| uri.is_some_and(|uri| uri.host.eq_ignore_ascii_case(host)));
        let text = filter.text.as_ref().is_none_or(|text| {
            let aor = uri.map_or_else(String::new, |uri| format!("{}@{}", uri.user, uri.host));
            [trunk.reference(), trunk.name(), &aor].iter().any(|field| field.to_lowercase().contains(text))
        });
        registrar && text
    }
}

impl Engine {
    /// Looks at `most` more slots. Returns whether that were the last ones.
    pub fn scan(&self, search: &mut Search, most: u32) -> bool {
        let end = self.slots.slot_bound();
        let until = search.next.saturating_add(most).min(end);
        for slot in search.next..until {
            if let Some(entry) = self.slots.get(slot) {
                search.offer(slot, entry);
            }
        }
        search.next = until;
        until == end
    }

    /// Returns what was found. Those that have gone since are left out.
    pub fn search_result(&self, search: Search, now: Now) -> Page {
        let found = search.first.into_sorted_vec();
        let more = found.len() > search.limit;
        let shown = &found[..found.len().min(search.limit)];
        let items: Vec<TrunkView> = shown
            .iter()
            .filter_map(|(reference, slot)| {
                self.slots.get(*slot).filter(|entry| entry.trunk.reference() == &**reference)
            })
            .map(|entry| self.view(entry, now))
            .collect();
        let next_page_token = shown.last().filter(|_| more).map(|(reference, _)| reference.to_string());
        Page { items, next_page_token }
    }

    /// All of a listing at once.
    #[cfg(test)]
    pub fn list(&self, filter: &Filter, after: Option<&str>, limit: usize, now: Now) -> Page {
        let mut search = Search::new(filter.clone(), after.map(str::to_owned), limit);
        while !self.scan(&mut search, 7) {}
        self.search_result(search, now)
    }
}
