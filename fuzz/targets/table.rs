//! A service's description of its trunks, shown in a terminal: the width, then a page of trunks, then the
//! summary, a line each.

use routr_registration::engine::view::{Page, Summary};
use routr_registry::table;

use super::support::text;

const NOW: u64 = 1_790_000_000_000;

pub fn run(data: &[u8]) {
    let text = text(data);
    let mut lines = text.lines();
    let width = lines.next().and_then(|width| width.parse().ok());
    let page = lines.next().and_then(|line| serde_json::from_str::<Page>(line).ok()).unwrap_or_default();
    let summary =
        lines.next().and_then(|line| serde_json::from_str::<Summary>(line).ok()).unwrap_or_default();
    let mut trunks = page.items;
    table::sort_by_urgency(&mut trunks);
    for line in table::render(&trunks, &summary, NOW, width, false).lines() {
        assert_shown(line);
    }
    for trunk in &trunks {
        assert_shown(&table::line(trunk, NOW));
    }
    let rows = table::trunk_lines_within(10, &trunks, NOW, width.unwrap_or(80), false);
    rows.iter().for_each(|line| assert_shown(line));
    assert_shown(&table::clean(&text));
}

/// Nothing from outside moves a cursor, ends a line, or hides or turns round what stands beside it.
fn assert_shown(line: &str) {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    assert!(!line.contains(harmful), "{line:?}");
}
