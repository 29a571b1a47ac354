//! One running guest: its memory, its limits, one call at a time.
//!
//! After any failure an instance must never be called again; [`Instance::call`] cannot say so in
//! its type, its one caller drops it.

use crate::abi;
use crate::batch_buffer::{self, StageInput};
use crate::chain::Transform;
use crate::fault::{Fault, Lie};
use crate::imports::{GuestState, MemoryLimit, Stop, range};
use crate::logs::LogBuffer;
use crate::redpanda::Desk;
use crate::state::State;
use crate::verdicts::{self, Gathered};
use millpond_wire::limits as caps;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wasmtime::{AsContext, Error, Memory, Store, Trap, TypedFunc};

/// One running guest.
pub(crate) struct Instance {
    store: Store<GuestState>,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    transform: TypedFunc<(u32, u32), u64>,
    timer: Option<TypedFunc<(u32, u32), u64>>,
    /// Where the guest says which record is in hand.
    progress: Option<u32>,
    /// Whether no batch has been run on it.
    pub(crate) fresh: bool,
    /// Beats that the last call, or the start, was given.
    beats: u64,
}

/// Why a call failed, and what the guest last said about where it was.
#[derive(Debug)]
pub(crate) struct CallFailure {
    pub(crate) fault: Fault,
    /// Index in the part that was run. The guest's word: to be tried, not believed.
    pub(crate) hint: Option<usize>,
}

impl Instance {
    /// Makes one and lets it read its settings.
    pub(crate) async fn start(transform: &Transform, memory_bytes: usize) -> Result<Self, Fault> {
        let mut store = new_store(transform, memory_bytes, None);
        let pre = &transform.module().pre;
        let instance = match pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return Err(init_fault(fault_of(&error, &store, None))),
        };
        // The types were checked when the module was compiled.
        let missing = |error: Error| init_fault(Fault::Trap(format!("{error:#}")));
        let memory = instance
            .get_memory(&mut store, abi::EXPORT_MEMORY)
            .ok_or_else(|| init_fault(Fault::Trap("no memory".to_string())))?;
        let alloc = instance.get_typed_func(&mut store, abi::EXPORT_ALLOC).map_err(missing)?;
        let function =
            instance.get_typed_func(&mut store, abi::EXPORT_TRANSFORM).map_err(missing)?;
        let timer = instance.get_typed_func(&mut store, abi::EXPORT_TIMER).ok();
        store.data_mut().has_timers = timer.is_some();
        store.data_mut().exported = Some(memory);
        let init = instance.get_typed_func::<(), u32>(&mut store, abi::EXPORT_INIT).ok();
        let where_progress =
            instance.get_typed_func::<(), u32>(&mut store, abi::EXPORT_PROGRESS).ok();
        let mut guest = Instance {
            store,
            memory,
            alloc,
            transform: function,
            timer,
            progress: None,
            fresh: true,
            beats: caps::TRANSFORM_INIT_CPU_MS,
        };
        if let Some(init) = init
            && let code @ 1.. = guest.call_plain(&init).await?
        {
            return Err(init_fault(Fault::Abort(format!("millpond_init gave {code}"))));
        }
        if let Some(where_progress) = where_progress {
            guest.progress = Some(guest.call_plain(&where_progress).await?);
        }
        Ok(guest)
    }

    async fn call_plain(&mut self, function: &TypedFunc<(), u32>) -> Result<u32, Fault> {
        match function.call_async(&mut self.store, ()).await {
            Ok(value) => Ok(value),
            Err(error) => Err(init_fault(fault_of(&error, &self.store, None))),
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
        self.fresh = false;
        self.beats = cpu_ms.max(1);
        let state = self.store.data_mut();
        state.beats_left = self.beats;
        state.helped_bytes = 0;
        state.memory.start_call();
        self.store.set_epoch_deadline(1);
        let answer = match self.run(whole.part(range.clone())).await {
            Ok(answer) => answer,
            Err(RunError::Fault(fault)) => return Err(CallFailure { fault, hint: None }),
            Err(RunError::Wasm(error)) => {
                let fault = fault_of(&error, &self.store, Some(cpu_ms));
                return Err(CallFailure { fault, hint: self.hint(range.len()) });
            }
        };
        let memory = self.memory.data(&self.store);
        verdicts::read(memory, answer, whole.rows, range, transform.spec(), gathered)
            .map_err(|fault| CallFailure { fault, hint: None })
    }

    async fn run(&mut self, input: StageInput<'_>) -> Result<u64, RunError> {
        let no_room = |bytes| RunError::Fault(Lie::NoRoom { bytes }.into());
        let layout = batch_buffer::layout(&input).ok_or_else(|| no_room(usize::MAX))?;
        let bytes = layout.total_bytes;
        let address = self.alloc.call_async(&mut self.store, bytes).await?;
        if address == 0 {
            return Err(no_room(bytes as usize));
        }
        if !(address as usize).is_multiple_of(abi::INPUT_ALIGN) {
            return Err(RunError::Fault(Lie::Unaligned { address }.into()));
        }
        let memory = self.memory.data_mut(&mut self.store);
        let place = range("the input", memory.len(), address, u64::from(bytes))
            .map_err(|lie| RunError::Fault(lie.into()))?;
        let room = memory.get_mut(place).unwrap_or_default();
        batch_buffer::write(&input, &layout, room).ok_or_else(|| no_room(bytes as usize))?;
        let function = match &self.timer {
            Some(timer) if input.timers => timer,
            _ => &self.transform,
        };
        Ok(function.call_async(&mut self.store, (address, bytes)).await?)
    }

    fn hint(&self, records: usize) -> Option<usize> {
        let memory = self.memory.data(&self.store);
        let start = self.progress? as usize;
        let bytes: [u8; 4] = memory.get(start..start.checked_add(4)?)?.try_into().ok()?;
        let index = u32::from_le_bytes(bytes) as usize;
        (index < records).then_some(index)
    }

    /// Beats that found the guest running in the last call or the start: ms of CPU time, about.
    pub(crate) fn beats_used(&self) -> u64 {
        self.beats.saturating_sub(self.store.data().beats_left)
    }

    /// Lends the guest what it remembers, for a call.
    pub(crate) fn lend_state(&mut self, state: Option<Box<State>>) {
        self.store.data_mut().state = state;
    }

    /// Takes back what was lent.
    pub(crate) fn take_state(&mut self) -> Option<Box<State>> {
        self.store.data_mut().state.take()
    }

    /// Its linear memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().memory.taken_bytes()
    }

    /// What was logged since the last time.
    pub(crate) fn take_logs(&mut self) -> LogBuffer {
        std::mem::take(&mut self.store.data_mut().logs)
    }
}

