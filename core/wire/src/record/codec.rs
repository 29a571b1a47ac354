//! The compression codecs of record batches, bounded in both directions. Must never allocate from
//! a size that the input declares beyond what its format can expand to, and never hand out more
//! than the cap.

mod gzip;
mod lz4;
mod snappy;
mod xxh32;
mod zstd;

use super::error::BatchError;
use crate::limits;
use std::fmt;

/// A compression codec, by its number in the attributes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// As they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy: xerial's framing is written; that and a bare block are read.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of three attribute bits.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its three attribute bits.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Its name in Kafka's settings (`compression.type`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Decompresses `input` into at most `cap_bytes`, and at most what the ratio cap allows
/// ([`limits::DECOMPRESS_RATIO_MAX`]). The buffer grows with what comes out.
///
/// # Errors
/// [`BatchError::Bomb`] above a cap, [`BatchError::Decompress`] for a broken stream.
pub fn decompress(codec: Codec, input: &[u8], cap_bytes: usize) -> Result<Vec<u8>, BatchError> {
    let mut output = Output::new(input.len(), cap_bytes);
    let done = match codec {
        Codec::None => output.append(input),
        Codec::Gzip => gzip::decompress(input, &mut output),
        Codec::Snappy => snappy::decompress(input, &mut output),
        Codec::Lz4 => lz4::decompress(input, &mut output),
        Codec::Zstd => zstd::decompress(input, &mut output),
    };
    match done {
        Ok(()) => Ok(output.bytes),
        Err(Fault::TooLarge) => Err(BatchError::Bomb { codec, limit_bytes: output.limit }),
        Err(Fault::Corrupt(reason)) => Err(BatchError::Decompress { codec, reason }),
    }
}

/// Compresses `input`, appending to `output`. Levels as [`super::BatchBuilder::new`] has them.
///
/// # Errors
/// What the codec says; only a lack of memory makes it fail.
pub fn compress(
    codec: Codec,
    level: Option<i32>,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), &'static str> {
    match codec {
        Codec::None => {
            output.extend_from_slice(input);
            Ok(())
        }
        Codec::Gzip => gzip::compress(level, input, output),
        Codec::Snappy => snappy::compress(input, output),
        Codec::Lz4 => lz4::compress(input, output),
        Codec::Zstd => zstd::compress(level, input, output),
    }
}

/// Why a decoder stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    TooLarge,
    Corrupt(&'static str),
}

/// What comes out of a decoder, and how much of it may.
#[derive(Debug)]
struct Output {
    bytes: Vec<u8>,
    limit: usize,
}

impl Output {
    fn new(input_bytes: usize, cap_bytes: usize) -> Self {
        let by_ratio = input_bytes
            .saturating_mul(limits::DECOMPRESS_RATIO_MAX)
            .max(limits::DECOMPRESS_RATIO_EXEMPT_BYTES);
        Self {
            bytes: Vec::new(),
            limit: cap_bytes.min(by_ratio).min(limits::DECOMPRESSED_BYTES_MAX),
        }
    }

