//! The host's functions, as they are: the checks need their bare answers.

#![allow(unsafe_code)]

mod imports {
    #[link(wasm_import_module = "millpond")]
    unsafe extern "C" {
        pub(super) fn log(level: u32, line: *const u8, len: usize);
        pub(super) fn abort(message: *const u8, len: usize);
        pub(super) fn setting(key: *const u8, len: usize, buf: *mut u8, buf_len: usize) -> i32;
        pub(super) fn state_get(key: *const u8, len: usize, buf: *mut u8, buf_len: usize) -> i32;
        pub(super) fn state_put(
            key: *const u8,
            len: usize,
            value: *const u8,
            value_len: usize,
            expires_ms: i64,
        ) -> u32;
        pub(super) fn state_delete(key: *const u8, len: usize) -> u32;
        pub(super) fn state_range(
            from: *const u8,
            from_len: usize,
            to: *const u8,
            to_len: usize,
            buf: *mut u8,
            buf_len: usize,
        ) -> i32;
        pub(super) fn timer_set(at_ms: i64, key: *const u8, len: usize) -> u32;
        pub(super) fn timer_delete(at_ms: i64, key: *const u8, len: usize) -> u32;
        pub(super) fn json_field(
            doc: *const u8,
            doc_len: usize,
            path: *const u8,
            path_len: usize,
            out: *mut [u32; 2],
        ) -> i32;
        pub(super) fn json_number(
            doc: *const u8,
            doc_len: usize,
            path: *const u8,
            path_len: usize,
            out: *mut f64,
        ) -> i32;
        pub(super) fn json_numbers(
            docs: *const [u32; 2],
            count: usize,
            name: *const u8,
            name_len: usize,
            out: *mut f64,
        );
        pub(super) fn hash64(bytes: *const u8, len: usize, seed: u64) -> u64;
    }
}

// SAFETY, of all: the host reads what is passed as `*const` and writes to the buffers no more than
// their lengths, during the call; all of it lives throughout the call.

pub(crate) fn log(line: &str) {
    // SAFETY: as above.
    unsafe { imports::log(1, line.as_ptr(), line.len()) }
}

pub(crate) fn abort(message: &str) -> ! {
    // SAFETY: as above.
    unsafe { imports::abort(message.as_ptr(), message.len()) }
    core::arch::wasm32::unreachable()
}

pub(crate) fn setting(key: &str, buffer: &mut [u8]) -> i32 {
    // SAFETY: as above.
    unsafe { imports::setting(key.as_ptr(), key.len(), buffer.as_mut_ptr(), buffer.len()) }
}

pub(crate) fn get(key: &[u8], buffer: &mut [u8]) -> i32 {
    // SAFETY: as above.
    unsafe { imports::state_get(key.as_ptr(), key.len(), buffer.as_mut_ptr(), buffer.len()) }
}

pub(crate) fn put(key: &[u8], value: &[u8], expires_ms: i64) -> u32 {
    // SAFETY: as above.
    unsafe { imports::state_put(key.as_ptr(), key.len(), value.as_ptr(), value.len(), expires_ms) }
}

pub(crate) fn delete(key: &[u8]) -> u32 {
    // SAFETY: as above.
    unsafe { imports::state_delete(key.as_ptr(), key.len()) }
}

pub(crate) fn range(from: &[u8], to: Option<&[u8]>, buffer: &mut [u8]) -> i32 {
    let (to, to_len) =
        to.map_or((core::ptr::null(), u32::MAX as usize), |to| (to.as_ptr(), to.len()));
    let (buffer, buffer_len) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: as above.
    unsafe { imports::state_range(from.as_ptr(), from.len(), to, to_len, buffer, buffer_len) }
}

pub(crate) fn set_timer(at_ms: i64, key: &[u8]) -> u32 {
    // SAFETY: as above.
    unsafe { imports::timer_set(at_ms, key.as_ptr(), key.len()) }
}

pub(crate) fn delete_timer(at_ms: i64, key: &[u8]) -> u32 {
    // SAFETY: as above.
    unsafe { imports::timer_delete(at_ms, key.as_ptr(), key.len()) }
}

pub(crate) fn json_field(doc: &str, path: &str) -> (i32, [u32; 2]) {
    let mut place = [u32::MAX; 2];
    let out = &raw mut place;
    let (path, path_len) = (path.as_ptr(), path.len());
    // SAFETY: as above.
    (unsafe { imports::json_field(doc.as_ptr(), doc.len(), path, path_len, out) }, place)
}

pub(crate) fn json_number(doc: &str, path: &str) -> (i32, f64) {
    let mut number = f64::NAN;
    let out = &raw mut number;
    let (path, path_len) = (path.as_ptr(), path.len());
    // SAFETY: as above.
    (unsafe { imports::json_number(doc.as_ptr(), doc.len(), path, path_len, out) }, number)
}

pub(crate) fn json_numbers(docs: &[Option<&str>], name: &str) -> Vec<f64> {
    let table: Vec<_> = docs
        .iter()
        .map(|doc| {
            doc.map_or([0, u32::MAX], |doc| [doc.as_ptr() as usize as u32, doc.len() as u32])
        })
        .collect();
    let mut numbers = vec![0.0; docs.len()];
    let (out, name_len) = (numbers.as_mut_ptr(), name.len());
    // SAFETY: as above; a pair is two words, and there are as many numbers as pairs.
    unsafe { imports::json_numbers(table.as_ptr(), docs.len(), name.as_ptr(), name_len, out) }
    numbers
}

pub(crate) fn hash64(bytes: &[u8], seed: u64) -> u64 {
    // SAFETY: as above.
    unsafe { imports::hash64(bytes.as_ptr(), bytes.len(), seed) }
}
