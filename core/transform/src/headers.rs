//! Record headers in Kafka's form: a count, then names and values with varint lengths.
//!
//! It reads what the wire floor has checked or this crate has written, and still never past it.

use std::ops::Range;

/// Walks headers: the places of each name and value in `raw`.
pub(crate) fn walk(raw: &[u8]) -> Walk<'_> {
    let mut walk = Walk { raw, at: 0, left: 0 };
    walk.left = walk.varint().and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    walk
}

/// See [`walk`].
pub(crate) struct Walk<'a> {
    raw: &'a [u8],
    at: usize,
    left: u32,
}

impl Walk<'_> {
    fn varint(&mut self) -> Option<i32> {
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

    fn piece(&mut self) -> Option<Option<Range<usize>>> {
        let Ok(bytes) = usize::try_from(self.varint()?) else {
            return Some(None);
        };
        let range = self.at..self.at.checked_add(bytes)?;
        self.raw.get(range.clone())?;
        self.at = range.end;
        Some(Some(range))
    }

    /// Where the headers after those already walked start.
    pub(crate) fn position(&self) -> usize {
        self.at
    }
}

impl Iterator for Walk<'_> {
    type Item = (Range<usize>, Option<Range<usize>>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some((self.piece()??, self.piece()?))
    }
}

/// Appends the number of headers that follow.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    put_varint(out, count as i64);
}

/// Appends one header.
pub(crate) fn put_header(out: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    put_varint(out, name.len() as i64);
    out.extend_from_slice(name);
    match value {
        Some(value) => {
            put_varint(out, value.len() as i64);
            out.extend_from_slice(value);
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
