//! zstd (RFC 8878). Frames that follow one another are read as one stream. Must never let a frame
//! ask for a window above the cap, and never keep an oversized context for the next batch.

use super::{Fault, Output};
use crate::limits;
use std::cell::RefCell;
use zstd::zstd_safe::{
    self, CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective,
};

/// Level where none is asked for: the best ratio per CPU second on telemetry.
const DEFAULT_LEVEL: i32 = 1;
/// A declared content size is believed as far as this many times the input: it only saves growing.
const BELIEVED_RATIO: usize = 16;

thread_local! {
    /// Making a context for each batch costs a seventh of the time.
    static DECODER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    static ENCODER: RefCell<Option<(i32, CCtx<'static>)>> = const { RefCell::new(None) };
}

pub(super) fn decompress(input: &[u8], output: &mut Output) -> Result<(), Fault> {
    DECODER.with_borrow_mut(|kept| {
        let mut context = match kept.take() {
            Some(context) => context,
            None => new_decoder()?,
        };
        let done = stream(&mut context, input, output);
        let reset = context.reset(ResetDirective::SessionOnly);
        if reset.is_ok() && context.sizeof() <= limits::CODEC_SCRATCH_KEPT_BYTES {
            *kept = Some(context);
        }
        done
    })
}

fn new_decoder() -> Result<DCtx<'static>, Fault> {
    let mut context = DCtx::try_create().ok_or(Fault::Corrupt("no memory for a context"))?;
    context
        .set_parameter(DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG_MAX))
        .map_err(|_| Fault::Corrupt("the window limit could not be set"))?;
    Ok(context)
}

fn stream(context: &mut DCtx<'static>, input: &[u8], output: &mut Output) -> Result<(), Fault> {
    if let Ok(Some(size)) = zstd_safe::get_frame_content_size(input) {
        let believed = (input.len() as u64).saturating_mul(BELIEVED_RATIO as u64);
        let size = size.min(believed).min(output.limit as u64);
        output.bytes.reserve_exact(size as usize);
    }
    let mut from = InBuffer::around(input);
    loop {
        if output.bytes.len() == output.bytes.capacity() {
            output.grow()?;
        }
        let before = (from.pos(), output.bytes.len());
        let mut into = OutBuffer::around_pos(&mut output.bytes, before.1);
        let wanted = context
            .decompress_stream(&mut into, &mut from)
            .map_err(|code| Fault::Corrupt(zstd_safe::get_error_name(code)))?;
        output.check()?;
        let all_read = from.pos() == input.len();
        if wanted == 0 && all_read {
            return Ok(());
        }
        let full = output.bytes.len() == output.bytes.capacity();
        let stuck = before == (from.pos(), output.bytes.len());
        if !full && (all_read || stuck) {
            return Err(Fault::Corrupt("the zstd frame is cut short"));
        }
    }
}

pub(super) fn compress(
    level: Option<i32>,
    input: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), &'static str> {
    // Above 19 the window may exceed what decoders have to take.
    let level = level.unwrap_or(DEFAULT_LEVEL).clamp(-7, 19);
    ENCODER.with_borrow_mut(|kept| {
        let mut context = match kept.take() {
            Some((of, context)) if of == level => context,
            _ => new_encoder(level)?,
        };
        let start = output.len();
        output.reserve(zstd_safe::compress_bound(input.len()));
        let mut into = OutBuffer::around_pos(output, start);
        let mut from = InBuffer::around(input);
        let left = context
            .compress_stream2(
                &mut into,
                &mut from,
                zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_end,
            )
            .map_err(zstd_safe::get_error_name)?;
        if context.sizeof() <= 8 * limits::CODEC_SCRATCH_KEPT_BYTES {
            *kept = Some((level, context));
        }
        if left == 0 { Ok(()) } else { Err("zstd did not finish the frame") }
    })
}

fn new_encoder(level: i32) -> Result<CCtx<'static>, &'static str> {
    let mut context = CCtx::try_create().ok_or("no memory for a context")?;
    context
        .set_parameter(CParameter::CompressionLevel(level))
        .map_err(zstd_safe::get_error_name)?;
    Ok(context)
}
