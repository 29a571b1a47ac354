//! The functions of Redpanda's contract, and the stand-ins for what there is not. Addresses and
//! lengths are checked before they are used, as all that comes from a guest.

use super::desk::{Desk, Refused};
use super::{IMPORT_MODULE, IMPORT_SCHEMA_REGISTRY, IMPORT_WASI, payload, wasi};
use crate::imports::{GuestState, Stop, memory_and_state, range, slice, stop};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use wasmtime::{AsContextMut, Caller, ImportType, Linker, Val};

/// Answers of Redpanda's contract: there is no record to be read or written.
const NO_RECORD: i32 = -1;
/// The buffer is too small, or what stands in it is no record.
const BAD_BUFFER: i32 = -3;
/// The schema registry has nothing.
const NOT_AVAILABLE: i32 = -1;

const FUNCTIONS: [&str; 6] = [
    "check_abi_version_1",
    "check_abi_version_2",
    READ_BATCH_HEADER,
    READ_NEXT_RECORD,
    WRITE_RECORD,
    WRITE_RECORD_WITH_OPTIONS,
];
const READ_BATCH_HEADER: &str = "read_batch_header";
const READ_NEXT_RECORD: &str = "read_next_record";
const WRITE_RECORD: &str = "write_record";
const WRITE_RECORD_WITH_OPTIONS: &str = "write_record_with_options";

type Ten = (u32, u32, u32, u32, u32, u32, u32, u32, u32, u32);

/// Adds all of them.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    for version in ["check_abi_version_1", "check_abi_version_2"] {
        linker.func_wrap(IMPORT_MODULE, version, || {})?;
    }
    linker.func_wrap_async(
        IMPORT_MODULE,
        READ_BATCH_HEADER,
        |mut caller: Caller<'_, GuestState>, places: Ten| {
            Box::new(async move { read_batch_header(&mut caller, places).await })
        },
    )?;
    linker.func_wrap(IMPORT_MODULE, READ_NEXT_RECORD, read_next_record)?;
    linker.func_wrap(
        IMPORT_MODULE,
        WRITE_RECORD,
        |caller: Caller<'_, GuestState>, at, bytes| write(caller, (at, bytes), None),
    )?;
    linker.func_wrap(
        IMPORT_MODULE,
        WRITE_RECORD_WITH_OPTIONS,
        |caller: Caller<'_, GuestState>, at, bytes, options: u32, options_bytes: u32| {
            write(caller, (at, bytes), Some((options, options_bytes)))
        },
    )?;
    wasi::link(linker)
}

/// Whether there is something for an import: a function of the contract, one of WASI, or a
/// stand-in that says that there is nothing, which this adds.
pub(crate) fn accept(linker: &mut Linker<GuestState>, import: &ImportType<'_>) -> bool {
    let answer = match import.module() {
        IMPORT_MODULE => return FUNCTIONS.contains(&import.name()),
        IMPORT_WASI => wasi::NOT_SUPPORTED,
        IMPORT_SCHEMA_REGISTRY => NOT_AVAILABLE,
        _ => return false,
    };
    let wasmtime::ExternType::Func(kind) = import.ty() else {
        return false;
    };
    if kind.results().all(|result| matches!(result, wasmtime::ValType::I32)) {
        // Refused for those that there are, which is as well.
        let _ = linker.func_new(import.module(), import.name(), kind, says(answer));
    }
    true
}

fn says(
    answer: i32,
) -> impl Fn(Caller<'_, GuestState>, &[Val], &mut [Val]) -> wasmtime::Result<()> + Send + Sync {
    move |_, _, results| {
        results.fill(Val::I32(answer));
        Ok(())
    }
}

/// The desk of a guest of this contract. Modules are linked by their contract, so another guest
/// never comes here.
pub(super) fn desk_of(state: &GuestState) -> wasmtime::Result<Arc<Mutex<Desk>>> {
    state.desk.clone().ok_or_else(|| Stop::Abort("this contract is not the module's".into()).into())
}

pub(super) fn lock(desk: &Mutex<Desk>) -> wasmtime::Result<MutexGuard<'_, Desk>> {
    desk.lock().map_err(|_| Stop::Abort("the host's side has failed".into()).into())
}

