//! The LZ4 frame format, as far as record batches use it. Own framing around the block codec:
//! a decoder that trusts the frame's maximum block size clears 8 MiB for a batch of 100 bytes.
//! Must never reserve more for a block than its bytes can expand to.
//!
//! ```text
//!  frame  04 22 4d 18 │ FLG │ BD │ [content size u64] │ HC │ { block }* │ 00 00 00 00 │ [xxh32]
//!  FLG    version 01 · independent · block checksums · content size · content checksum · 0 · dict
//!  BD     0 · block maximum (4: 64 KiB, 5: 256 KiB, 6: 1 MiB, 7: 4 MiB) · 0000
//!  block  size u32 (top bit: stored as it is) │ bytes │ [xxh32]
//! ```
//!
//! Little-endian. HC is the second byte of the xxh32 of FLG to content size. One frame only: the
//! Java client stops after the first, so more of them would be read differently by others.
//! Written are independent blocks of 64 KiB without checksums, since Java refuses linked ones and
//! the batch has its own CRC.

use super::xxh32::xxh32;
use super::{Fault, Output};
use crate::limits;
use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into_with_dict,
    get_maximum_output_size,
};
use std::cell::RefCell;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Version 1, independent blocks; 64 KiB; the checksum of these two.
const WRITTEN_DESCRIPTOR: [u8; 3] = [0x60, 0x40, 0x82];
const STORED_BIT: u32 = 1 << 31;
/// How far a linked block may look back.
const WINDOW_BYTES: usize = 64 * limits::KIB;
/// A byte of a length gives 255 bytes at most; no sequence expands more.
const EXPANSION_MAX: usize = 255;
/// First guess at the expansion of a block.
const EXPANSION_GUESS: usize = 8;

/// What the frame descriptor says.
#[derive(Debug)]
struct Frame {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_bytes: Option<u64>,
    block_bytes_max: usize,
}

pub(super) fn decompress(input: &[u8], output: &mut Output) -> Result<(), Fault> {
    let (frame, mut rest) = read_descriptor(input)?;
    loop {
        let size = take_u32(&mut rest)?;
        if size == 0 {
            break;
        }
        let bytes = take(&mut rest, (size & !STORED_BIT) as usize)?;
        if bytes.len() > frame.block_bytes_max {
            return Err(Fault::Corrupt("an lz4 block is above the maximum of its frame"));
        }
        if frame.block_checksums && take_u32(&mut rest)? != xxh32(bytes) {
            return Err(Fault::Corrupt("wrong checksum of an lz4 block"));
        }
        if size & STORED_BIT != 0 {
            output.append(bytes)?;
        } else {
            block(&frame, bytes, output)?;
        }
    }
    if frame.content_checksum && take_u32(&mut rest)? != xxh32(&output.bytes) {
        return Err(Fault::Corrupt("wrong checksum of the lz4 content"));
    }
    if frame.content_bytes.is_some_and(|bytes| bytes != output.bytes.len() as u64) {
        return Err(Fault::Corrupt("the lz4 frame declares another content size"));
    }
    if !rest.is_empty() {
        return Err(Fault::Corrupt("bytes follow the lz4 frame"));
    }
    Ok(())
}

