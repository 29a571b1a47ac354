//! Decompression bombs: batches that are well formed as far as their header and CRC go. Must never
//! be made larger than what a producer may send.

use bytes::Bytes;
use millpond_wire::record::{BatchBuilder, Codec, HEADER_BYTES, compress};

/// What a bomb becomes when it is let.
const INFLATED_BYTES: usize = 64 << 20;

/// A batch whose header claims three records, and whose records section inflates to far more than
/// is allowed.
pub fn bomb(codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for _ in 0..3 {
        builder.push(1_700_000_000_000, None, Some(b"x"), &[]).expect("a small record");
    }
    let mut bytes = builder.build().expect("a small batch")[..HEADER_BYTES].to_vec();
    compress(codec, None, &vec![0; INFLATED_BYTES], &mut bytes).expect("zeros compress");
    // The builder leaves uncompressed what compression makes longer, and says so.
    bytes[22] = codec.id();
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// CRC-32C bit by bit: slow, and nobody else's code.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let mixed = crc ^ u32::from(*byte);
        (0..8).fold(mixed, |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_wire::record::Batch;

    #[test]
    fn a_bomb_is_a_good_batch_until_it_is_inflated() {
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
            let batch = Batch::parse(bomb(codec)).expect("its header and CRC are right");
            assert!(batch.raw().len() < 1 << 20, "{codec:?}: {} bytes", batch.raw().len());
            assert!(batch.decompress(1 << 20).is_err(), "{codec:?}: it inflates");
        }
    }
}
