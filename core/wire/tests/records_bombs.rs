//! Decompression bombs: a few kilobytes that want to become gigabytes end in a typed error and in
//! bounded memory, for each codec. One test in a process of its own, since it looks at the peak
//! memory of the process.

use bytes::{BufMut, Bytes, BytesMut};
use millpond_wire::limits;
use millpond_wire::record::{Batch, BatchError, Codec, decompress};
use std::io::Write;

const CAP: usize = limits::MIB;
const GIB: usize = 1024 * limits::MIB;

/// Peak resident memory of this process.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("and the field");
    let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib * 1024
}

/// Zeros without end, deflated: 64 MiB in 64 KiB.
fn gzip_bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; limits::MIB];
    for _ in 0..64 {
        encoder.write_all(&zeros).expect("into memory");
    }
    encoder.finish().expect("into memory")
}

/// A bare block of copies, each of 64 bytes from 3: as much as the format can expand.
fn snappy_block(bytes: usize) -> Vec<u8> {
    let mut block = Vec::new();
    let mut size = bytes as u32;
    while size >= 0x80 {
        block.push(size as u8 | 0x80);
        size >>= 7;
    }
    block.push(size as u8);
    block.extend_from_slice(&[0, b'x']);
    for _ in 0..(bytes - 1) / 64 {
        block.extend_from_slice(&[63 << 2 | 2, 1, 0]);
    }
    block
}

fn snappy_bomb() -> Vec<u8> {
    let block = snappy_block(1 + 64 * 1_000);
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for _ in 0..40 {
        framed.put_u32(block.len() as u32);
        framed.extend_from_slice(&block);
    }
    framed
}

/// One sequence with a match as long as the block allows, in blocks of 4 MiB.
fn lz4_bomb() -> Vec<u8> {
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
    let mut block = vec![0x1f, b'x', 1, 0];
    block.extend_from_slice(&[255; 16_000]);
    block.extend_from_slice(&[0, 0x50, b'x', b'x', b'x', b'x', b'x']);
    for _ in 0..4 {
        frame.put_u32_le(block.len() as u32);
        frame.extend_from_slice(&block);
    }
    frame.put_u32_le(0);
    frame
}

/// RLE blocks of 128 KiB from 4 bytes each, a window of 128 KiB and no content size: 1 GiB.
fn zstd_bomb() -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    let blocks = GIB / (128 * limits::KIB);
    for i in 0..blocks {
        let last = u32::from(i + 1 == blocks);
        let header = (128 * limits::KIB as u32) << 3 | 1 << 1 | last;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(b'x');
    }
    frame
}

/// The bomb as the records of a batch that is valid in all else.
fn as_batch(codec: Codec, payload: &[u8]) -> Batch {
    let mut raw = BytesMut::new();
    raw.put_i64(0);
    raw.put_u32((payload.len() + 49) as u32);
    raw.put_i32(-1);
    raw.put_i8(2);
    raw.put_u32(0);
    raw.put_u16(u16::from(codec.id()));
    raw.put_i32(0);
    raw.put_i64(0);
    raw.put_i64(0);
    raw.put_i64(-1);
    raw.put_i16(-1);
    raw.put_i32(-1);
    raw.put_i32(1);
    raw.extend_from_slice(payload);
    let crc = crc32c::crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::parse(raw.freeze()).expect("all but the records is right")
}

fn assert_bomb(codec: Codec, payload: &[u8], cap: usize) {
    let error = as_batch(codec, payload).decompress(cap);
    assert!(
        matches!(error, Err(BatchError::Bomb { codec: of, limit_bytes }) if of == codec && limit_bytes <= cap),
        "{codec}: {:?}",
        error.map(|bytes| bytes.len())
    );
}

#[test]
fn bombs_end_in_an_error_and_in_bounded_memory() {
    let bombs = [
        (Codec::Gzip, gzip_bomb()),
        (Codec::Snappy, snappy_bomb()),
        (Codec::Snappy, snappy_block(1 + 64 * 40_000)),
        (Codec::Lz4, lz4_bomb()),
        (Codec::Zstd, zstd_bomb()),
    ];
    let before = peak_bytes();
    for (codec, bomb) in &bombs {
        assert!(bomb.len() < 200 * limits::KIB, "{codec}: {} bytes", bomb.len());
        for _ in 0..20 {
            assert_bomb(*codec, bomb, CAP);
        }
    }
    let grown = peak_bytes() - before;
    assert!(grown < 8 * CAP, "{grown} bytes for a cap of {CAP}");

    // With no cap of the caller the ratio and the ceiling of the program still hold.
    assert_bomb(Codec::Zstd, &zstd_bomb(), usize::MAX);
    assert_bomb(Codec::Gzip, &gzip_bomb(), usize::MAX);
    let small: Bytes = zstd_bomb()[..6 + 4 * 100].to_vec().into();
    let error = decompress(Codec::Zstd, &small, usize::MAX);
    assert_eq!(
        error,
        Err(BatchError::Bomb {
            codec: Codec::Zstd,
            limit_bytes: limits::DECOMPRESS_RATIO_EXEMPT_BYTES
        })
    );
    let grown = peak_bytes() - before;
    assert!(grown < 4 * limits::DECOMPRESSED_BYTES_MAX, "{grown} bytes");

    declared_sizes_allocate_nothing();
}

fn declared_sizes_allocate_nothing() {
    let before = peak_bytes();
    // A zstd frame with a declared content of 16 EiB, and one with a window of 2 GiB.
    let huge_content = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &[0xff; 8], &[0x01, 0, 0]].concat();
    let huge_window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x0b, 0, 0, b'x'];
    // An lz4 frame with a content size of 16 EiB and blocks of 4 MiB that never come.
    let huge_blocks = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 0, 0, 64, 0, 1, 2, 3];
    // A bare snappy block of 4 GiB.
    let huge_snappy = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'x'];
    for (codec, input) in [
        (Codec::Zstd, &huge_content[..]),
        (Codec::Zstd, &huge_window),
        (Codec::Lz4, &huge_blocks),
        (Codec::Snappy, &huge_snappy),
    ] {
        for _ in 0..100 {
            assert!(decompress(codec, input, usize::MAX).is_err(), "{codec}");
        }
    }
    let grown = peak_bytes() - before;
    assert!(grown < 2 * limits::MIB, "{grown} bytes");
}
