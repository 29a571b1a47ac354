//! Record headers in Kafka's form: a count, then names and values with varint lengths.
//!
//! It reads what the wire floor has checked or this crate has written, and still never past it.

use std::ops::Range;

/// Reads varints and pieces with a length in front, from the start of some bytes.
pub(crate) struct Cursor<'a> {
    raw: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(raw: &'a [u8]) -> Self {
        Cursor { raw, at: 0 }
    }

    /// A zigzag varint of 32 bits.
    pub(crate) fn varint(&mut self) -> Option<i32> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = *self.raw.get(self.at)?;
            self.at += 1;
            value |= u32::from(byte & 0x7f).wrapping_shl(shift);
            if byte < 0x80 {
                return Some((value >> 1) as i32 ^ -((value & 1) as i32));
            }
        }
        None
    }

    /// Where a piece stands; the inner `None` is the piece that is none.
    pub(crate) fn piece(&mut self) -> Option<Option<Range<usize>>> {
        let Ok(bytes) = usize::try_from(self.varint()?) else {
            return Some(None);
        };
        let range = self.at..self.at.checked_add(bytes)?;
        self.raw.get(range.clone())?;
        self.at = range.end;
        Some(Some(range))
    }

    /// Where what was not read yet starts.
    pub(crate) fn position(&self) -> usize {
        self.at
    }
}

/// Walks headers: the places of each name and value in `raw`.
pub(crate) fn walk(raw: &[u8]) -> Walk<'_> {
    let mut cursor = Cursor::new(raw);
    let left = cursor.varint().and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    Walk { cursor, left }
}

/// See [`walk`].
pub(crate) struct Walk<'a> {
    cursor: Cursor<'a>,
    left: u32,
}

impl Walk<'_> {
    /// Where the headers after those already walked start.
    pub(crate) fn position(&self) -> usize {
        self.cursor.position()
    }
}

impl Iterator for Walk<'_> {
    type Item = (Range<usize>, Option<Range<usize>>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some((self.cursor.piece()??, self.cursor.piece()?))
    }
}

/// Appends the number of headers that follow.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    put_varint(out, count as i64);
}

/// Appends one header.
pub(crate) fn put_header(out: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    put_piece(out, Some(name));
    put_piece(out, value);
}

/// Appends a piece with its length in front; -1 stands for none.
pub(crate) fn put_piece(out: &mut Vec<u8>, piece: Option<&[u8]>) {
    match piece {
        Some(piece) => {
            put_varint(out, piece.len() as i64);
            out.extend_from_slice(piece);
        }
        None => put_varint(out, -1),
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_as_they_were_written() {
        let long = vec![7; 300];
        let headers: [(&[u8], Option<&[u8]>); 3] =
            [(b"a", Some(b"1")), (b"", None), (b"long", Some(&long))];
        let mut raw = Vec::new();
        put_count(&mut raw, headers.len());
        for (name, value) in headers {
            put_header(&mut raw, name, value);
        }
        let found: Vec<_> =
            walk(&raw).map(|(name, value)| (&raw[name], value.map(|value| &raw[value]))).collect();
        assert_eq!(found, headers);
    }

    #[test]
    fn what_is_cut_short_ends_early() {
        let mut raw = Vec::new();
        put_count(&mut raw, 2);
        put_header(&mut raw, b"name", Some(b"value"));
        put_header(&mut raw, b"name", Some(b"value"));
        for end in 0..raw.len() {
            assert!(walk(&raw[..end]).count() < 2);
        }
    }
}
