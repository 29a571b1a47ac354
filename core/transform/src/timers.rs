//! Timers that are due, in the form in which a guest gets them: as records.

use crate::rows::{Row, Span};
use crate::state::Timer;
use bytes::Bytes;

/// A record for each timer, with the place of its key in the block that is given too and will
/// stand in `arena`. Their origins count from `first_origin`.
pub(crate) fn rows_of(due: &[Timer], arena: u32, first_origin: u32) -> (Vec<Row>, Bytes) {
    let mut keys = Vec::with_capacity(due.iter().map(|timer| timer.key.len()).sum());
    let rows = due.iter().zip(first_origin..).map(|(timer, origin)| {
        let start = keys.len() as u32;
        keys.extend_from_slice(&timer.key);
        Row {
            timestamp_ms: timer.at_ms,
            origin,
            ordinal: 0,
            key: Span { arena, start, bytes: timer.key.len() as u32 },
            value: Span::NONE,
            headers: Span::NONE,
            header_count: 0,
        }
    });
    let rows = rows.collect();
    (rows, keys.into())
}
