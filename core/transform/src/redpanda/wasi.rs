//! The little of WASI preview 1 that a transform gets: its environment, a clock and randomness
//! that give the same each time, and the log for what it prints. Everything else says that it is
//! not supported; nothing reaches a file, a socket or a clock of this machine.

use super::IMPORT_WASI;
use super::imports::{desk_of, lock};
use crate::imports::{GuestState, Stop, memory_and_state, range, slice, stop};
use millpond_wire::limits as caps;
use sha2::{Digest, Sha256};
use wasmtime::{Caller, Linker};

const SUCCESS: i32 = 0;
/// `badf`: no such file descriptor.
const BAD_DESCRIPTOR: i32 = 8;
/// `inval`.
const INVALID: i32 = 28;
/// `nosys`.
pub(super) const NOT_SUPPORTED: i32 = 52;
const STANDARD_OUTPUT: u32 = 1;
const STANDARD_ERROR: u32 = 2;
const FILE_TYPE_CHARACTER_DEVICE: u8 = 2;
const NS_PER_MS: u64 = 1_000_000;
/// Bytes of an entry in the list of a write: address and length.
const PIECE_BYTES: usize = 8;
/// Most entries of such a list (POSIX: `IOV_MAX`).
const PIECES_MAX: u32 = 1_024;

type Answer = wasmtime::Result<i32>;

pub(super) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        IMPORT_WASI,
        "args_sizes_get",
        |caller: Caller<'_, GuestState>, count, bytes| put_words(caller, &[(count, 0), (bytes, 0)]),
    )?;
    linker.func_wrap(IMPORT_WASI, "args_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(IMPORT_WASI, "environ_sizes_get", environ_sizes_get)?;
    linker.func_wrap(IMPORT_WASI, "environ_get", environ_get)?;
    linker.func_wrap(IMPORT_WASI, "clock_time_get", clock_time_get)?;
    linker.func_wrap(IMPORT_WASI, "clock_res_get", clock_res_get)?;
    linker.func_wrap(IMPORT_WASI, "random_get", random_get)?;
    linker.func_wrap(IMPORT_WASI, "fd_write", fd_write)?;
    linker.func_wrap(IMPORT_WASI, "fd_fdstat_get", fd_fdstat_get)?;
    // How a program finds the directories that it may open: there is none.
    linker.func_wrap(IMPORT_WASI, "fd_prestat_get", |_: u32, _: u32| BAD_DESCRIPTOR)?;
    linker.func_wrap(IMPORT_WASI, "sched_yield", || SUCCESS)?;
    linker.func_wrap(IMPORT_WASI, "proc_exit", proc_exit)?;
    Ok(())
}

fn put_words(mut caller: Caller<'_, GuestState>, words: &[(u32, u32)]) -> Answer {
    let (memory, _) = memory_and_state(&mut caller)?;
    for (address, word) in words {
        put(memory, *address, &word.to_le_bytes())?;
    }
    Ok(SUCCESS)
}

fn put(memory: &mut [u8], address: u32, bytes: &[u8]) -> wasmtime::Result<()> {
    let place = range("an answer of WASI", memory.len(), address, bytes.len() as u64);
    memory.get_mut(place.map_err(stop)?).unwrap_or_default().copy_from_slice(bytes);
    Ok(())
}

fn environ_sizes_get(caller: Caller<'_, GuestState>, count: u32, bytes: u32) -> Answer {
    let desk = desk_of(caller.data())?;
    let sizes = {
        let desk = lock(&desk)?;
        let all: usize = desk.environment.iter().map(Vec::len).sum();
        [(count, desk.environment.len() as u32), (bytes, all as u32)]
    };
    put_words(caller, &sizes)
}

