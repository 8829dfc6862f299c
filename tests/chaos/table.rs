//! Comparison of a registry's trunks with Kamailio's location table.

use std::collections::{BTreeMap, HashMap};

use routr_registration::registration::state::TrunkState;

use crate::parts::{DOMAIN, EXPIRES};
use crate::watch::{Findings, IN_A_ROW, Look};

/// By so much may a binding be gone at Kamailio before the registry says so: Kamailio counts in whole
/// seconds, from when it sent the answer, and two tables cannot be looked at in the same moment.
const ROUNDING_MS: u64 = 3_000;

/// Facts about Kamailio's table that cannot be seen in it.
pub struct TableFacts<'a> {
    /// True if the registry that is asked runs and is not stopped.
    pub responds: bool,
    /// Time at which Kamailio last lost its table, in milliseconds since the Unix epoch.
    pub table_lost_ms: u64,
    /// Until when a fake lied to the registry about what is registered; `u64::MAX` while it still does.
    pub lies_until_ms: u64,
    /// Call-IDs of all good trunks, by user.
    pub call_ids: &'a BTreeMap<String, String>,
}

/// Judges the registry's trunks by Kamailio's table.
#[derive(Default)]
pub struct TableJudge {
    cseqs: HashMap<String, u64>,
    absent: HashMap<String, u32>,
    /// Looks in a row without a list.
    unlisted: u32,
}

impl TableJudge {
    pub fn look(&mut self, look: &Look, facts: &TableFacts<'_>, seen: &mut Findings) {
        let Some(bindings) = &look.bindings else { return };
        let mut by_user = BTreeMap::new();
        for binding in bindings {
            let user = binding.aor.strip_suffix(&format!("@{DOMAIN}")).unwrap_or(&binding.aor).to_owned();
            match facts.call_ids.get(&user) {
                Some(expected) if *expected == binding.call_id => {}
                expected => {
                    seen.wrong("a Call-ID is not that for life", format!("{binding:?}, {expected:?}"))
                }
            }
            let highest = self.cseqs.entry(binding.call_id.clone()).or_default();
            if binding.cseq < *highest {
                seen.wrong("a CSeq fell", format!("{binding:?} after {highest}"));
            }
            *highest = binding.cseq.max(*highest);
            if let Some(other) = by_user.insert(user, binding) {
                seen.wrong("two contacts for one address of record", format!("{binding:?} {other:?}"));
            }
        }
        seen.fewest = Some(seen.fewest.unwrap_or(usize::MAX).min(by_user.len()));
        if !facts.responds {
            self.absent.clear();
            return;
        }
        self.unlisted = if look.trunks.is_some() { 0 } else { self.unlisted + 1 };
        if self.unlisted >= IN_A_ROW {
            seen.wrong("the list of the trunks does not answer", String::new());
        }
        for (reference, trunk) in look.trunks.iter().flatten() {
            let Some(user) =
                reference.strip_prefix("trunk-").filter(|user| facts.call_ids.contains_key(*user))
            else {
                continue;
            };
            let said = matches!(trunk.state, TrunkState::Registered | TrunkState::AtRisk);
            let expires_ms = trunk.expires_at_ms.unwrap_or(0);
            let made_ms = expires_ms.saturating_sub(u64::from(EXPIRES) * 1_000);
            // What was registered before Kamailio lost its table, or with a liar, cannot be known to be gone.
            let known = made_ms > facts.table_lost_ms.saturating_add(1_000)
                && (facts.lies_until_ms == 0 || made_ms > facts.lies_until_ms.saturating_add(1_000));
            let expires = expires_ms <= look.at_ms + ROUNDING_MS;
            let false_claim = said && known && !expires && !by_user.contains_key(user);
            let row = self.absent.entry(reference.clone()).or_default();
            *row = if false_claim { *row + 1 } else { 0 };
            if *row >= 2 {
                let what = "a trunk is shown as registered that Kamailio does not have";
                seen.wrong(what, format!("{trunk:?}"));
            }
        }
    }
}
