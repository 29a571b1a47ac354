//! Lets a number through when it has moved far enough from the last one that it let through.

use super::memory::Memory;
use crate::{Failure, Record};

/// A dead band around the last number of each key that passed: what stays within it does not pass.
#[derive(Debug)]
pub struct DeadBand {
    absolute: f64,
    relative: f64,
    memory: Memory,
}

impl DeadBand {
    /// A number passes if it differs by more than `absolute` and by more than `relative` times the
    /// size of the last that passed. With both 0 any change passes.
    ///
    /// # Errors
    /// Either is below 0, or not a number.
    pub fn new(absolute: f64, relative: f64) -> Result<Self, Failure> {
        let is_fit = |width: f64| width >= 0.0 && width.is_finite();
        if !is_fit(absolute) || !is_fit(relative) {
            return Err(format!("a dead band of {absolute} and {relative}: 0 or more each").into());
        }
        Ok(DeadBand { absolute, relative, memory: Memory::new(b'b') })
    }

    /// A number passes, too, when the last that passed is this much older.
    pub fn max_silence_ms(mut self, silence_ms: i64) -> Self {
        self.memory.max_silence_ms(silence_ms);
        self
    }

    /// A key is forgotten when the watermark is this far beyond the last number that passed; its
    /// next number passes. Without this each key is remembered for ever.
    pub fn forget_after_ms(mut self, after_ms: i64) -> Self {
        self.memory.forget_after_ms(after_ms);
        self
    }

    /// The first byte of its entries in the state, `b` unless said.
    pub fn namespace(mut self, namespace: u8) -> Self {
        self.memory.namespace(namespace);
        self
    }

    /// Whether the record, which says this number of this key, passes.
    ///
    /// # Errors
    /// Not a number; or the state is full, or was written by another version of the module.
    pub fn passes(&mut self, record: &Record<'_>, key: &[u8], value: f64) -> Result<bool, Failure> {
        if value.is_nan() {
            return Err("the value is not a number".into());
        }
        let (absolute, relative) = (self.absolute, self.relative);
        self.memory.passes(record, key, &value.to_le_bytes(), |last| {
            let last = last.try_into().map_or(f64::NAN, f64::from_le_bytes);
            let stays = (value - last).abs() <= absolute.max(relative * last.abs());
            // Two infinities differ by NaN.
            value != last && !stays
        })
    }
}
