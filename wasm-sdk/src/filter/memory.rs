//! What a filter remembers of a key: when a record last passed, and what it was.

use crate::bytes::{Reader, write_signed};
use crate::state;
use crate::{Failure, Record};

#[derive(Debug)]
pub(super) struct Memory {
    namespace: u8,
    max_silence_ms: Option<i64>,
    forget_after_ms: Option<i64>,
    key: Vec<u8>,
    value: Vec<u8>,
    scratch: Vec<u8>,
}

/// What passed last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed<'a> {
    pub(super) at_ms: i64,
    pub(super) what: &'a [u8],
}

impl Memory {
    pub(super) fn new(namespace: u8) -> Self {
        Memory {
            namespace,
            max_silence_ms: None,
            forget_after_ms: None,
            key: Vec::new(),
            value: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn namespace(&mut self, namespace: u8) {
        self.namespace = namespace;
    }

    pub(super) fn max_silence_ms(&mut self, silence_ms: i64) {
        self.max_silence_ms = Some(silence_ms.max(0));
    }

    pub(super) fn forget_after_ms(&mut self, after_ms: i64) {
        self.forget_after_ms = Some(after_ms.max(1));
    }

    /// Lets a record pass if nothing is remembered of its key, if the silence is too long, or if
    /// `is_new` says so of what passed last. Then `what` is remembered of it.
    pub(super) fn passes(
        &mut self,
        record: &Record<'_>,
        key: &[u8],
        what: &[u8],
        is_new: impl FnOnce(&[u8]) -> bool,
    ) -> Result<bool, Failure> {
        let at_ms = record.timestamp_ms();
        let max_silence_ms = self.max_silence_ms;
        let last = self.recall(key)?;
        let mut last_ms = at_ms;
        if let Some(Passed { at_ms: before_ms, what }) = last {
            last_ms = last_ms.max(before_ms);
            let silence_ms = at_ms.saturating_sub(before_ms);
            let is_silent = max_silence_ms.is_some_and(|max_ms| silence_ms >= max_ms);
            if !is_silent && !is_new(what) {
                return Ok(false);
            }
        }
        let expires_ms = self.forget_after_ms.map(|after_ms| last_ms.saturating_add(after_ms));
        self.remember(last_ms, what, expires_ms)?;
        Ok(true)
    }

    /// What is remembered of a key, which is in hand from now on.
    pub(super) fn recall(&mut self, key: &[u8]) -> Result<Option<Passed<'_>>, Failure> {
        self.key.clear();
        self.key.push(self.namespace);
        self.key.extend_from_slice(key);
        let Some(found) = state::get(&self.key, &mut self.scratch) else {
            return Ok(None);
        };
        let mut reader = Reader::new(found);
        match (reader.byte(), reader.signed()) {
            (Some(STATE_VERSION), Some(at_ms)) => Ok(Some(Passed { at_ms, what: reader.rest() })),
            _ => Err("what the filter finds in the state was written by another version of this \
                      module: deploy it under a new name, or delete its state"
                .into()),
        }
    }

    /// Remembers something of the key in hand.
    pub(super) fn remember(
        &mut self,
        at_ms: i64,
        what: &[u8],
        expires_ms: Option<i64>,
    ) -> Result<(), Failure> {
        self.value.clear();
        self.value.push(STATE_VERSION);
        write_signed(&mut self.value, at_ms);
        self.value.extend_from_slice(what);
        match expires_ms {
            Some(expires_ms) => state::put_until(&self.key, &self.value, expires_ms)?,
            None => state::put(&self.key, &self.value)?,
        }
        Ok(())
    }
}

const STATE_VERSION: u8 = 1;
