//! For tests: makes a thousand records of one.
//!
//! A record whose value starts with `flood` sets it off; all others are kept. The thousand are
//! copies of it: what a small one makes is within the limits on output, what a large one makes is
//! not.

use millpond_sdk::{Emit, Failure, Output, Record, Settings, Transform, Verdict, register};

/// Copies of a record.
const COPIES: usize = 1_000;

/// The module.
#[derive(Debug)]
pub struct Hostile;

impl Transform for Hostile {
    fn new(_: &Settings) -> Result<Self, Failure> {
        Ok(Hostile)
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        if !record.value_or_empty().starts_with(b"flood") {
            return Ok(Verdict::Keep);
        }
        let copy = Emit::copy_of(record);
        for _ in 0..COPIES {
            out.emit(&copy);
        }
        Ok(Verdict::Drop)
    }
}

register!(Hostile);
