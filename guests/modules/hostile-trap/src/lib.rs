//! For tests: ends in a trap.
//!
//! A record whose value starts with `trap` runs into `unreachable`, one that starts with `panic`
//! panics with a message, one that starts with `fail` fails in order, one with `stack` recurses
//! until the stack ends; all others are kept.

use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, register};

/// The module.
#[derive(Debug)]
pub struct Hostile;

impl Transform for Hostile {
    fn new(_: &Settings) -> Result<Self, Failure> {
        Ok(Hostile)
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        let value = record.value_or_empty();
        if value.starts_with(b"trap") {
            trap();
        }
        if value.starts_with(b"panic") {
            panic!("told to");
        }
        if value.starts_with(b"stack") {
            recurse(value.len() as u64);
        }
        if value.starts_with(b"fail") {
            return Err("told to fail".into());
        }
        Ok(Verdict::Keep)
    }
}

fn trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = [std::hint::black_box(depth); 32];
    recurse(depth + 1) + std::hint::black_box(frame)[7]
}

register!(Hostile);
