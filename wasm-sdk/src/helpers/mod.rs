//! Work that the broker does faster than a module: fields of JSON, hashes.
//!
//! A call costs some nanoseconds; what it saves grows with the document. [`Numbers`] is the fastest
//! of all: one call for all records. [`json`](crate::json) reads
//! in the module, at the top level of an object alone, and takes the word of its author that the
//! rest is JSON; these follow a pointer into nested values (RFC 6901) and say when what they read
//! on the way is no JSON. In native tests the same answers are computed without a broker.
//!
//! ```
//! use millpond_sdk::helpers::{self, JsonError, Kind};
//! let value = br#"{"id": "pump-7", "load": {"t": [19.5, 21.5]}}"#;
//! assert_eq!(helpers::json_number(value, "/load/t/1"), Ok(21.5));
//! let id = helpers::json_field(value, "/id").unwrap();
//! assert_eq!((id.kind, id.raw), (Kind::String, &b"pump-7"[..]));
//! assert_eq!(helpers::json_number(value, "/id"), Err(JsonError::NotANumber));
//! assert_eq!(helpers::json_number(value, "/x"), Err(JsonError::NotFound));
//! assert_eq!(helpers::hash64(b"pump-7", 0), helpers::hash64(b"pump-7", 0));
//! ```
//!
//! A module that uses one of them imports it: a broker that lacks it refuses the module by name.

#[cfg(target_arch = "wasm32")]
mod imports;
#[cfg(not(target_arch = "wasm32"))]
mod native;
mod numbers;

pub use numbers::Numbers;

#[cfg(target_arch = "wasm32")]
use imports as raw;
#[cfg(not(target_arch = "wasm32"))]
use native as raw;

use crate::abi;
use core::fmt;

/// What a JSON value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A text.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A value in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'d> {
    /// What it is.
    pub kind: Kind,
    /// Its bytes in the document: of a text what stands between its quotes, escapes as they are.
    pub raw: &'d [u8],
}

/// Why a document does not have what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonError {
    /// Nothing stands where the pointer points.
    NotFound,
    /// What was read on the way is not JSON, or nests too deeply.
    Invalid,
    /// Something else than a number stands there, or one beyond what an `f64` holds.
    NotANumber,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JsonError::NotFound => "the document has no such field",
            JsonError::Invalid => "the document is not JSON, or nests too deeply",
            JsonError::NotANumber => "the field is not a number",
        })
    }
}

impl std::error::Error for JsonError {}

/// The value that an RFC 6901 pointer names (`/load/t/1`; the empty one is the whole document). Of
/// members with the same name the first counts.
///
/// # Errors
/// There is none, or the document is no JSON as far as it was read.
pub fn json_field<'d>(document: &'d [u8], pointer: &str) -> Result<Field<'d>, JsonError> {
    let (code, start, len) = raw::json_field(document, pointer.as_bytes());
    let kind = match code {
        abi::JSON_NULL => Kind::Null,
        abi::JSON_BOOL => Kind::Bool,
        abi::JSON_NUMBER => Kind::Number,
        abi::JSON_STRING => Kind::String,
        abi::JSON_ARRAY => Kind::Array,
        abi::JSON_OBJECT => Kind::Object,
        code => return Err(refused(code)),
    };
    let (start, len) = (start as usize, len as usize);
    let raw = start.checked_add(len).and_then(|end| document.get(start..end));
    Ok(Field { kind, raw: raw.unwrap_or_default() })
}

/// The number that an RFC 6901 pointer names, as the nearest `f64`.
///
/// # Errors
/// As [`json_field`], or something else stands there.
#[inline]
pub fn json_number(document: &[u8], pointer: &str) -> Result<f64, JsonError> {
    match raw::json_number(document, pointer.as_bytes()) {
        (0, number) => Ok(number),
        (code, _) => Err(refused(code)),
    }
}

/// XXH64 of some bytes: quick and evenly spread, the same everywhere and for ever. Not for secrets.
#[inline]
pub fn hash64(bytes: &[u8], seed: u64) -> u64 {
    raw::hash64(bytes, seed)
}

/// What [`Numbers`] gives for one value: for tests that compare it with the broker's own.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub fn column_number(document: &[u8], field: &str) -> Option<f64> {
    native::column_number(document, field.as_bytes())
}

#[cold]
fn refused(code: i32) -> JsonError {
    match code {
        abi::JSON_NOT_FOUND => JsonError::NotFound,
        abi::JSON_NOT_A_NUMBER => JsonError::NotANumber,
        _ => JsonError::Invalid,
    }
}
