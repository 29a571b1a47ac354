//! Buffers that O_DIRECT accepts: their first byte lies on a block boundary.
//!
//! Safe by construction: a plain vector, a little too long, of which an aligned range is used. The
//! vector never grows in place, so the range never moves. It must never hand out bytes that were
//! not initialised.

use std::fmt;

/// Owned bytes, the first of which is aligned to a power of two.
pub struct AlignedBuf {
    memory: Vec<u8>,
    start: usize,
    len: usize,
    capacity: usize,
    align: usize,
}

impl AlignedBuf {
    /// An empty buffer with room for `capacity_bytes`, rounded up to a multiple of `align_bytes`.
    ///
    /// `align_bytes` must be a power of two (it comes from the program or the device, never from a
    /// peer).
    pub fn with_capacity(capacity_bytes: usize, align_bytes: usize) -> AlignedBuf {
        assert!(align_bytes.is_power_of_two(), "alignment is a power of two");
        let capacity = capacity_bytes.next_multiple_of(align_bytes);
        let memory = vec![0_u8; capacity + align_bytes - 1];
        let address = memory.as_ptr().addr();
        let start = address.next_multiple_of(align_bytes) - address;
        AlignedBuf { memory, start, len: 0, capacity, align: align_bytes }
    }

    /// A buffer that holds `bytes`.
    pub fn copied_from(bytes: &[u8], align_bytes: usize) -> AlignedBuf {
        let mut buf = AlignedBuf::with_capacity(bytes.len(), align_bytes);
        buf.extend_from_slice(bytes);
        buf
    }

    /// Bytes in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The alignment of the first byte.
    pub fn align_bytes(&self) -> usize {
        self.align
    }

    /// The bytes in use.
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// The bytes in use, to change.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    /// Makes `len_bytes` bytes of the buffer the ones in use. What stood in them before stays.
    ///
    /// Panics above the capacity: lengths are the program's own arithmetic.
    pub fn set_len(&mut self, len_bytes: usize) {
        assert!(len_bytes <= self.capacity, "length within capacity");
        self.len = len_bytes;
    }

    /// Forgets the bytes in use.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends. Panics above the capacity: lengths are the program's own arithmetic.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let at = self.len;
        self.set_len(at + bytes.len());
        self.as_mut_slice()[at..].copy_from_slice(bytes);
    }

    /// Appends zeros up to the next multiple of `unit_bytes`.
    pub fn pad_to_multiple(&mut self, unit_bytes: usize) {
        let at = self.len;
        self.set_len(at.next_multiple_of(unit_bytes));
        self.as_mut_slice()[at..].fill(0);
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} of {} bytes, aligned to {})", self.len, self.capacity, self.align)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_byte_is_aligned_and_stays_so_when_moved() {
        for align in [512, 4096, 16384] {
            let mut buf = AlignedBuf::with_capacity(align * 2 + 1, align);
            assert_eq!(buf.capacity(), align * 3);
            buf.extend_from_slice(b"abc");
            let moved = Box::new(buf);
            assert_eq!(moved.as_slice().as_ptr().addr() % align, 0);
            assert_eq!(moved.as_slice(), b"abc");
        }
    }

    #[test]
    fn padding_is_zero_even_where_old_bytes_stood() {
        let mut buf = AlignedBuf::copied_from(&[7; 512], 512);
        buf.clear();
        buf.extend_from_slice(b"x");
        buf.pad_to_multiple(512);
        assert_eq!(buf.len(), 512);
        assert!(buf.as_slice()[1..].iter().all(|byte| *byte == 0));
    }
}
