//! gzip (RFC 1952). Members that follow one another are read as one stream, as Java and zlib do.
//! Must never keep more than the output and a fixed state.

use super::{Fault, Output};
use crate::limits;
use flate2::bufread::MultiGzDecoder;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use std::cell::RefCell;
use std::io::Read;

/// The fixed header: deflate, no flags, no time, no hint, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

pub(super) fn decompress(input: &[u8], output: &mut Output) -> Result<(), Fault> {
    let mut decoder = MultiGzDecoder::new(input);
    // Room for four times the input at once: bytes that were received vouch for it.
    output.bytes.reserve_exact(input.len().saturating_mul(4).min(output.limit));
    let most = output.limit as u64 + 1;
    match decoder.by_ref().take(most).read_to_end(&mut output.bytes) {
        Ok(_) => output.check(),
        Err(_) if output.bytes.len() > output.limit => Err(Fault::TooLarge),
        Err(_) => Err(Fault::Corrupt("broken or incomplete gzip stream")),
    }
}

thread_local! {
    /// The deflate state is 300 KiB: made once, reset for each batch.
    static STATE: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
}

pub(super) fn compress(
    level: Option<i32>,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let level = level.map_or(Compression::default().level(), |level| level.clamp(0, 9) as u32);
    output.extend_from_slice(&HEADER);
    STATE.with_borrow_mut(|state| {
        let compress = match state {
            Some((of, compress)) if *of == level => {
                compress.reset();
                compress
            }
            _ => &mut state.insert((level, Compress::new(Compression::new(level), false))).1,
        };
        deflate(compress, input, output)
    })?;
    let mut crc = Crc::new();
    crc.update(input);
    output.extend_from_slice(&crc.sum().to_le_bytes());
    output.extend_from_slice(&crc.amount().to_le_bytes());
    Ok(())
}

fn deflate(
    compress: &mut Compress,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), &'static str> {
    loop {
        let read = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = input.get(read..).unwrap_or_default();
        output.reserve((rest.len() / 2).max(limits::DECOMPRESS_STEP_BYTES / 16));
        match compress.compress_vec(rest, output, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => return Ok(()),
            Ok(Status::Ok | Status::BufError) => {}
            Err(_) => return Err("deflate failed"),
        }
    }
}