/// The host's side of a guest, with its limits.
pub(crate) fn new_store(
    transform: &Transform,
    memory_bytes: usize,
    desk: Option<Arc<Mutex<Desk>>>,
) -> Store<GuestState> {
    let host = transform.host();
    let state = GuestState {
        memory: MemoryLimit::new(host.memory_pool(), memory_bytes),
        settings: transform.settings(),
        logs: LogBuffer::default(),
        quota: transform.log_quota(),
        beats_left: caps::TRANSFORM_INIT_CPU_MS,
        helped_bytes: 0,
        exported: None,
        state: None,
        has_timers: false,
        desk,
    };
    let mut store = Store::new(host.engine(), state);
    store.limiter(|state| &mut state.memory);
    store.epoch_deadline_callback(|mut context| context.data_mut().beat());
    store.set_epoch_deadline(1);
    store
}

enum RunError {
    Fault(Fault),
    Wasm(Error),
}

impl From<Error> for RunError {
    fn from(error: Error) -> Self {
        RunError::Wasm(error)
    }
}

pub(crate) fn init_fault(fault: Fault) -> Fault {
    match fault {
        Fault::Unavailable { .. } | Fault::Init(_) => fault,
        other => Fault::Init(Box::new(other)),
    }
}

/// What an error of the engine means.
pub(crate) fn fault_of(
    error: &Error,
    store: &impl AsContext<Data = GuestState>,
    cpu_ms: Option<u64>,
) -> Fault {
    let context = store.as_context();
    let memory = &context.data().memory;
    let stop = error.downcast_ref::<Stop>();
    if let Some(Stop::Overrun) = stop {
        return Fault::Overrun { cpu_ms: cpu_ms.unwrap_or(caps::TRANSFORM_INIT_CPU_MS) };
    }
    if memory.pool_empty {
        return Fault::Unavailable { limit_bytes: memory.pool_bytes() };
    }
    match stop {
        // A guest that runs out of memory traps or aborts right after.
        _ if memory.refused => Fault::Memory { limit_bytes: memory.limit_bytes() },
        Some(Stop::Abort(message)) => Fault::Abort(message.clone()),
        Some(Stop::Fault(fault)) => fault.clone(),
        _ => match error.downcast_ref::<Trap>() {
            Some(trap) => Fault::Trap(trap.to_string()),
            None => Fault::Trap(format!("{error:#}")),
        },
    }
}

/// A future's result and the time spent in it, waits excluded.
pub(crate) async fn timed<F: Future>(future: F) -> (F::Output, Duration) {
    let mut future = pin!(future);
    let mut spent = Duration::ZERO;
    let output = poll_fn(|context| {
        let started = Instant::now();
        let polled = future.as_mut().poll(context);
        spent += started.elapsed();
        polled
    })
    .await;
    (output, spent)
}
