//! What time does to transactions: one that takes longer than its client allowed is aborted and its
//! producer fenced; a transactional id that nobody used for long is forgotten. Timeouts count
//! monotonic time, from the start of the process at the earliest; ids expire by the wall clock, and
//! only while that is to be believed.

use super::{Bump, Outcome, TransactionFact, TransactionState};
use crate::engine::{Engine, Timer};
use crate::entry::Fact;
use millpond_wire::limits;
use std::collections::BTreeMap;

/// The timers of transactions.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// By transactional id.
    armed: BTreeMap<String, u64>,
    /// What was open at the start has its timers.
    is_started: bool,
}

impl Engine {
    pub(crate) fn arm_transaction(&mut self, id: &str, timeout_ms: i32) {
        self.disarm_transaction(id);
        let at_ms = self.now.mono_ms + u64::try_from(timeout_ms).unwrap_or(0);
        self.timers.insert((at_ms, Timer::Transaction(id.to_owned())));
        self.deadlines.armed.insert(id.to_owned(), at_ms);
    }

    pub(crate) fn disarm_transaction(&mut self, id: &str) {
        if let Some(at_ms) = self.deadlines.armed.remove(id) {
            self.timers.remove(&(at_ms, Timer::Transaction(id.to_owned())));
        }
    }

    /// With the first event comes the first time: timeouts of what was open begin again.
    pub(crate) fn start_deadlines(&mut self) {
        if std::mem::replace(&mut self.deadlines.is_started, true) {
            return;
        }
        let table = self.state.transactions.iter();
        let open = table.filter(|(_, one)| one.state == TransactionState::Ongoing);
        let open: Vec<(String, i32)> =
            open.map(|(id, one)| (id.to_owned(), one.timeout_ms)).collect();
        for (id, timeout_ms) in open {
            self.arm_transaction(&id, timeout_ms);
        }
        if self.state.transactions.len() > 0 {
            self.arm_id_check();
        }
    }

    pub(crate) fn on_transaction_deadline(&mut self, id: &str) {
        self.deadlines.armed.remove(id);
        let one = self.state.transactions.get(id);
        if one.is_some_and(|one| one.state == TransactionState::Ongoing) {
            self.counters.transactions_timed_out += 1;
            self.end_transaction(id, Outcome { is_commit: false, bump: Bump::Fence });
            self.seal_if_large();
        }
    }

    /// The first transactional id brings the check about, which then comes back.
    pub(crate) fn arm_id_check(&mut self) {
        let at_ms = self.now.mono_ms + limits::TRANSACTIONAL_ID_CHECK_MS;
        self.timers.insert((at_ms, Timer::TransactionalIds));
    }

    pub(crate) fn on_id_check(&mut self) {
        if self.is_clock_steady() {
            let kept_ms = self.config.transactional_id_expiration_ms;
            let oldest_ms = self.now.wall_ms.saturating_sub(kept_ms);
            let table = self.state.transactions.iter();
            let idle = table.filter(|(_, one)| !one.state.is_open() && one.updated_ms < oldest_ms);
            let idle: Vec<String> = idle.map(|(id, _)| id.to_owned()).collect();
            for transactional_id in idle {
                self.commit(Fact::Transaction(TransactionFact::Expired { transactional_id }));
                self.seal_if_large();
            }
        }
        if self.state.transactions.len() > 0 {
            self.arm_id_check();
        }
    }
}