    /// Bytes that may still come.
    fn room(&self) -> usize {
        self.limit - self.bytes.len().min(self.limit)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.len() > self.room() {
            return Err(Fault::TooLarge);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Makes spare capacity: twice what is there, at least a step, at most one byte above the
    /// limit. That byte tells an output that ends at the limit from one that goes on.
    fn grow(&mut self) -> Result<(), Fault> {
        if self.bytes.len() > self.limit {
            return Err(Fault::TooLarge);
        }
        let more = self.bytes.len().max(limits::DECOMPRESS_STEP_BYTES);
        self.bytes.reserve_exact(more.min(self.room() + 1));
        Ok(())
    }

    /// That the decoder has not gone into the byte above the limit.
    fn check(&self) -> Result<(), Fault> {
        if self.bytes.len() > self.limit { Err(Fault::TooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const COMPRESSED: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// Text that compresses some, with runs in it, `bytes` long.
    fn sample(bytes: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes + 64);
        let mut i = 0_u64;
        while text.len() < bytes {
            let noise = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            text.extend_from_slice(format!("{{\"id\":{i},\"v\":{noise}}}\n").as_bytes());
            if i.is_multiple_of(100) {
                text.extend_from_slice(&[b'.'; 700]);
            }
            i += 1;
        }
        text.truncate(bytes);
        text
    }

    fn packed(codec: Codec, input: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        compress(codec, None, input, &mut output).unwrap();
        output
    }

    #[test]
    fn every_size_comes_back_as_it_went() {
        for codec in Codec::ALL {
            for size in [0, 1, 12, 13, 100, 4_096, 32_768, 32_769, 65_536, 65_537, 300_000] {
                let input = sample(size);
                let output = decompress(codec, &packed(codec, &input), size).unwrap();
                assert!(output == input, "{codec}, {size} bytes");
            }
        }
    }

    #[test]
    fn noise_comes_back_too() {
        let noise: Vec<u8> = (0..200_000_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) ^ i.wrapping_mul(i)).to_le_bytes()[2])
            .collect();
        for codec in Codec::ALL {
            assert!(
                decompress(codec, &packed(codec, &noise), 1 << 20).unwrap() == noise,
                "{codec}"
            );
        }
    }

    #[test]
    fn levels_are_clamped_and_all_work() {
        let input = sample(50_000);
        for codec in Codec::ALL {
            for level in [i32::MIN, -7, 0, 1, 9, 19, i32::MAX] {
                let mut output = Vec::new();
                compress(codec, Some(level), &input, &mut output).unwrap();
                assert!(decompress(codec, &output, 50_000).unwrap() == input, "{codec} {level}");
            }
        }
    }

    #[test]
    fn output_appends_to_what_is_there() {
        for codec in Codec::ALL {
            let mut output = b"header".to_vec();
            compress(codec, None, b"body body body body", &mut output).unwrap();
            let body = decompress(codec, output.strip_prefix(b"header").unwrap(), 100).unwrap();
            assert_eq!(body, b"body body body body");
        }
    }

    #[test]
    fn the_cap_is_exact() {
        let input = sample(100_000);
        for codec in Codec::ALL {
            let packed = packed(codec, &input);
            assert!(decompress(codec, &packed, input.len()).is_ok(), "{codec}");
            assert_eq!(
                decompress(codec, &packed, input.len() - 1),
                Err(BatchError::Bomb { codec, limit_bytes: input.len() - 1 })
            );
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let input = sample(3_000);
        for codec in COMPRESSED {
            let packed = packed(codec, &input);
            for len in 0..packed.len() {
                let cut = decompress(codec, &packed[..len], 1 << 20);
                // The framing of xerial has no end mark: nothing at all is a valid stream.
                let bare_header = codec == Codec::Snappy && len == 16;
                assert!(cut.is_err() || bare_header, "{codec} cut to {len} of {}", packed.len());
            }
        }
    }

    #[test]
    fn a_used_context_forgets_a_broken_stream() {
        let input = sample(200_000);
        for codec in COMPRESSED {
            let packed = packed(codec, &input);
            for _ in 0..3 {
                assert!(decompress(codec, &packed[..packed.len() / 2], 1 << 20).is_err());
                assert!(decompress(codec, &packed, 100).is_err());
                assert!(decompress(codec, &packed, 1 << 20).unwrap() == input, "{codec}");
            }
        }
    }

    #[test]
    fn bare_snappy_and_foreign_xerial_headers_are_read() {
        let input = sample(50_000);
        let bare = snap::raw::Encoder::new().compress_vec(&input).unwrap();
        assert!(decompress(Codec::Snappy, &bare, 1 << 20).unwrap() == input);
        // kafka-python packs the two versions in the byte order of its machine.
        let mut framed = packed(Codec::Snappy, &input);
        framed[8..16].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
        assert!(decompress(Codec::Snappy, &framed, 1 << 20).unwrap() == input);
    }

    #[test]
    fn snappy_lengths_that_lie_are_errors() {
        // A bare block that declares 4 GiB.
        let declared = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        let error = decompress(Codec::Snappy, &declared, 1 << 20);
        assert!(matches!(error, Err(BatchError::Decompress { .. })));
        for length in [i32::MIN, -1, i32::MAX, 100] {
            let mut framed = packed(Codec::Snappy, b"")[..16].to_vec();
            framed.extend_from_slice(&length.to_be_bytes());
            framed.extend_from_slice(&[1, 0, b'x']);
            let error = decompress(Codec::Snappy, &framed, 1 << 20);
            assert!(matches!(error, Err(BatchError::Decompress { .. })), "{length}");
        }
    }

    #[test]
    fn lz4_frames_of_every_kind_are_read() {
        use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
        let input = sample(700_000);
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for size in
                [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB]
            {
                for (sums, content) in [(false, None), (true, Some(input.len() as u64))] {
                    let info = FrameInfo::new()
                        .block_mode(mode)
                        .block_size(size)
                        .block_checksums(sums)
                        .content_checksum(sums)
                        .content_size(content);
                    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                    encoder.write_all(&input).unwrap();
                    let frame = encoder.finish().unwrap();
                    let output = decompress(Codec::Lz4, &frame, 1 << 20).unwrap();
                    assert!(output == input, "{mode:?} {size:?} {sums}");
                    if sums {
                        let mut broken = frame.clone();
                        let last = broken.len() - 1;
                        broken[last] ^= 1;
                        assert!(decompress(Codec::Lz4, &broken, 1 << 20).is_err());
                    }
                }
            }
        }
    }

    #[test]
    fn an_lz4_content_size_that_lies_is_an_error() {
        use lz4_flex::frame::{FrameEncoder, FrameInfo};
        let input = sample(10_000);
        let info = FrameInfo::new().content_size(Some(10_000));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&input).unwrap();
        let mut frame = encoder.finish().unwrap();
        for lie in [0_u64, 9_999, 10_001, u64::MAX] {
            frame[6..14].copy_from_slice(&lie.to_le_bytes());
            frame[14] = (xxh32::xxh32(&frame[4..14]) >> 8) as u8;
            let error = decompress(Codec::Lz4, &frame, 1 << 20);
            assert!(matches!(error, Err(BatchError::Decompress { .. })), "{lie}");
        }
    }

    #[test]
    fn concatenated_gzip_and_zstd_frames_count_together() {
        let input = sample(30_000);
        for codec in [Codec::Gzip, Codec::Zstd] {
            let twice = packed(codec, &input).repeat(2);
            assert!(decompress(codec, &twice, 60_000).unwrap() == input.repeat(2), "{codec}");
            assert!(matches!(decompress(codec, &twice, 59_999), Err(BatchError::Bomb { .. })));
        }
        let twice = packed(Codec::Lz4, &input).repeat(2);
        assert!(matches!(
            decompress(Codec::Lz4, &twice, 1 << 20),
            Err(BatchError::Decompress { reason: "bytes follow the lz4 frame", .. })
        ));
    }
}
