//! A registrar that is down gets one REGISTER in 5 s.

use routr_registration::model::RegisterRequest;

use crate::{
    checks::Invariant,
    rules::{MINUTE, SECOND},
    world::State,
};

/// Between two probes, in milliseconds; a little less where a timer fires early.
pub const PROBE_PAUSE: u64 = 5 * SECOND - 10;

impl State {
    /// A registrar that is down sees one REGISTER in 5 s at most.
    pub fn check_few_probes(
        &mut self,
        run: u32,
        name: &str,
        request: &RegisterRequest,
        reference: &str,
        at: u64,
    ) {
        let wish = self.model.trunk(reference).wish_at;
        let proven = self.is_path_proven(at);
        let direct = self.is_direct();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let turn = self.model.settings.rate_per_registrar.map_or(0.0, |rate| 1_000.0 / rate) as u64;
        let Some(run) = self.model.runs.get_mut(&run) else { return };
        // What is silent may be the EdgePort as well.
        let edge = run.outages.edges.get(&request.edge_port.host);
        let proven = proven && (direct || edge.is_none_or(|edge| edge.noticed_at.is_none()));
        // What an EdgePort that is back leads to is probed at once, as the budget allows.
        let back = run.outages.edge_back_at;
        let freed = back > 0 && at < back + SECOND + turn;
        let Some(host) = run.outages.hosts.get_mut(&*request.target.to_string()) else { return };
        let Some(noticed) = host.noticed_at else { return };
        let last = host.last_sent.replace(at);
        let asked_for = wish + 2 * SECOND > at;
        let (target, ok) = (request.target.clone(), last.is_none_or(|last| at >= last + PROBE_PAUSE));
        // An engine may notice it a little later.
        let clear = proven && !host.unclear && at >= noticed + MINUTE;
        self.check(Invariant::FewProbesInAnOutage, ok || asked_for || freed || !clear, |_| {
            format!("{name}: {target} is known to be down since {noticed} ms, and was asked at {last:?} ms")
        });
    }
}
