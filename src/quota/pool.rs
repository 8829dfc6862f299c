//! A pool that tenants share by a dynamic threshold (Choudhury and Hahne, "Dynamic Queue Length Thresholds
//! for Shared-Memory Packet Switches", 1998): a tenant may grow as long as it has no more than is left for
//! the others. One that takes all it can has half of the pool, two of them a third each; something is always
//! left for one that comes late.

use std::sync::atomic::{AtomicU64, Ordering};

/// Amount that one tenant has of a pool.
#[derive(Debug, Default)]
pub struct Used(AtomicU64);

impl Used {
    /// Returns how much it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that there is so much of.
#[derive(Debug)]
pub struct Pool {
    most: u64,
    used: AtomicU64,
}

impl Pool {
    /// A pool of this size.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self { most, used: AtomicU64::new(0) }
    }

    /// Returns whether a tenant may have so much more.
    #[must_use]
    pub fn fits(&self, tenant: &Used, more: u64) -> bool {
        let [used, own] =
            [&self.used, &tenant.0].map(|used| used.load(Ordering::Relaxed).saturating_add(more));
        more == 0 || own <= self.most.saturating_sub(used)
    }

    /// Takes so much more for a tenant. Returns whether it fits; nothing is taken where it does not.
    #[must_use]
    pub fn take(&self, tenant: &Used, more: u64) -> bool {
        // Two that take at the same moment may both come to a little more than the threshold.
        let fits = self.fits(tenant, more);
        if fits {
            self.change(tenant, 0, more);
        }
        fits
    }

    /// A tenant has so much in one place where it had so much before, whether that fits or not.
    pub fn change(&self, tenant: &Used, before: u64, after: u64) {
        for used in [&self.used, &tenant.0] {
            if after >= before {
                used.fetch_add(after - before, Ordering::Relaxed);
            } else {
                used.fetch_sub(before - after, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hog(pool: &Pool, tenant: &Used) -> u64 {
        while pool.take(tenant, 1) {}
        tenant.0.load(Ordering::Relaxed)
    }

    #[test]
    fn tenants_that_take_all_they_can_leave_as_much_as_they_have() {
        let pool = Pool::new(1_200);
        let tenants: [Used; 4] = Default::default();
        assert_eq!(tenants.each_ref().map(|tenant| hog(&pool, tenant)), [600, 300, 150, 75]);
        // As soon as the first one has less, the others may have more.
        pool.change(&tenants[0], 600, 0);
        assert!(hog(&pool, &tenants[3]) > 200);
        assert!(pool.fits(&tenants[0], 1));
    }

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let (pool, tenant) = (Pool::new(100), Used::default());
        assert!(!pool.take(&tenant, 51) && !pool.take(&tenant, u64::MAX) && pool.take(&tenant, 50));
        assert!(pool.fits(&tenant, 0), "nothing more always fits");
        pool.change(&tenant, 50, 0);
        assert!(pool.take(&tenant, 50));
    }
}
