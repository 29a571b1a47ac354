//! Why a record (or the start of a module) failed: a message for a person, nothing more.
//!
//! It must never end the module: a failed record meets the failure policy, the others go on.

use core::fmt::Display;

/// A message that ends up in the dead-letter record's `millpond.error` header and in the log.
///
/// Made from anything that displays, so `?` works on every error type and
/// `Err("no such field".into())` on plain text. It does not implement `Display` itself: that
/// would forbid the conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    message: String,
}

impl Failure {
    /// What a person will read.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure { message: error.to_string() }
    }
}
