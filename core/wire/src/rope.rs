//! Record bytes in several pieces, passed on by reference. Must never copy what it is given.

use bytes::{Bytes, BytesMut};

/// The `records` field of a Fetch response: record batches, one after the other, as a rope of slices.
#[derive(Clone, Default)]
pub struct Records {
    chunks: Vec<Bytes>,
    size_bytes: usize,
}

impl Records {
    /// No records.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), size_bytes: 0 }
    }

    /// Adds a piece at the end, by reference.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.size_bytes = self.size_bytes.saturating_add(chunk.len());
            self.chunks.push(chunk);
        }
    }

    /// The pieces, in order; none is empty.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// Gives up the pieces.
    #[must_use]
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }

    /// The bytes of all pieces together.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Whether there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.size_bytes == 0
    }

    /// All bytes in one piece. Copies only if there are several pieces: for clients and tests.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self.chunks.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut whole = BytesMut::with_capacity(self.size_bytes);
                many.iter().for_each(|chunk| whole.extend_from_slice(chunk));
                whole.freeze()
            }
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::from_iter([bytes])
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut records = Self::new();
        chunks.into_iter().for_each(|chunk| records.push(chunk));
        records
    }
}

/// Two ropes are equal if their bytes are, however they are cut.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.size_bytes == other.size_bytes
            && self.chunks.iter().flatten().eq(other.chunks.iter().flatten())
    }
}

impl Eq for Records {}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_bytes().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ropes_compare_by_content_not_by_cut() {
        let cut =
            Records::from_iter([Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")]);
        let whole = Records::from(Bytes::from_static(b"abc"));
        assert_eq!(cut, whole);
        assert_eq!(cut.chunks().len(), 2);
        assert_eq!(cut.size_bytes(), 3);
        assert_eq!(cut.to_bytes(), whole.to_bytes());
        assert_ne!(cut, Records::from(Bytes::from_static(b"abd")));
        assert_ne!(cut, Records::new());
    }

    #[test]
    fn a_single_piece_is_not_copied() {
        let piece = Bytes::from(vec![7_u8; 100]);
        assert_eq!(Records::from(piece.clone()).to_bytes().as_ptr(), piece.as_ptr());
    }
}
