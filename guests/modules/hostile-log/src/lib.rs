//! For tests: floods the log with long lines.
//!
//! A record whose value starts with `log` sets it off; all others are kept.

use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, register};

/// The module.
#[derive(Debug)]
pub struct Hostile;

impl Transform for Hostile {
    fn new(_: &Settings) -> Result<Self, Failure> {
        Ok(Hostile)
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        if record.value_or_empty().starts_with(b"log") {
            let line = "flood ".repeat(1_000);
            for _ in 0..10_000 {
                millpond_sdk::log(millpond_sdk::Level::Error, &line);
            }
        }
        Ok(Verdict::Keep)
    }
}

register!(Hostile);
