//! What `register!` makes the module's exports of. Authors never call it.
//!
//! Owns the input buffer and the output between calls; reads no memory that it does not own.

use crate::abi;
use crate::host;
use crate::output::{Addresses, Output, Verdict};
use crate::record::{Input, Record};
use crate::settings::Settings;
use crate::state;
use crate::timers::Timer;
use crate::{Failure, Timed, Transform};
use core::sync::atomic::{AtomicU32, Ordering};

/// The index of the record in hand; the host reads it after a trap. Atomic so that the store is
/// made although nothing in the module reads it.
static PROGRESS: AtomicU32 = AtomicU32::new(0);

/// One instance of the module.
#[derive(Debug)]
pub struct Guest<T> {
    transform: Option<T>,
    input: Vec<u8>,
    /// The aligned part of `input` that the host was given.
    given: (usize, usize),
    output: Output,
}

impl<T: Transform> Default for Guest<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Transform> Guest<T> {
    /// Before anything was called.
    pub const fn new() -> Self {
        Guest { transform: None, input: Vec::new(), given: (0, 0), output: Output::new() }
    }

    /// `millpond_alloc`.
    pub fn alloc(&mut self, bytes: u32) -> u32 {
        let needed = bytes as usize + abi::INPUT_ALIGN;
        if self.input.len() < needed {
            self.input = Vec::new();
            if self.input.try_reserve_exact(needed).is_err() {
                self.given = (0, 0);
                return 0;
            }
            self.input.resize(needed, 0);
        }
        let address = self.input.as_ptr() as usize;
        let start = address.next_multiple_of(abi::INPUT_ALIGN) - address;
        self.given = (start, bytes as usize);
        (address + start) as u32
    }

    /// `millpond_init`.
    pub fn init(&mut self) -> u32 {
        install_panic_hook();
        match T::new(&Settings::from_host()) {
            Ok(transform) => {
                self.transform = Some(transform);
                0
            }
            Err(failure) => host::abort(failure.message()),
        }
    }

    /// `millpond_transform_v1`.
    pub fn transform(&mut self, pointer: u32, bytes: u32) -> u64 {
        self.run(pointer, bytes, run_batch)
    }

    fn run(&mut self, pointer: u32, bytes: u32, run: Run<T>) -> u64 {
        if self.transform.is_none() {
            self.init();
        }
        let (start, len) = self.given;
        let input = &self.input[start..start + len];
        if pointer != input.as_ptr() as usize as u32 || bytes as usize != len {
            host::abort("the input is not where millpond_alloc said");
        }
        let Some(transform) = &mut self.transform else {
            host::abort("the module is not initialised");
        };
        run(transform, input, &mut self.output);
        if self.output.is_untouched() {
            return 0;
        }
        let input_address = input.as_ptr() as usize as u32;
        let encoded = self.output.encode(|parts| Addresses {
            input: input_address,
            arena: parts.arena.as_ptr() as usize as u32,
            verdicts: parts.verdicts.as_ptr() as usize as u32,
            encoded: parts.encoded.as_ptr() as usize as u32,
        });
        ((encoded.as_ptr() as usize as u64) << 32) | encoded.len() as u64
    }
}

impl<T: Timed> Guest<T> {
    /// `millpond_timer_v1`.
    pub fn timer(&mut self, pointer: u32, bytes: u32) -> u64 {
        self.run(pointer, bytes, run_timers)
    }
}

/// [`run_batch`] or [`run_timers`].
pub(crate) type Run<T> = fn(&mut T, &[u8], &mut Output);

/// `millpond_progress`.
pub fn progress_address() -> u32 {
    (&raw const PROGRESS) as usize as u32
}

/// Runs a transform on an input buffer: the same code in a module and in a native test.
pub(crate) fn run_batch<T: Transform>(transform: &mut T, input: &[u8], output: &mut Output) {
    run_each(input, output, |record, output| transform.on_record(record, output));
}

/// Runs the timers of an input buffer. A timer is spent in any case; to keep says so at no cost.
pub(crate) fn run_timers<T: Timed>(transform: &mut T, input: &[u8], output: &mut Output) {
    run_each(input, output, |record, output| {
        transform.on_timer(&Timer::of(*record), output).map(|()| Verdict::Keep)
    });
}

fn run_each(
    input: &[u8],
    output: &mut Output,
    mut each: impl FnMut(&Record<'_>, &mut Output) -> Result<Verdict, Failure>,
) {
    let Some(input) = Input::parse(input) else {
        host::abort("the input does not follow the contract");
    };
    output.start_batch(input.bytes(), input.record_count());
    for (index, record) in input.records().enumerate() {
        PROGRESS.store(index as u32, Ordering::Relaxed);
        let Some(record) = record else {
            host::abort("a record of the input points outside of it");
        };
        let result = each(&record, output);
        output.finish_record(result);
    }
    state::end_call();
}

/// Makes a panic's message reach the log and the dead-letter record.
fn install_panic_hook() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(Box::new(|panic| host::abort(&panic.to_string())));
}
