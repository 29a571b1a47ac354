//! For tests: takes and touches memory until there is none left.
//!
//! A record whose value starts with `memory` sets it off; all others are kept.

use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, register};

/// The module.
#[derive(Debug)]
pub struct Hostile;

impl Transform for Hostile {
    fn new(_: &Settings) -> Result<Self, Failure> {
        Ok(Hostile)
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        if record.value_or_empty().starts_with(b"memory") {
            let mut taken = Vec::new();
            loop {
                taken.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&taken);
            }
        }
        Ok(Verdict::Keep)
    }
}

register!(Hostile);
