//! Rules of one seed's world.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use routr_registration::{
    engine::EngineSettings,
    model::{EdgePort, PublicAddresses},
    registration::{
        Settings,
        redirect_policy::{RedirectDomain, RedirectPolicy},
    },
};
use routr_types::{digest_minimum::DigestMinimum, host::HostPort};

use crate::{checks::mutants::Mutant, field::Field};

pub const SECOND: u64 = 1_000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;

/// Rules of one seed's world.
#[derive(Clone, Debug)]
pub struct Rules {
    pub seed: u64,
    /// Time for which faults occur, in milliseconds; then all is healed.
    pub faults_ms: u64,
    pub settings: EngineSettings,
    pub trunks: usize,
    pub hosts: usize,
    /// `Some`: two replicas and a Lease of that duration.
    pub lease: Option<Duration>,
    pub durable: bool,
    /// The store fails and loses data. Never together with wall clocks that jump: a number that goes by a
    /// wrong clock and is then forgotten cannot be overtaken.
    pub store_fails: bool,
    pub clock_jumps: bool,
    /// Mean time between two events, in milliseconds.
    pub gap_ms: u64,
    /// The longest that a fault lasts, in milliseconds.
    pub fault_ms: u64,
    /// The registry is deleted at the end.
    pub leaves: bool,
    pub broken: Mutant,
    /// Habits of the field that it has; `None` in a plain world.
    pub field: Option<Field>,
}

impl Rules {
    /// Draws them; `plain`: without the field's habits.
    pub fn of(seed: u64, days: Option<u64>, broken: Mutant, plain: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x5eed_0000);
        let pick = |rng: &mut SmallRng, from: &[u64]| from[rng.random_range(0..from.len())];
        let edges = rng.random_range(1..=3);
        let region = |rng: &mut SmallRng| ["eu", "us"].get(rng.random_range(0..3)).map(|r| (*r).to_owned());
        let edge_ports = (0..edges)
            .map(|n| EdgePort {
                address: HostPort::new(&format!("edge{n}"), 5060),
                region: region(&mut rng),
                public: PublicAddresses::default(),
            })
            .collect();
        let trunks = match rng.random_range(0..4) {
            0 => 1,
            1 => rng.random_range(2..8),
            _ => rng.random_range(12..24),
        };
        let settings = EngineSettings {
            max_trunks: usize::MAX,
            registration: Settings {
                interval_ms: pick(&mut rng, &[60, 300, 300, 600, 900]) * SECOND,
                expires_s: u32::try_from(pick(&mut rng, &[600, 1_800, 3_600, 3_600, 7_200])).unwrap_or(600),
                deadline_ms: pick(&mut rng, &[30, 40, 40]) * SECOND,
                tags: [vec![], vec!["gin".to_owned()], vec!["path".to_owned(), "gin".to_owned()]]
                    [rng.random_range(0..3)]
                .clone(),
                // The hosts of a simulation have names without dots: each is a domain of its own.
                redirects: RedirectPolicy {
                    domains: vec![RedirectDomain::Any],
                    credentials: true,
                    ..RedirectPolicy::default()
                },
            },
            digest: DigestMinimum::default(),
            tls_uri_scheme: routr_registration::trunk::TlsUriScheme::default(),
            edge_ports,
            max_in_flight: u32::try_from(pick(&mut rng, &[2, 8, 200])).unwrap_or(8),
            rate_per_registrar: [None, Some(20.0), Some(2.0), Some(0.5)][rng.random_range(0..4)],
        };
        let lease = rng.random_bool(0.35).then(|| Duration::from_secs(pick(&mut rng, &[120, 240, 300])));
        let durable = rng.random_bool(0.6);
        let clock_jumps = durable && rng.random_bool(0.4);
        let days = days.unwrap_or_else(|| rng.random_range(2..=3));
        let rules = Self {
            seed,
            faults_ms: days * DAY - 4 * HOUR,
            settings,
            trunks,
            hosts: rng.random_range(1..=4),
            lease,
            durable,
            store_fails: !clock_jumps,
            clock_jumps,
            gap_ms: pick(&mut rng, &[20, 40, 90]) * MINUTE,
            fault_ms: pick(&mut rng, &[2, 20, 240]) * MINUTE,
            leaves: rng.random_bool(0.3),
            broken,
            field: None,
        };
        match Field::draw(seed).filter(|_| !plain) {
            Some(field) => rules.with(field, rng),
            None => rules,
        }
    }

    /// The same in the field.
    fn with(mut self, field: Field, mut rng: SmallRng) -> Self {
        if field.crowd {
            // Shorter than others, for so much goes on.
            (self.faults_ms, self.gap_ms) = (8 * HOUR, 10 * MINUTE);
            self.hosts = rng.random_range(10..=40);
            self.trunks = self.hosts + rng.random_range(0..60);
            self.settings.max_in_flight = [16, 200, 1_000][rng.random_range(0..3)];
            self.settings.rate_per_registrar = [None, Some(20.0), Some(2.0)][rng.random_range(0..3)];
            self.settings.registration.expires_s = [1_800, 3_600, 7_200][rng.random_range(0..3)];
        }
        Self { field: Some(field), ..self }
    }
}
