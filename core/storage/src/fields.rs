//! Little-endian numbers at fixed places of a header. Reading beyond the end gives zero: headers
//! are checked by length and CRC before a field of them is believed, and nothing here may panic.

/// The two bytes at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

/// The four bytes at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// The eight bytes at `at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// `N` bytes at `at`.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    if let Some(part) = at.checked_add(N).and_then(|end| bytes.get(at..end)) {
        found.copy_from_slice(part);
    }
    found
}

/// Puts bytes at their place in a header that is being built.
pub(crate) fn put_at(header: &mut [u8], at: usize, bytes: &[u8]) {
    header[at..at + bytes.len()].copy_from_slice(bytes);
}

/// CRC-32C (Castagnoli), as in record batches.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}
