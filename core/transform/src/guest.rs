//! A running guest of either contract. After any failure it must never be called again; its one
//! caller drops it.

use crate::batch_buffer::StageInput;
use crate::chain::Transform;
use crate::compile::Contract;
use crate::fault::Fault;
use crate::instance::{CallFailure, Instance};
use crate::logs::LogBuffer;
use crate::redpanda::PullGuest;
use crate::state::State;
use crate::verdicts::Gathered;
use std::ops::Range;

/// One running guest.
pub(crate) enum Guest {
    /// Of `abi.rs`.
    Flat(Box<Instance>),
    /// Of Redpanda's contract.
    Pull(Box<PullGuest>),
}

impl Guest {
    /// Makes one for the records of `topic` and lets it read its settings.
    pub(crate) async fn start(
        transform: &Transform,
        memory_bytes: usize,
        topic: &str,
    ) -> Result<Self, Fault> {
        Ok(match transform.module().contract() {
            Contract::Millpond => {
                Guest::Flat(Box::new(Instance::start(transform, memory_bytes).await?))
            }
            Contract::Redpanda => {
                Guest::Pull(Box::new(PullGuest::start(transform, memory_bytes, topic).await?))
            }
        })
    }

    /// Whether no batch has been run on it.
    pub(crate) fn is_fresh(&self) -> bool {
        match self {
            Guest::Flat(instance) => instance.fresh,
            Guest::Pull(guest) => guest.fresh,
        }
    }

    /// Runs the records `range` of `whole` and takes the answer into `gathered`.
    pub(crate) async fn call(
        &mut self,
        whole: StageInput<'_>,
        range: Range<usize>,
        cpu_ms: u64,
        transform: &Transform,
        gathered: &mut Gathered,
    ) -> Result<(), CallFailure> {
        match self {
            Guest::Flat(instance) => instance.call(whole, range, cpu_ms, transform, gathered).await,
            Guest::Pull(guest) => guest.call(whole, range, cpu_ms, transform, gathered).await,
        }
    }

    /// Beats that found the guest running in the last call or the start: ms of CPU time, about.
    pub(crate) fn beats_used(&self) -> u64 {
        match self {
            Guest::Flat(instance) => instance.beats_used(),
            Guest::Pull(guest) => guest.beats_used(),
        }
    }

    /// Lends the guest what it remembers, for a call. One of the other contract has no use for it.
    pub(crate) fn lend_state(&mut self, state: Option<Box<State>>) {
        if let Guest::Flat(instance) = self {
            instance.lend_state(state);
        }
    }

    /// Takes back what was lent.
    pub(crate) fn take_state(&mut self) -> Option<Box<State>> {
        match self {
            Guest::Flat(instance) => instance.take_state(),
            Guest::Pull(_) => None,
        }
    }

    /// Its linear memory when it was last looked at.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Guest::Flat(instance) => instance.memory_bytes(),
            Guest::Pull(guest) => guest.memory_bytes(),
        }
    }

    /// What was logged since the last time.
    pub(crate) fn take_logs(&mut self) -> LogBuffer {
        match self {
            Guest::Flat(instance) => instance.take_logs(),
            Guest::Pull(guest) => guest.take_logs(),
        }
    }
}
