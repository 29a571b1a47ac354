//! What a guest may call, and the state of the host that stands behind an instance.
//!
//! Every pointer and length that comes from a guest is checked against its memory here before it
//! is used; none is kept.

use crate::abi;
use crate::fault::{Fault, Lie};
use crate::host::MemoryPool;
use crate::logs::{Level, LogBuffer, LogQuota, printable};
use crate::redpanda::{self, Desk};
use crate::state::State;
use crate::{helper_imports, state_imports};
use millpond_wire::limits as caps;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use thiserror::Error;
use wasmtime::{Caller, Engine, Extern, Linker, Memory, ResourceLimiter, UpdateDeadline};

/// What ends a call from within.
#[derive(Debug, Error)]
pub(crate) enum Stop {
    #[error("aborted: {0}")]
    Abort(String),
    #[error("out of CPU time")]
    Overrun,
    #[error("{0}")]
    Fault(Fault),
}

/// The host's side of one instance.
pub(crate) struct GuestState {
    pub(crate) memory: MemoryLimit,
    pub(crate) settings: Arc<BTreeMap<String, String>>,
    pub(crate) logs: LogBuffer,
    pub(crate) quota: Arc<LogQuota>,
    /// Beats that the call may still take.
    pub(crate) beats_left: u64,
    /// Bytes that the host looked at for the guest, as far as no beat was taken for them.
    pub(crate) helped_bytes: usize,
    /// The guest's memory, once it was looked up.
    pub(crate) exported: Option<Memory>,
    /// What the guest remembers, lent to it for a call.
    pub(crate) state: Option<Box<State>>,
    /// Whether the guest runs timers.
    pub(crate) has_timers: bool,
    /// Of a guest of Redpanda's contract.
    pub(crate) desk: Option<Arc<Mutex<Desk>>>,
}

impl GuestState {
    /// A beat has come while the guest ran: let others run, or stop it.
    pub(crate) fn beat(&mut self) -> wasmtime::Result<UpdateDeadline> {
        match self.beats_left.checked_sub(1) {
            Some(left) if left > 0 => {
                self.beats_left = left;
                Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
            }
            _ => {
                self.beats_left = 0;
                Err(wasmtime::Error::new(Stop::Overrun))
            }
        }
    }

    /// Takes CPU time for work of the host, which no beat interrupts, by its size.
    pub(crate) fn charge(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.helped_bytes += bytes;
        let beats = self.helped_bytes / caps::TRANSFORM_HELPER_BYTES_PER_MS;
        if beats == 0 {
            return Ok(());
        }
        self.helped_bytes %= caps::TRANSFORM_HELPER_BYTES_PER_MS;
        self.beats_left = self.beats_left.saturating_sub(beats as u64);
        if self.beats_left == 0 {
            return Err(wasmtime::Error::new(Stop::Overrun));
        }
        Ok(())
    }
}

/// Holds an instance to its memory limit, and all of them to the node's.
pub(crate) struct MemoryLimit {
    pool: Arc<MemoryPool>,
    taken: usize,
    limit: usize,
    /// The guest was refused memory by its own limit.
    pub(crate) refused: bool,
    /// The guest was refused memory by the node's.
    pub(crate) pool_empty: bool,
}

impl MemoryLimit {
    pub(crate) fn new(pool: Arc<MemoryPool>, limit: usize) -> Self {
        MemoryLimit { pool, taken: 0, limit, refused: false, pool_empty: false }
    }

    /// What was refused in an earlier call explains nothing about this one.
    pub(crate) fn start_call(&mut self) {
        self.refused = false;
        self.pool_empty = false;
    }

    pub(crate) fn pool_bytes(&self) -> usize {
        self.pool.limit_bytes()
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit
    }

