//! A record as Redpanda's contract carries it: key, value, number of headers, headers, each length
//! a zigzag varint, -1 for nothing. It must never read past what it was given.

use crate::headers;
use crate::rows::Row;
use bytes::Bytes;
use millpond_wire::limits as caps;

/// A record that a guest wrote.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// The count and the headers, as they stand.
    pub(crate) headers: &'a [u8],
    pub(crate) header_count: u32,
}

/// Appends a record.
pub(crate) fn put(out: &mut Vec<u8>, row: &Row, arenas: &[Bytes]) {
    headers::put_piece(out, row.key.get(arenas));
    headers::put_piece(out, row.value.get(arenas));
    match row.headers.get(arenas) {
        Some(own) => out.extend_from_slice(own),
        None => headers::put_count(out, 0),
    }
}

/// Reads what a guest wrote. `None`: it is no record.
pub(crate) fn read(bytes: &[u8]) -> Option<Written<'_>> {
    let mut cursor = headers::Cursor::new(bytes);
    let key = cursor.piece()?;
    let value = cursor.piece()?;
    let start = cursor.position();
    let header_count = u32::try_from(cursor.varint()?).ok()?;
    if header_count as usize > caps::RECORD_HEADERS_MAX {
        return None;
    }
    for _ in 0..header_count {
        cursor.piece()??;
        cursor.piece()?;
    }
    if cursor.position() != bytes.len() {
        return None;
    }
    let headers = bytes.get(start..)?;
    let piece = |range: Option<std::ops::Range<usize>>| range.and_then(|range| bytes.get(range));
    Some(Written { key: piece(key), value: piece(value), headers, header_count })
}

/// The topic that the options of a write name, if they name one. `None`: they are no options.
pub(crate) fn topic_of(options: &[u8]) -> Option<Option<&[u8]>> {
    const TOPIC: u8 = 1;
    let Some((&kind, rest)) = options.split_first() else {
        return Some(None);
    };
    let mut cursor = headers::Cursor::new(rest);
    let name = (kind == TOPIC).then(|| cursor.piece()).flatten()??;
    (cursor.position() == rest.len()).then(|| rest.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        headers::put_piece(&mut bytes, None);
        headers::put_piece(&mut bytes, Some(b"value"));
        headers::put_count(&mut bytes, 1);
        headers::put_header(&mut bytes, b"name", None);
        bytes
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let bytes = sample();
        let written = read(&bytes).expect("a record");
        assert_eq!((written.key, written.value), (None, Some(&b"value"[..])));
        assert_eq!(written.header_count, 1);
        let found: Vec<_> = headers::walk(written.headers).collect();
        assert_eq!(&written.headers[found[0].0.clone()], b"name");
    }

    #[test]
    fn what_is_cut_or_longer_is_no_record() {
        let whole = sample();
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "{end}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert_eq!(read(&longer), None);
        assert_eq!(read(&[0xff; 40]), None);
    }

    #[test]
    fn options_name_a_topic_or_nothing() {
        let mut options = vec![1];
        headers::put_piece(&mut options, Some(b"alarms"));
        assert_eq!(topic_of(&options), Some(Some(&b"alarms"[..])));
        assert_eq!(topic_of(b""), Some(None));
        for wrong in [&b"\x02"[..], b"\x01", b"\x01\x01", &options[..4]] {
            assert_eq!(topic_of(wrong), None, "{wrong:?}");
        }
    }
}
