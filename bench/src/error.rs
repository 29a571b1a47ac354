//! What went wrong while measuring, in words for the person who measures. It must never turn into
//! a figure: a measurement that failed in part is reported as failed.

use std::fmt::{self, Display};

/// A measurement that could not be made.
#[derive(Debug)]
pub(crate) struct BenchError {
    what: String,
    why: String,
}

impl BenchError {
    pub(crate) fn new(what: impl Into<String>, why: impl Display) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}

impl Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl std::error::Error for BenchError {}

/// What most functions here give back.
pub(crate) type Outcome<T> = Result<T, BenchError>;

/// Says what was being done when something failed.
pub(crate) trait Context<T> {
    /// Names the deed.
    fn context(self, what: impl Into<String>) -> Outcome<T>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, what: impl Into<String>) -> Outcome<T> {
        self.map_err(|why| BenchError::new(what, why))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl Into<String>) -> Outcome<T> {
        self.ok_or_else(|| BenchError::new(what, "nothing there"))
    }
}