fn read_descriptor(input: &[u8]) -> Result<(Frame, &[u8]), Fault> {
    let descriptor = input.strip_prefix(&MAGIC).ok_or(Fault::Corrupt("no lz4 frame"))?;
    let mut rest = descriptor;
    let &[flags, block_descriptor] = take_array::<2>(&mut rest)?;
    if flags >> 6 != 1 || flags & 0b10 != 0 {
        return Err(Fault::Corrupt("unknown version of the lz4 frame format"));
    }
    if flags & 1 != 0 {
        return Err(Fault::Corrupt("lz4 dictionaries are not supported"));
    }
    let block_bytes_max = match block_descriptor {
        0x40 => 64 * limits::KIB,
        0x50 => 256 * limits::KIB,
        0x60 => limits::MIB,
        0x70 => 4 * limits::MIB,
        _ => return Err(Fault::Corrupt("unknown block size of an lz4 frame")),
    };
    let content_bytes = if flags & 0b1000 == 0 {
        None
    } else {
        Some(u64::from_le_bytes(*take_array::<8>(&mut rest)?))
    };
    let checked = descriptor.get(..descriptor.len() - rest.len()).unwrap_or_default();
    let &[checksum] = take_array::<1>(&mut rest)?;
    if checksum != (xxh32(checked) >> 8) as u8 {
        return Err(Fault::Corrupt("wrong checksum of an lz4 frame descriptor"));
    }
    let frame = Frame {
        linked: flags & 0b10_0000 == 0,
        block_checksums: flags & 0b1_0000 != 0,
        content_checksum: flags & 0b100 != 0,
        content_bytes,
        block_bytes_max,
    };
    Ok((frame, rest))
}

/// Decompresses one block, into as much room as the bytes that came can fill.
fn block(frame: &Frame, bytes: &[u8], output: &mut Output) -> Result<(), Fault> {
    let most = frame.block_bytes_max.min(bytes.len().saturating_mul(EXPANSION_MAX));
    let mut room = most.min(bytes.len().saturating_mul(EXPANSION_GUESS).max(256));
    let start = output.bytes.len();
    loop {
        // One byte above the limit tells "too large" from "broken".
        let allowed = room.min(output.room() + 1);
        output.bytes.resize(start + allowed, 0);
        let (history, into) = output
            .bytes
            .split_at_mut_checked(start)
            .ok_or(Fault::Corrupt("no room for an lz4 block"))?;
        let window = if frame.linked {
            history.get(history.len().saturating_sub(WINDOW_BYTES)..).unwrap_or_default()
        } else {
            &[]
        };
        match decompress_into_with_dict(bytes, into, window) {
            Ok(written) => {
                output.bytes.truncate(start + written);
                return output.check();
            }
            Err(DecompressError::OutputTooSmall { .. }) if allowed < room => {
                return Err(Fault::TooLarge);
            }
            Err(DecompressError::OutputTooSmall { .. }) if room < most => {
                room = most.min(room.saturating_mul(4));
            }
            Err(_) => return Err(Fault::Corrupt("broken lz4 block")),
        }
    }
}

thread_local! {
    /// The hash table: made once, used for each block.
    static TABLE: RefCell<CompressTable> = RefCell::new(CompressTable::large());
}

pub(super) fn compress(input: &[u8], output: &mut Vec<u8>) -> Result<(), &'static str> {
    output.extend_from_slice(&MAGIC);
    output.extend_from_slice(&WRITTEN_DESCRIPTOR);
    TABLE.with_borrow_mut(|table| {
        for block in input.chunks(limits::LZ4_BLOCK_BYTES) {
            let start = output.len();
            output.resize(start + 4 + get_maximum_output_size(block.len()), 0);
            let Some((size, into)) =
                output.get_mut(start..).and_then(|new| new.split_first_chunk_mut::<4>())
            else {
                return Err("no room for an lz4 block");
            };
            let written = compress_into_with_table(block, into, table).map_err(|_| "lz4 failed")?;
            if written < block.len() {
                *size = (written as u32).to_le_bytes();
                output.truncate(start + 4 + written);
            } else {
                *size = (block.len() as u32 | STORED_BIT).to_le_bytes();
                output.truncate(start + 4);
                output.extend_from_slice(block);
            }
        }
        Ok(())
    })?;
    output.extend_from_slice(&[0; 4]);
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
    let (taken, after) =
        rest.split_at_checked(count).ok_or(Fault::Corrupt("the lz4 frame is cut short"))?;
    *rest = after;
    Ok(taken)
}

fn take_array<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Fault> {
    let (taken, after) =
        rest.split_first_chunk().ok_or(Fault::Corrupt("the lz4 frame is cut short"))?;
    *rest = after;
    Ok(taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, Fault> {
    take_array(rest).map(|bytes| u32::from_le_bytes(*bytes))
}
