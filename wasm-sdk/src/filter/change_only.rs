//! Lets through what differs from the last that it let through.

use super::memory::Memory;
use crate::{Failure, Record};

/// Passes what is not the same bytes as the last of its key that passed.
#[derive(Debug)]
pub struct ChangeOnly {
    memory: Memory,
}

impl Default for ChangeOnly {
    fn default() -> Self {
        ChangeOnly { memory: Memory::new(b'c') }
    }
}

impl ChangeOnly {
    /// What is the same passes, too, when the last that passed is this much older.
    pub fn max_silence_ms(mut self, silence_ms: i64) -> Self {
        self.memory.max_silence_ms(silence_ms);
        self
    }

    /// A key is forgotten when the watermark is this far beyond the last that passed; its next
    /// record passes. Without this each key is remembered for ever.
    pub fn forget_after_ms(mut self, after_ms: i64) -> Self {
        self.memory.forget_after_ms(after_ms);
        self
    }

    /// The first byte of its entries in the state, `c` unless said.
    pub fn namespace(mut self, namespace: u8) -> Self {
        self.memory.namespace(namespace);
        self
    }

    /// Whether the record, which says these bytes of this key (its value, or a field of it),
    /// passes. The bytes are kept whole: no change is ever mistaken for none.
    ///
    /// # Errors
    /// The state is full, or was written by another version of the module.
    pub fn passes(
        &mut self,
        record: &Record<'_>,
        key: &[u8],
        what: &[u8],
    ) -> Result<bool, Failure> {
        self.memory.passes(record, key, what, |last| last != what)
    }
}
