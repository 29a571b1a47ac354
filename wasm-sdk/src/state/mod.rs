//! State that outlives the instance: keys and values, per partition, kept by the broker in the
//! same journal entry as the output that they belong to.
//!
//! What a call changes stands at once and is undone if the call traps. A record that *fails*
//! undoes nothing: decide first, then put. Never count on anything that is not put here.
//!
//! ```
//! use millpond_sdk::{Failure, state};
//!
//! /// How often this key was seen; goes on the stack and into one buffer that is used again.
//! fn seen(key: &[u8], scratch: &mut Vec<u8>) -> Result<u64, Failure> {
//!     let before = state::get(key, scratch).and_then(|value| value.try_into().ok());
//!     let now = before.map_or(0, u64::from_le_bytes) + 1;
//!     state::put(key, &now.to_le_bytes())?;
//!     Ok(now)
//! }
//! ```

mod cache;
#[cfg(target_arch = "wasm32")]
pub(crate) mod imports;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod memory;
mod range;

#[cfg(target_arch = "wasm32")]
pub(crate) use imports as raw;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use memory as raw;

pub(crate) use cache::end_call;
pub use range::{Range, range};

use crate::abi;
use core::fmt;

/// Why nothing was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateError {
    /// The state of this partition has reached the limit `state_bytes` of the transform; or there
    /// is none yet (in `Transform::new`), or no timers (the module is registered without).
    Full,
    /// The key or the value is longer than the broker takes.
    TooLong,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StateError::Full => {
                "the transform's state is full: raise its limit `state_bytes`, or keep less"
            }
            StateError::TooLong => "the key or the value is too long for the transform's state",
        })
    }
}

impl std::error::Error for StateError {}

pub(crate) fn put_result(code: u32) -> Result<(), StateError> {
    match code {
        abi::STATE_DONE => Ok(()),
        abi::STATE_TOO_LONG => Err(StateError::TooLong),
        _ => Err(StateError::Full),
    }
}

/// The value of a key. It stands in `scratch`, which is grown if need be and not to be read
/// otherwise: keep one and pass it each time, and nothing is allocated.
pub fn get<'s>(key: &[u8], scratch: &'s mut Vec<u8>) -> Option<&'s [u8]> {
    let room = scratch.capacity().max(SCRATCH_BYTES_MIN);
    scratch.resize(room, 0);
    loop {
        let bytes = usize::try_from(cache::get(key, scratch)).ok()?;
        if bytes <= scratch.len() {
            return scratch.get(..bytes);
        }
        scratch.resize(bytes, 0);
    }
}

/// Whether there is such a key.
pub fn contains(key: &[u8]) -> bool {
    cache::get(key, &mut []) >= 0
}

/// Writes an entry that stays until it is written again or deleted.
///
/// # Errors
/// The state is full, or the entry too long; nothing changed.
pub fn put(key: &[u8], value: &[u8]) -> Result<(), StateError> {
    put_result(cache::put(key, value, 0))
}

/// Writes an entry that is gone once the partition's watermark reaches `expires_ms`; timers that
/// come due with it still find it.
///
/// # Errors
/// The state is full, or the entry too long; nothing changed.
pub fn put_until(key: &[u8], value: &[u8], expires_ms: i64) -> Result<(), StateError> {
    // 0 says never. What is to expire at or before 1970 expires a millisecond earlier or later.
    let expires_ms = if expires_ms == 0 { -1 } else { expires_ms };
    put_result(cache::put(key, value, expires_ms))
}

/// Deletes an entry. Gives whether it was there.
pub fn delete(key: &[u8]) -> bool {
    cache::delete(key) == 1
}

/// Enough for most aggregates at the first try.
const SCRATCH_BYTES_MIN: usize = 128;
