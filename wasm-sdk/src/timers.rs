//! Calls of the module's own, at a time that the partition's watermark reaches.
//!
//! Needs `register!(Type, timers)` and an implementation of [`Timed`](crate::Timed). There is no
//! other clock: a partition to which nothing is sent stands still, unless the transform's limit
//! `idle_timeout_ms` lets it move on.

use crate::record::Record;
use crate::state::{StateError, put_result, raw};

/// Sets a timer. Time and key together are the timer: setting it twice is setting it once.
///
/// # Errors
/// The state is full, the key too long, or the module registered without timers.
pub fn set(at_ms: i64, key: &[u8]) -> Result<(), StateError> {
    put_result(raw::set_timer(at_ms, key))
}

/// Deletes a timer. Gives whether it was there.
pub fn delete(at_ms: i64, key: &[u8]) -> bool {
    raw::delete_timer(at_ms, key) == 1
}

/// A timer that is due. It is spent, whatever becomes of the call.
#[derive(Debug, Clone, Copy)]
pub struct Timer<'a> {
    record: Record<'a>,
}

impl<'a> Timer<'a> {
    pub(crate) fn of(record: Record<'a>) -> Self {
        Timer { record }
    }

    /// The key that it was set with.
    pub fn key(&self) -> &'a [u8] {
        self.record.key().unwrap_or_default()
    }

    /// The time that it was set for, in milliseconds since 1970.
    pub fn at_ms(&self) -> i64 {
        self.record.timestamp_ms()
    }

    /// The watermark that has reached it.
    pub fn watermark_ms(&self) -> Option<i64> {
        self.record.watermark_ms()
    }

    /// Whether this is a replay or a try, of which nothing is stored.
    pub fn is_replay(&self) -> bool {
        self.record.is_replay()
    }

    /// The topic whose time it is.
    pub fn topic(&self) -> &'a str {
        self.record.topic()
    }

    /// The partition whose time it is.
    pub fn partition(&self) -> i32 {
        self.record.partition()
    }
}
