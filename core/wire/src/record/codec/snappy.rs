//! Snappy, in the framing of the Java library (xerial) that Java, kafka-python and kafkajs write,
//! and as the bare block that librdkafka writes. Must never trust a block's declared size beyond
//! what its bytes can expand to (CVE-2023-34455 was such a length).
//!
//! ```text
//!  xerial  82 'S' 'N' 'A' 'P' 'P' 'Y' 00 │ version i32 │ compatible i32 │ { length i32 │ block }*
//! ```
//!
//! Lengths are big-endian. The two version numbers are 1, in whichever byte order the client's
//! machine has (kafka-python), so they are not looked at.

use super::{Fault, Output};
use crate::limits;
use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};
use std::cell::RefCell;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// A copy of 3 bytes gives 64 bytes at most; no element of the format expands more.
const EXPANSION_MAX: usize = 22;

pub(super) fn decompress(input: &[u8], output: &mut Output) -> Result<(), Fault> {
    let mut decoder = Decoder::new();
    let Some(framed) = input.strip_prefix(&MAGIC) else {
        return block(&mut decoder, input, output);
    };
    let mut rest =
        framed.get(VERSIONS.len()..).ok_or(Fault::Corrupt("the xerial header is cut short"))?;
    while !rest.is_empty() {
        let (length, after) = rest
            .split_first_chunk::<4>()
            .ok_or(Fault::Corrupt("a xerial block length is cut short"))?;
        // A negative length becomes one beyond any input.
        let (bytes, after) = after
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or(Fault::Corrupt("a xerial block is longer than what is left"))?;
        block(&mut decoder, bytes, output)?;
        rest = after;
    }
    Ok(())
}

fn block(decoder: &mut Decoder, input: &[u8], output: &mut Output) -> Result<(), Fault> {
    let size = decompress_len(input).map_err(|_| Fault::Corrupt("no snappy block"))?;
    if size > input.len().saturating_mul(EXPANSION_MAX) {
        return Err(Fault::Corrupt("a snappy block declares more than its bytes can hold"));
    }
    if size > output.room() {
        return Err(Fault::TooLarge);
    }
    let start = output.bytes.len();
    output.bytes.resize(start + size, 0);
    let into = output.bytes.get_mut(start..).unwrap_or_default();
    match decoder.decompress(input, into) {
        Ok(written) if written == size => Ok(()),
        _ => Err(Fault::Corrupt("broken snappy block")),
    }
}

thread_local! {
    /// Holds the hash table: made once, used for each block.
    static ENCODER: RefCell<Encoder> = RefCell::new(Encoder::new());
}

pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) -> Result<(), &'static str> {
    output.extend_from_slice(&MAGIC);
    output.extend_from_slice(&VERSIONS);
    ENCODER.with_borrow_mut(|encoder| {
        for block in input.chunks(limits::SNAPPY_BLOCK_BYTES) {
            let start = output.len();
            output.resize(start + 4 + max_compress_len(block.len()), 0);
            let Some((length, into)) =
                output.get_mut(start..).and_then(|new| new.split_first_chunk_mut::<4>())
            else {
                return Err("no room for a snappy block");
            };
            let written = encoder.compress(block, into).map_err(|_| "snappy failed")?;
            *length = (written as u32).to_be_bytes();
            output.truncate(start + 4 + written);
        }
        Ok(())
    })
}
