//! The state functions that a guest may call. Addresses and lengths are checked before they are
//! used; a guest that runs without state (while it starts) finds nothing and can put nothing.

use crate::abi;
use crate::fault::Fault;
use crate::imports::{GuestState, Stop, memory_and_state, range, slice, stop};
use crate::state::{NoRoom, Refused, TooMuch};
use millpond_wire::limits as caps;
use wasmtime::{Caller, Linker};

/// Adds all of them.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_STATE_GET, get)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_STATE_PUT, put)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_STATE_DELETE, delete)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_STATE_RANGE, read_range)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_TIMER_SET, timer_set)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_TIMER_DELETE, timer_delete)?;
    Ok(())
}

/// The functions by which a module says that it keeps state.
pub(crate) const NAMES: [&str; 6] = [
    abi::IMPORT_STATE_GET,
    abi::IMPORT_STATE_PUT,
    abi::IMPORT_STATE_DELETE,
    abi::IMPORT_STATE_RANGE,
    abi::IMPORT_TIMER_SET,
    abi::IMPORT_TIMER_DELETE,
];

const KEY: &str = "a key of the state";

fn get(
    mut caller: Caller<'_, GuestState>,
    key: u32,
    key_bytes: u32,
    buffer: u32,
    buffer_bytes: u32,
) -> wasmtime::Result<i32> {
    let (memory, host) = memory_and_state(&mut caller)?;
    let room = range("a state's buffer", memory.len(), buffer, u64::from(buffer_bytes));
    let room = room.map_err(stop)?;
    let key = slice(memory, KEY, key, u64::from(key_bytes)).map_err(stop)?;
    let Some(value) = host.state.as_mut().and_then(|state| state.get(key)) else {
        return Ok(-1);
    };
    let bytes = value.len();
    if let Some(place) = memory.get_mut(room).and_then(|room| room.get_mut(..bytes)) {
        place.copy_from_slice(value);
        host.charge(bytes)?;
    }
    Ok(i32::try_from(bytes).unwrap_or(-1))
}

fn put(
    mut caller: Caller<'_, GuestState>,
    key: u32,
    key_bytes: u32,
    value: u32,
    value_bytes: u32,
    expires_ms: i64,
) -> wasmtime::Result<u32> {
    let (memory, host) = memory_and_state(&mut caller)?;
    let key = slice(memory, KEY, key, u64::from(key_bytes)).map_err(stop)?;
    let value = slice(memory, "a value of the state", value, u64::from(value_bytes));
    let value = value.map_err(stop)?;
    let result = match host.state.as_mut() {
        Some(state) => state.put(key, value, expires_ms),
        None => Err(Refused::Full),
    };
    if result.is_ok() {
        host.charge(value.len())?;
    }
    Ok(answer(result))
}

fn delete(mut caller: Caller<'_, GuestState>, key: u32, key_bytes: u32) -> wasmtime::Result<u32> {
    let (memory, host) = memory_and_state(&mut caller)?;
    let key = slice(memory, KEY, key, u64::from(key_bytes)).map_err(stop)?;
    let deleted = host.state.as_mut().map_or(Ok(false), |state| state.delete(key));
    deleted.map(u32::from).map_err(too_much)
}

fn read_range(
    mut caller: Caller<'_, GuestState>,
    from: u32,
    from_bytes: u32,
    to: u32,
    to_bytes: u32,
    buffer: u32,
    buffer_bytes: u32,
) -> wasmtime::Result<i32> {
    let (memory, host) = memory_and_state(&mut caller)?;
    let room = range("a state's buffer", memory.len(), buffer, u64::from(buffer_bytes));
    let room = room.map_err(stop)?;
    // Copied, since the answer may be written over them; a bound has no use for more than a key's.
    let bound = |address, bytes| -> wasmtime::Result<Vec<u8>> {
        let whole = slice(memory, "a bound of a range", address, u64::from(bytes)).map_err(stop)?;
        let cut = whole.get(..=caps::TRANSFORM_STATE_KEY_BYTES_MAX).unwrap_or(whole);
        Ok(cut.to_vec())
    };
    let from = bound(from, from_bytes)?;
    let to = (to_bytes != abi::NULL).then(|| bound(to, to_bytes)).transpose()?;
    let Some(state) = host.state.as_ref() else {
        return Ok(0);
    };
    let room = memory.get_mut(room).unwrap_or_default();
    let room_bytes = room.len().min(i32::MAX as usize);
    let room = room.get_mut(..room_bytes).unwrap_or_default();
    match state.range(&from, to.as_deref(), room) {
        Ok(bytes) => {
            host.charge(bytes)?;
            Ok(bytes as i32)
        }
        // An entry is far below 2 GiB.
        Err(NoRoom(bytes)) => Ok(-(bytes as i32)),
    }
}

fn timer_set(
    mut caller: Caller<'_, GuestState>,
    at_ms: i64,
    key: u32,
    key_bytes: u32,
) -> wasmtime::Result<u32> {
    let (memory, host) = memory_and_state(&mut caller)?;
    let key = slice(memory, "a timer's key", key, u64::from(key_bytes)).map_err(stop)?;
    let result = match host.state.as_mut().filter(|_| host.has_timers) {
        Some(state) => state.set_timer(at_ms, key),
        None => Err(Refused::Full),
    };
    Ok(answer(result))
}

fn timer_delete(
    mut caller: Caller<'_, GuestState>,
    at_ms: i64,
    key: u32,
    key_bytes: u32,
) -> wasmtime::Result<u32> {
    let (memory, host) = memory_and_state(&mut caller)?;
    let key = slice(memory, "a timer's key", key, u64::from(key_bytes)).map_err(stop)?;
    let deleted = host.state.as_mut().map_or(Ok(false), |state| state.delete_timer(at_ms, key));
    deleted.map(u32::from).map_err(too_much)
}

fn answer(result: Result<(), Refused>) -> u32 {
    match result {
        Ok(()) => abi::STATE_DONE,
        Err(Refused::Full) => abi::STATE_FULL,
        Err(Refused::TooLong) => abi::STATE_TOO_LONG,
    }
}

fn too_much(TooMuch: TooMuch) -> wasmtime::Error {
    let limit_bytes = caps::TRANSFORM_STATE_CHANGE_BYTES_MAX;
    wasmtime::Error::new(Stop::Fault(Fault::TooMuchState { limit_bytes }))
}