fn environ_get(mut caller: Caller<'_, GuestState>, places: u32, text: u32) -> Answer {
    let (memory, state) = memory_and_state(&mut caller)?;
    let desk = desk_of(state)?;
    let desk = lock(&desk)?;
    let (mut place, mut text) = (places, text);
    for variable in &desk.environment {
        put(memory, place, &text.to_le_bytes())?;
        put(memory, text, variable)?;
        place = place.wrapping_add(4);
        text = text.wrapping_add(variable.len() as u32);
    }
    Ok(SUCCESS)
}

/// Every clock stands at the timestamp of the record in hand.
fn clock_time_get(
    mut caller: Caller<'_, GuestState>,
    _clock: u32,
    _precision: u64,
    place: u32,
) -> Answer {
    let (memory, state) = memory_and_state(&mut caller)?;
    let now_ms = lock(&*desk_of(state)?)?.now_ms();
    let now_ns = now_ms.unsigned_abs().saturating_mul(NS_PER_MS);
    put(memory, place, &now_ns.to_le_bytes())?;
    Ok(SUCCESS)
}

fn clock_res_get(mut caller: Caller<'_, GuestState>, _clock: u32, place: u32) -> Answer {
    let (memory, _) = memory_and_state(&mut caller)?;
    put(memory, place, &NS_PER_MS.to_le_bytes())?;
    Ok(SUCCESS)
}

/// Made of the seed and of how much was asked for before: the same input, the same numbers.
fn random_get(mut caller: Caller<'_, GuestState>, place: u32, bytes: u32) -> Answer {
    let (memory, state) = memory_and_state(&mut caller)?;
    let place = range("random bytes", memory.len(), place, u64::from(bytes)).map_err(stop)?;
    if place.len() > caps::RANDOM_BYTES_PER_CALL_MAX {
        return Ok(INVALID);
    }
    let desk = desk_of(state)?;
    let mut desk = lock(&desk)?;
    for block in memory.get_mut(place).unwrap_or_default().chunks_mut(32) {
        let mut hasher = Sha256::new();
        hasher.update(desk.seed.to_le_bytes());
        hasher.update(desk.draws.to_le_bytes());
        desk.draws += 1;
        block.iter_mut().zip(hasher.finalize()).for_each(|(byte, random)| *byte = random);
    }
    Ok(SUCCESS)
}

fn fd_write(
    mut caller: Caller<'_, GuestState>,
    descriptor: u32,
    pieces: u32,
    count: u32,
    written: u32,
) -> Answer {
    if !matches!(descriptor, STANDARD_OUTPUT | STANDARD_ERROR) {
        return Ok(BAD_DESCRIPTOR);
    }
    if count > PIECES_MAX {
        return Ok(INVALID);
    }
    let (memory, state) = memory_and_state(&mut caller)?;
    let desk = desk_of(state)?;
    let mut desk = lock(&desk)?;
    let list = slice(memory, "a list of a write", pieces, u64::from(count) * PIECE_BYTES as u64);
    let mut bytes = 0_u64;
    for piece in list.map_err(stop)?.as_chunks::<PIECE_BYTES>().0 {
        let [a, b, c, d, e, f, g, h] = *piece;
        let (address, length) =
            (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let text = slice(memory, "printed text", address, u64::from(length)).map_err(stop)?;
        desk.print(descriptor == STANDARD_ERROR, text);
        bytes += u64::from(length);
    }
    put(memory, written, &(bytes as u32).to_le_bytes())?;
    Ok(SUCCESS)
}

/// A terminal, as far as a program can tell, that can be written to.
fn fd_fdstat_get(mut caller: Caller<'_, GuestState>, descriptor: u32, place: u32) -> Answer {
    if descriptor > STANDARD_ERROR {
        return Ok(BAD_DESCRIPTOR);
    }
    let mut stat = [0; 24];
    stat[0] = FILE_TYPE_CHARACTER_DEVICE;
    let (memory, _) = memory_and_state(&mut caller)?;
    put(memory, place, &stat)?;
    Ok(SUCCESS)
}

fn proc_exit(code: u32) -> wasmtime::Result<()> {
    Err(Stop::Abort(format!("the module ended itself with code {code}")).into())
}
