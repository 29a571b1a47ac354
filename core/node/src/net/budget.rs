//! How many bytes of requests may be in memory: over all connections, and over each one. A reader
//! that finds the budget spent waits, in order of arrival; nobody is refused.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in units, since a semaphore counts in 32 bits and small requests need no
/// precision.
const UNIT_BYTES: usize = 1024;

/// A pool of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

/// Bytes taken from a pool; they return when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken(Option<OwnedSemaphorePermit>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let total =
            u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Takes `bytes`, waiting until they are free. More than the whole pool takes the whole pool,
    /// so that one large request is always possible.
    pub(crate) async fn take(&self, bytes: usize) -> Taken {
        let units =
            u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.total);
        // An error means a closed semaphore, and nobody closes it.
        Taken(Arc::clone(&self.units).acquire_many_owned(units).await.ok())
    }
}

impl Taken {
    /// So much of it is needed: the rest returns.
    pub(crate) fn keep(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let spare = permit.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES));
            drop(permit.split(spare));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_spent_budget_makes_readers_wait_until_bytes_return() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let half = budget.take(5 * UNIT_BYTES).now_or_never().unwrap();
        let _rest = budget.take(4 * UNIT_BYTES + 1).now_or_never().unwrap();
        assert!(budget.take(1).now_or_never().is_none());
        drop(half);
        assert!(budget.take(1).now_or_never().is_some());
    }

    #[test]
    fn what_is_not_needed_returns() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let mut most = budget.take(9 * UNIT_BYTES).now_or_never().unwrap();
        most.keep(UNIT_BYTES + 1);
        let _rest = budget.take(8 * UNIT_BYTES).now_or_never().unwrap();
        assert!(budget.take(1).now_or_never().is_none());
    }

    #[test]
    fn more_than_the_whole_takes_the_whole() {
        let budget = Budget::new(2 * UNIT_BYTES);
        let all = budget.take(1 << 30).now_or_never().unwrap();
        assert!(budget.take(1).now_or_never().is_none());
        drop(all);
        assert!(budget.take(1).now_or_never().is_some());
    }
}
