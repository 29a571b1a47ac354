//! Says which rules of `wasm-sdk/SPEC.md` its host keeps: one record for each that a call has
//! exercised, `S3 ok` or `S3 failed: why`.
//!
//! It speaks the contract from scratch, without the SDK. Whoever tests a host sends it records
//! whose headers say what to do (see `script.rs` and `core/transform/tests/conformance.rs`), and
//! needs every rule to be said to be kept, and none to be broken. What can only be seen from
//! outside (what becomes of verdicts and emitted records) it provokes, for the tester to look at.
//! It must never say that a rule is kept which it has not seen.

#![cfg(target_arch = "wasm32")]

mod host;
mod input;
mod output;
mod script;

use input::Input;
use output::Output;
use std::cell::{Cell, RefCell};

std::thread_local! {
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Output> = const { RefCell::new(Output::new()) };
    /// What `millpond_alloc` gave and no call has used yet: address and length.
    static GIVEN: Cell<Option<(u32, u32)>> = const { Cell::new(None) };
    static STARTS: Cell<u32> = const { Cell::new(0) };
    static OTHERS_BEFORE_START: Cell<bool> = const { Cell::new(false) };
}

fn alloc(bytes: u32) -> u32 {
    OTHERS_BEFORE_START.set(OTHERS_BEFORE_START.get() || STARTS.get() == 0);
    ROOM.with_borrow_mut(|room| {
        *room = vec![0xaa; bytes as usize + 16];
        let address = (room.as_ptr() as u32).next_multiple_of(16);
        GIVEN.set(Some((address, bytes)));
        address
    })
}

fn init() -> u32 {
    STARTS.set(STARTS.get() + 1);
    script::on_start();
    0
}

/// Runs one call. What holds for the call as a whole is said with its first record.
fn run(address: u32, bytes: u32, timers: bool) -> u64 {
    let given = GIVEN.take();
    ROOM.with_borrow(|room| {
        OUTPUT.with_borrow_mut(|output| {
            output.start();
            let started = STARTS.get() == 1 && !OTHERS_BEFORE_START.get();
            output.check("C1", started, "millpond_init was not called once and first");
            let is_given = given == Some((address, bytes));
            output.check("C2", is_given, "the input is not what millpond_alloc gave last");
            output.check("C3", address.is_multiple_of(16), "the address is not a multiple of 16");
            let start = address.wrapping_sub(room.as_ptr() as u32) as usize;
            let Some(bytes) = room.get(start..start.wrapping_add(bytes as usize)) else {
                host::abort("C2 failed: the input is elsewhere");
            };
            let input = Input::new(bytes);
            input.check(output);
            script::on_call(&input, timers, output);
            for index in 0..input.record_count() {
                let kind = script::on_record(&input, index, timers, output);
                output.finish(kind);
            }
            output.encode()
        })
    })
}

#[allow(unsafe_code)]
mod exports {
    // SAFETY, for all: the names are the contract's and nothing else here has them.
    #[unsafe(no_mangle)]
    extern "C" fn millpond_alloc(bytes: u32) -> u32 {
        super::alloc(bytes)
    }

    #[unsafe(no_mangle)]
    extern "C" fn millpond_init() -> u32 {
        super::init()
    }

    #[unsafe(no_mangle)]
    extern "C" fn millpond_transform_v1(address: u32, bytes: u32) -> u64 {
        super::run(address, bytes, false)
    }

    #[unsafe(no_mangle)]
    extern "C" fn millpond_timer_v1(address: u32, bytes: u32) -> u64 {
        super::run(address, bytes, true)
    }
}
