//! Lets each key through once in a time.

use super::memory::Memory;
use crate::{Failure, Record};

/// Drops what was seen already: of records of one key less than `within_ms` apart, the first of
/// the log passes.
#[derive(Debug)]
pub struct Dedup {
    within_ms: i64,
    lateness_ms: i64,
    memory: Memory,
}

impl Dedup {
    /// A record is a duplicate if less than `within_ms` lies between its time and that of the last
    /// record of its key that passed, before or after.
    ///
    /// # Errors
    /// Less than 1 ms.
    pub fn new(within_ms: i64) -> Result<Self, Failure> {
        if within_ms < 1 {
            return Err(format!("duplicates within {within_ms} ms: 1 or more").into());
        }
        Ok(Dedup { within_ms, lateness_ms: 0, memory: Memory::new(b'd') })
    }

    /// How far behind the watermark a record may be and still be known as a duplicate: a key is
    /// remembered for that much longer. 0 unless said.
    pub fn allowed_lateness_ms(mut self, lateness_ms: i64) -> Self {
        self.lateness_ms = lateness_ms.max(0);
        self
    }

    /// The first byte of its entries in the state, `d` unless said.
    pub fn namespace(mut self, namespace: u8) -> Self {
        self.memory.namespace(namespace);
        self
    }

    /// Whether the record is the first of this key.
    ///
    /// # Errors
    /// The state is full, or was written by another version of the module.
    pub fn is_first(&mut self, record: &Record<'_>, key: &[u8]) -> Result<bool, Failure> {
        let at_ms = record.timestamp_ms();
        if let Some(passed) = self.memory.recall(key)? {
            if at_ms.abs_diff(passed.at_ms) < self.within_ms.unsigned_abs() {
                return Ok(false);
            }
            // Older by more than the time: it passes, but the newer one stays what is remembered.
            if at_ms < passed.at_ms {
                return Ok(true);
            }
        }
        let kept_ms = self.within_ms.saturating_add(self.lateness_ms);
        self.memory.remember(at_ms, b"", Some(at_ms.saturating_add(kept_ms)))?;
        Ok(true)
    }
}
