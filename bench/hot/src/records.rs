//! Records of a fleet, the same ones in every run: what they are made of decides how many
//! instructions they cost. Must never look at the machine, a clock or chance.

use bytes::Bytes;
use millpond_wire::record::{Batch, BatchBuilder, Codec};

/// The field that the filter looks at: from 0 to 99, so that its limit says how many stay.
pub const FIELD: &str = "temperature";
/// Timestamp of the first record, ms since 1970.
const FIRST_MS: i64 = 1_763_700_000_000;

/// The `sequence`-th reading of a fleet of 500 pumps, as JSON of exactly `bytes` (at least 150).
///
/// # Panics
/// If that is too little for it.
#[must_use]
pub fn reading(sequence: usize, bytes: usize) -> Vec<u8> {
    // Steps that have no divisor in common with their range visit all of it.
    let (device, temperature) = (sequence * 7 % 500, sequence * 37 % 100);
    let humidity = sequence * 61 % 10_000;
    let mut text = format!(
        "{{\"device\":\"pump-{device:04}\",\"ts\":{},\"seq\":{sequence},\"humidity\":{}.{:02},\
         \"{FIELD}\":{temperature}.25,\"state\":\"running\",\"note\":\"",
        FIRST_MS + sequence as i64 * 1_000,
        humidity / 100,
        humidity % 100,
    );
    let end = "\"}";
    let room = bytes.checked_sub(text.len() + end.len()).expect("a reading fits its size");
    let mut digits = sequence;
    for _ in 0..room {
        digits = digits.wrapping_mul(0x5851_F42D).wrapping_add(0x1405_7B7E) & 0xFFFF_FFFF;
        text.extend(char::from_digit((digits >> 16) as u32 % 36, 36));
    }
    text.push_str(end);
    text.into_bytes()
}

/// A batch of readings without compression, the first of them the `first`-th.
///
/// # Panics
/// Never: a batch of our own is one.
#[must_use]
pub fn batch(first: usize, records: usize, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for sequence in first..first + records {
        let (value, timestamp) = (reading(sequence, value_bytes), FIRST_MS + sequence as i64);
        builder.push(timestamp, None, Some(&value), &[]).expect("a record of our own");
    }
    builder.build().expect("a batch of our own")
}

/// The same, checked.
///
/// # Panics
/// Never.
#[must_use]
pub fn parsed(first: usize, records: usize, value_bytes: usize) -> Batch {
    Batch::parse(batch(first, records, value_bytes)).expect("a batch of our own")
}
