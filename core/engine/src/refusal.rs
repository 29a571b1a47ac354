//! Why a batch is refused, as its producer is told. Must never say what a client may not know.

use millpond_wire::error_code::ErrorCode;

/// Why a batch is refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// The records that are to blame, by their place in the batch, where that is known.
    pub(crate) records: Vec<(i32, String)>,
}

pub(crate) fn refuse(code: ErrorCode, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into(), records: Vec::new() }
}

/// A batch is refused because of some of its records (KIP-467).
pub(crate) fn refuse_records(
    code: ErrorCode,
    message: impl Into<String>,
    records: Vec<(i32, String)>,
) -> Refusal {
    Refusal { code, message: message.into(), records }
}

/// There is no room now.
pub(crate) fn busy(message: &str) -> Refusal {
    // Retriable by every client, with a pause.
    refuse(ErrorCode::RequestTimedOut, message)
}