    /// Memory that the instance has.
    pub(crate) fn taken_bytes(&self) -> usize {
        self.taken
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.pool.give_back(self.taken);
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.limit {
            self.refused = true;
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        if !self.pool.take(more) {
            self.pool_empty = true;
            return Ok(false);
        }
        self.taken += more;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= caps::TRANSFORM_TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        4
    }
}

/// The imports of `abi.rs`, and those of Redpanda's contract.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_LOG, log)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_ABORT, abort)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_SETTING, setting)?;
    state_imports::link(&mut linker)?;
    helper_imports::link(&mut linker)?;
    redpanda::link(&mut linker)?;
    Ok(linker)
}

fn log(
    mut caller: Caller<'_, GuestState>,
    level: u32,
    address: u32,
    bytes: u32,
) -> wasmtime::Result<()> {
    let (memory, state) = memory_and_state(&mut caller)?;
    let text = slice(memory, "a log line", address, u64::from(bytes)).map_err(stop)?;
    let quota = Arc::clone(&state.quota);
    state.logs.push(Level::from_number(level), text, &quota);
    Ok(())
}

fn abort(mut caller: Caller<'_, GuestState>, address: u32, bytes: u32) -> wasmtime::Result<()> {
    let (memory, _) = memory_and_state(&mut caller)?;
    let text = slice(memory, "an abort message", address, u64::from(bytes)).map_err(stop)?;
    let message = printable(text, caps::TRANSFORM_ERROR_BYTES_MAX);
    Err(wasmtime::Error::new(Stop::Abort(message)))
}

fn setting(
    mut caller: Caller<'_, GuestState>,
    key: u32,
    key_bytes: u32,
    buffer: u32,
    buffer_bytes: u32,
) -> wasmtime::Result<i32> {
    let (memory, state) = memory_and_state(&mut caller)?;
    let key = slice(memory, "a setting's key", key, u64::from(key_bytes)).map_err(stop)?;
    let room = range("a setting's buffer", memory.len(), buffer, u64::from(buffer_bytes));
    let room = room.map_err(stop)?;
    let settings = Arc::clone(&state.settings);
    let value = std::str::from_utf8(key).ok().and_then(|key| settings.get(key));
    let Some(value) = value else {
        return Ok(-1);
    };
    let room = memory.get_mut(room).unwrap_or_default();
    if let Some(place) = room.get_mut(..value.len()) {
        place.copy_from_slice(value.as_bytes());
    }
    Ok(i32::try_from(value.len()).unwrap_or(-1))
}

pub(crate) fn memory_and_state<'a>(
    caller: &'a mut Caller<'_, GuestState>,
) -> wasmtime::Result<(&'a mut [u8], &'a mut GuestState)> {
    if let Some(memory) = caller.data().exported {
        return Ok(memory.data_and_store_mut(caller));
    }
    match caller.get_export(abi::EXPORT_MEMORY) {
        Some(Extern::Memory(memory)) => {
            caller.data_mut().exported = Some(memory);
            Ok(memory.data_and_store_mut(caller))
        }
        // Only while a module's start function runs before its exports stand.
        _ => Err(wasmtime::Error::new(Stop::Abort("the memory is not exported".to_string()))),
    }
}

pub(crate) fn stop(lie: Lie) -> wasmtime::Error {
    wasmtime::Error::new(Stop::Fault(lie.into()))
}

/// A piece of a guest's memory, if it is one.
pub(crate) fn slice<'a>(
    memory: &'a [u8],
    what: &'static str,
    address: u32,
    bytes: u64,
) -> Result<&'a [u8], Lie> {
    let range = range(what, memory.len(), address, bytes)?;
    Ok(memory.get(range).unwrap_or_default())
}

/// A range within a guest's memory of this size, if it is one.
pub(crate) fn range(
    what: &'static str,
    memory_bytes: usize,
    address: u32,
    bytes: u64,
) -> Result<std::ops::Range<usize>, Lie> {
    let end = u64::from(address).saturating_add(bytes);
    if end > memory_bytes as u64 {
        return Err(Lie::OutOfBounds { what, address, bytes, memory_bytes });
    }
    Ok(address as usize..end as usize)
}
