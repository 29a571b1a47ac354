//! The broker's helpers, called. See `abi.rs` for their contract.

#![allow(unsafe_code)]

mod host {
    #[link(wasm_import_module = "millpond")]
    unsafe extern "C" {
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

// SAFETY, of all: the host reads what is passed as `*const` and writes 8 bytes to `out`, during the
// call; all of it lives throughout the call.

/// A kind or what is wrong, offset and length.
pub(super) fn json_field(document: &[u8], pointer: &[u8]) -> (i32, u32, u32) {
    let mut place = [0; 2];
    // SAFETY: as above.
    let code = unsafe {
        host::json_field(
            document.as_ptr(),
            document.len(),
            pointer.as_ptr(),
            pointer.len(),
            &raw mut place,
        )
    };
    (code, place[0], place[1])
}

/// 0 or what is wrong, and the number.
#[inline]
pub(super) fn json_number(document: &[u8], pointer: &[u8]) -> (i32, f64) {
    let mut number = 0.0;
    // SAFETY: as above.
    let code = unsafe {
        host::json_number(
            document.as_ptr(),
            document.len(),
            pointer.as_ptr(),
            pointer.len(),
            &raw mut number,
        )
    };
    (code, number)
}

/// One number for each document, which are addresses and lengths; NaN where there is none.
pub(super) fn json_numbers(documents: &[[u32; 2]], name: &[u8], numbers: &mut [f64]) {
    assert_eq!(documents.len(), numbers.len());
    let (table, count) = (documents.as_ptr(), documents.len());
    // SAFETY: as above, and the host writes as many numbers as there are documents.
    unsafe { host::json_numbers(table, count, name.as_ptr(), name.len(), numbers.as_mut_ptr()) }
}

#[inline]
pub(super) fn hash64(bytes: &[u8], seed: u64) -> u64 {
    // SAFETY: as above.
    unsafe { host::hash64(bytes.as_ptr(), bytes.len(), seed) }
}
