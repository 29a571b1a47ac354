//! For tests: never comes back from a record.
//!
//! A record whose value starts with `loop` sets it off; all others are kept.

use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, register};

/// The module.
#[derive(Debug)]
pub struct Hostile;

impl Transform for Hostile {
    fn new(_: &Settings) -> Result<Self, Failure> {
        Ok(Hostile)
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        if record.value_or_empty().starts_with(b"loop") {
            #[allow(clippy::empty_loop)]
            loop {
                std::hint::black_box(0);
            }
        }
        Ok(Verdict::Keep)
    }
}

register!(Hostile);
