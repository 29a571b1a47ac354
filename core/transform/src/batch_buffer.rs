//! Lays records out in a guest's memory as `abi.rs` says.
//!
//! Sizes are computed first, so that nothing is written but into room of that size; nothing is
//! read from the guest.

use crate::abi;
use crate::headers;
use crate::rows::{Row, Span};
use bytes::Bytes;

/// What a guest is to run on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StageInput<'a> {
    pub(crate) rows: &'a [Row],
    pub(crate) arenas: &'a [Bytes],
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    /// Input number of the record with origin 0.
    pub(crate) first_input: u64,
    pub(crate) seed: u64,
    /// The records are timers that are due.
    pub(crate) timers: bool,
    /// What comes of it is not stored.
    pub(crate) replay: bool,
    /// Before these records.
    pub(crate) watermark_ms: i64,
    /// In use before these records.
    pub(crate) state_bytes: usize,
}

impl<'a> StageInput<'a> {
    /// Some of the records alone.
    pub(crate) fn part(self, range: std::ops::Range<usize>) -> StageInput<'a> {
        StageInput { rows: self.rows.get(range).unwrap_or_default(), ..self }
    }
}

/// Where things will stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    headers_at: usize,
    header_count: usize,
    data_at: usize,
    pub(crate) total_bytes: u32,
}

/// `None` if the records do not fit 32 bits.
pub(crate) fn layout(input: &StageInput<'_>) -> Option<Layout> {
    let mut header_count = 0;
    let mut data_bytes = input.topic.len();
    for row in input.rows {
        header_count += row.header_count as usize;
        data_bytes += row.payload_bytes();
    }
    let headers_at = abi::INPUT_HEADER_BYTES + input.rows.len() * abi::INPUT_RECORD_BYTES;
    let data_at = headers_at + header_count * abi::HEADER_ENTRY_BYTES;
    let total_bytes = u32::try_from(data_at + data_bytes).ok()?;
    Some(Layout { headers_at, header_count, data_at, total_bytes })
}

/// Writes the input to `out`, which has the layout's size. `None` if it has not.
pub(crate) fn write(input: &StageInput<'_>, layout: &Layout, out: &mut [u8]) -> Option<()> {
    let (index, data) = out.split_at_mut_checked(layout.data_at)?;
    let (index, headers) = index.split_at_mut_checked(layout.headers_at)?;
    let (header, records) = index.split_at_mut_checked(abi::INPUT_HEADER_BYTES)?;
    let (header_entries, _) = headers.as_chunks_mut::<{ abi::HEADER_ENTRY_BYTES }>();
    let mut writer =
        Writer { data, at: 0, data_at: layout.data_at, header_entries, next_header: 0 };
    let topic = writer.put(Some(input.topic.as_bytes()))?;
    write_header(input, layout, topic, header)?;
    let (entries, _) = records.as_chunks_mut::<{ abi::INPUT_RECORD_BYTES }>();
    for (row, entry) in input.rows.iter().zip(entries) {
        writer.put_record(row, input.arenas, entry)?;
    }
    Some(())
}

fn write_header(
    input: &StageInput<'_>,
    layout: &Layout,
    topic: (u32, u32),
    header: &mut [u8],
) -> Option<()> {
    let header: &mut [u8; abi::INPUT_HEADER_BYTES] = header.try_into().ok()?;
    *header = [0; abi::INPUT_HEADER_BYTES];
    let words = [
        abi::INPUT_MAGIC,
        abi::INPUT_HEADER_BYTES as u32,
        layout.total_bytes,
        input.rows.len() as u32,
        abi::INPUT_HEADER_BYTES as u32,
        abi::INPUT_RECORD_BYTES as u32,
        layout.headers_at as u32,
        layout.header_count as u32,
        topic.0,
        topic.1,
        input.partition as u32,
        if input.replay { abi::INPUT_FLAG_REPLAY } else { 0 },
    ];
    put_words(header, &words);
    let (_, numbers) = header.split_at_mut_checked(48)?;
    put_words(
        numbers,
        &[
            input.first_input as u32,
            (input.first_input >> 32) as u32,
            input.seed as u32,
            (input.seed >> 32) as u32,
            input.watermark_ms as u32,
            (input.watermark_ms >> 32) as u32,
            input.state_bytes as u32,
            (input.state_bytes as u64 >> 32) as u32,
        ],
    );
    Some(())
}

struct Writer<'a> {
    data: &'a mut [u8],
    at: usize,
    /// Where `data` stands in the buffer.
    data_at: usize,
    header_entries: &'a mut [[u8; abi::HEADER_ENTRY_BYTES]],
    next_header: usize,
}

impl Writer<'_> {
    /// Gives offset and length.
    #[inline]
    fn put(&mut self, piece: Option<&[u8]>) -> Option<(u32, u32)> {
        let Some(piece) = piece else {
            return Some((0, abi::NULL));
        };
        let end = self.at + piece.len();
        self.data.get_mut(self.at..end)?.copy_from_slice(piece);
        let offset = self.data_at + self.at;
        self.at = end;
        Some((offset as u32, piece.len() as u32))
    }

    #[inline]
    fn put_span(&mut self, span: Span, arenas: &[Bytes]) -> Option<(u32, u32)> {
        self.put(span.get(arenas))
    }

    #[inline]
    fn put_record(
        &mut self,
        row: &Row,
        arenas: &[Bytes],
        entry: &mut [u8; abi::INPUT_RECORD_BYTES],
    ) -> Option<()> {
        let key = self.put_span(row.key, arenas)?;
        let value = self.put_span(row.value, arenas)?;
        let first_header = self.next_header as u32;
        if row.header_count > 0 {
            self.put_headers(row, arenas)?;
        }
        let time = row.timestamp_ms as u64;
        let words = [
            time as u32,
            (time >> 32) as u32,
            row.origin,
            row.ordinal,
            key.0,
            key.1,
            value.0,
            value.1,
            first_header,
            row.header_count,
            0,
            0,
        ];
        put_words(entry, &words);
        Some(())
    }

    fn put_headers(&mut self, row: &Row, arenas: &[Bytes]) -> Option<()> {
        let raw = row.headers.get(arenas)?;
        let (base, _) = self.put(Some(raw))?;
        let place = |range: std::ops::Range<usize>| (base + range.start as u32, range.len() as u32);
        for (name, value) in headers::walk(raw) {
            let name = place(name);
            let value = value.map_or((0, abi::NULL), place);
            let entry = self.header_entries.get_mut(self.next_header)?;
            put_words(entry, &[name.0, name.1, value.0, value.1]);
            self.next_header += 1;
        }
        Some(())
    }
}

#[inline]
fn put_words(out: &mut [u8], words: &[u32]) {
    let (places, _) = out.as_chunks_mut::<4>();
    for (place, word) in places.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
}