/// Stands still until there is a batch.
async fn read_batch_header(
    caller: &mut Caller<'_, GuestState>,
    places: Ten,
) -> wasmtime::Result<i32> {
    let desk = desk_of(caller.data())?;
    {
        let mut desk = lock(&desk)?;
        desk.is_waiting = true;
        desk.beats_left = caller.data().beats_left;
        desk.memory_bytes = caller.data().memory.taken_bytes();
    }
    // Nobody is woken: the host looks again whenever it has laid a batch out.
    poll_fn(|_| match desk.lock() {
        Ok(desk) if desk.is_waiting => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
    let (beats, header, bytes_max) = {
        let desk = lock(&desk)?;
        let batch = desk.batch.as_ref().ok_or_else(no_batch)?;
        (desk.beats_left, header(batch)?, batch.record_bytes_max())
    };
    caller.as_context_mut().set_epoch_deadline(1);
    let (memory, state) = memory_and_state(caller)?;
    state.beats_left = beats;
    state.memory.start_call();
    let (a, b, c, d, e, f, g, h, i, j) = places;
    for (place, value) in [a, b, c, d, e, f, g, h, i, j].into_iter().zip(&header) {
        let place = range("a batch's header", memory.len(), place, value.len() as u64);
        memory.get_mut(place.map_err(stop)?).unwrap_or_default().copy_from_slice(value);
    }
    i32::try_from(bytes_max).map_err(|_| no_batch())
}

fn no_batch() -> wasmtime::Error {
    Stop::Abort("there is no batch".into()).into()
}

/// Base offset, record count, leader epoch, attributes, last offset delta, base and greatest
/// timestamp, producer id, producer epoch, base sequence. A producer is nothing of a guest's
/// business.
fn header(batch: &super::desk::Batch) -> wasmtime::Result<[Vec<u8>; 10]> {
    let count = i32::try_from(batch.records()).map_err(|_| no_batch())?;
    let (first_ms, greatest_ms) = batch.timestamps_ms();
    Ok([
        batch.first_input.to_le_bytes().to_vec(),
        count.to_le_bytes().to_vec(),
        0_i32.to_le_bytes().to_vec(),
        0_i16.to_le_bytes().to_vec(),
        count.saturating_sub(1).to_le_bytes().to_vec(),
        first_ms.to_le_bytes().to_vec(),
        greatest_ms.to_le_bytes().to_vec(),
        (-1_i64).to_le_bytes().to_vec(),
        (-1_i16).to_le_bytes().to_vec(),
        (-1_i32).to_le_bytes().to_vec(),
    ])
}

fn read_next_record(
    mut caller: Caller<'_, GuestState>,
    attributes: u32,
    timestamp: u32,
    offset: u32,
    buffer: u32,
    buffer_bytes: u32,
) -> wasmtime::Result<i32> {
    let (memory, state) = memory_and_state(&mut caller)?;
    let desk = desk_of(state)?;
    let mut desk = lock(&desk)?;
    let Some(batch) = &mut desk.batch else {
        return Ok(NO_RECORD);
    };
    let Some((row, payload)) = batch.peek() else {
        return Ok(NO_RECORD);
    };
    if payload.len() > buffer_bytes as usize {
        return Ok(BAD_BUFFER);
    }
    let number = batch.first_input + u64::from(row.origin);
    // None (-1) is no time that the SDKs could take.
    let time = row.timestamp_ms.max(0);
    let (number, time) = (number.to_le_bytes(), time.to_le_bytes());
    let pieces: [(u32, &[u8]); 4] =
        [(attributes, &[0]), (timestamp, &time), (offset, &number), (buffer, payload)];
    for (place, piece) in pieces {
        let place = range("a record's place", memory.len(), place, piece.len() as u64);
        memory.get_mut(place.map_err(stop)?).unwrap_or_default().copy_from_slice(piece);
    }
    let bytes = payload.len();
    batch.advance();
    Ok(i32::try_from(bytes).unwrap_or(BAD_BUFFER))
}

fn write(
    mut caller: Caller<'_, GuestState>,
    (address, bytes): (u32, u32),
    options: Option<(u32, u32)>,
) -> wasmtime::Result<i32> {
    let (memory, state) = memory_and_state(&mut caller)?;
    let record = slice(memory, "a written record", address, u64::from(bytes)).map_err(stop)?;
    let topic = match options {
        None => None,
        Some((address, bytes)) => {
            let options = slice(memory, "write options", address, u64::from(bytes));
            match payload::topic_of(options.map_err(stop)?) {
                Some(topic) => topic,
                None => return Ok(BAD_BUFFER),
            }
        }
    };
    let desk = desk_of(state)?;
    let mut desk = lock(&desk)?;
    let Some(batch) = &mut desk.batch else {
        return Ok(NO_RECORD);
    };
    match batch.write(record, topic) {
        Ok(()) => Ok(i32::try_from(bytes).unwrap_or(BAD_BUFFER)),
        Err(Refused::Write) => Ok(BAD_BUFFER),
        Err(Refused::Fault(fault)) => Err(Stop::Fault(fault).into()),
    }
}
