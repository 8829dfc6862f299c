//! Times at which trunks are due, as far as a run can know: the end of the sync that named a trunk first, the
//! end of the window in which a binding is refreshed.

use std::collections::BTreeMap;

use crate::world::State;

/// The trunks of a registrar that will be due.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// By Call-ID: when, and whether that is the first REGISTER of a run.
    pub trunks: BTreeMap<Box<str>, u64>,
    /// The last REGISTER to this registrar.
    pub asked_at: u64,
}

/// Trunks that are due in a run, by registrar.
pub type Dues = BTreeMap<Box<str>, Due>;

impl State {
    /// A run has read all trunks. Those that it was never told of before, and of which nothing is kept, are
    /// due now.
    pub fn due_at_sync(&mut self, run: u32, at: u64) {
        let entries = self.catalogue.entries.values();
        let mut new = Vec::new();
        let Some(model) = self.model.runs.get(&run) else { return };
        for entry in entries {
            let reference = &*entry.trunk.reference;
            let unknown = entry.problem.is_none()
                && !self.records.all.contains_key(reference)
                && !model.seen.contains(reference)
                && !entry.calls.iter().any(|call| model.numbers.contains_key(call))
                && model.known.get(reference) == Some(&entry.revision);
            let order = crate::trunks::Catalogue::order(&entry.trunk);
            let first = order.first().map(|first| usize::from(*first));
            if let Some((uri, call)) =
                first.and_then(|first| Some((entry.trunk.uris.get(first)?, entry.calls.get(first)?)))
                && unknown
                && self.model.calls.get(call).is_none_or(|call| call.open.is_none())
            {
                new.push((uri.registrar.host.clone(), call.clone()));
            }
        }
        let known: Vec<String> = model.known.keys().cloned().collect();
        let Some(model) = self.model.runs.get_mut(&run) else { return };
        model.seen.extend(known);
        for (host, call) in new {
            model.dues.entry(host).or_default().trunks.insert(call, at);
        }
    }

    /// A binding was granted in the usual way: it is refreshed until then.
    pub fn due_by(&mut self, run: u32, host: &str, call: &str, until: u64) {
        let Some(model) = self.model.runs.get_mut(&run) else { return };
        model.dues.entry(host.into()).or_default().trunks.insert(call.into(), until);
    }

    /// A REGISTER leaves a run: what was due of its trunk is no longer, whatever registrar it goes to.
    pub fn fair_sent(&mut self, run: u32, host: &str, call: &str, at: u64) {
        self.check_fair(run, host, at);
        let reference = self.reference(call);
        let Some(model) = self.model.runs.get_mut(&run) else { return };
        let calls = &self.catalogue.calls;
        for due in model.dues.values_mut() {
            due.trunks.retain(|other, _| calls.get(other).is_some_and(|call| call.reference != reference));
        }
        model.dues.entry(host.into()).or_default().asked_at = at;
    }
}
