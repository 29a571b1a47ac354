//! The bytes of a spill: files of frames, each with a checksum and a number that rises by one.
//!
//! ```text
//! file   "MPSPILL1", frame of kind State, then any frames
//! frame  length u32 LE   of what follows the checksum
//!        CRC-32C u32 LE  of what follows
//!        number  u64 LE  rises by one from frame to frame, across files
//!        kind    u8      1 Record, 2 Window, 3 Done, 4 State
//!        body
//! ```
//!
//! Pure. It believes nothing: a frame counts only with its checksum and its number, and what is cut
//! off or torn ends the reading, never the program.

use super::ledger::{Group, Ledger, Outcome, Window};
use crate::producer::ProducerId;
use crate::producer::Record;
use bytes::Bytes;
use millpond_wire::{DecodeError, Reader, Writer, limits};
use std::sync::Arc;

/// What a file begins with.
pub(super) const MAGIC: &[u8; 8] = b"MPSPILL1";
const HEAD_BYTES: usize = 8;
const NUMBER_AND_KIND_BYTES: usize = 9;

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A record that was taken.
    Record(Record),
    /// These records are sent from now on, under these stamps.
    Window(Window),
    /// The window is over; how each of its groups ended.
    Done(Vec<Outcome>),
    /// All that was known when a file was begun: earlier files are needed for their records only.
    State(Ledger),
}

/// A frame with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) frame: Frame,
}

/// Writes one frame.
pub(super) fn encode(number: u64, frame: &Frame, into: &mut Vec<u8>) {
    let mut body = Writer::new();
    body.raw(&Bytes::copy_from_slice(&number.to_le_bytes()));
    match frame {
        Frame::Record(record) => {
            body.u8(1);
            write_record(&mut body, record);
        }
        Frame::Window(window) => {
            body.u8(2);
            write_window(&mut body, window);
        }
        Frame::Done(outcomes) => {
            body.u8(3);
            body.u32(count(outcomes.len()));
            outcomes.iter().for_each(|outcome| body.u8(outcome.to_byte()));
        }
        Frame::State(ledger) => {
            body.u8(4);
            write_state(&mut body, ledger);
        }
    }
    let body = body.into_bytes();
    into.extend(count(body.len()).to_le_bytes());
    into.extend(crc32c::crc32c(&body).to_le_bytes());
    into.extend_from_slice(&body);
}

/// The frame at the start of `bytes` and how many bytes it takes; `None` where there is no whole one.
pub(super) fn decode(bytes: &Bytes) -> Option<(Numbered, usize)> {
    let word = |at: usize| {
        let word: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(word))
    };
    let length = usize::try_from(word(0)?).ok()?;
    if !(NUMBER_AND_KIND_BYTES..=limits::CLIENT_SPILL_FRAME_BYTES_MAX).contains(&length) {
        return None;
    }
    let body = bytes.get(HEAD_BYTES..HEAD_BYTES + length)?;
    if crc32c::crc32c(body) != word(4)? {
        return None;
    }
    let body = bytes.slice(HEAD_BYTES..HEAD_BYTES + length);
    let number: [u8; 8] = body.get(..8)?.try_into().ok()?;
    let number = u64::from_le_bytes(number);
    let mut reader = Reader::new(body.slice(8..));
    let frame = read_frame(&mut reader).ok().flatten()?;
    reader.rest().is_empty().then_some((Numbered { number, frame }, HEAD_BYTES + length))
}

fn read_frame(reader: &mut Reader) -> Result<Option<Frame>, DecodeError> {
    Ok(Some(match reader.u8()? {
        1 => Frame::Record(read_record(reader)?),
        2 => Frame::Window(read_window(reader)?),
        3 => {
            let count = reader.u32()?;
            let mut outcomes = Vec::new();
            for _ in 0..count {
                outcomes.push(Outcome::from_byte(reader.u8()?));
            }
            Frame::Done(outcomes)
        }
        4 => Frame::State(read_state(reader)?),
        _ => return Ok(None),
    }))
}

fn write_record(body: &mut Writer, record: &Record) {
    body.string(true, &record.topic);
    body.i32(record.partition.unwrap_or(-1));
    body.i64(record.timestamp_ms.unwrap_or(0));
    body.nullable_bytes(true, record.key.as_ref());
    body.nullable_bytes(true, record.value.as_ref());
    body.u32(count(record.headers.len()));
    for (name, value) in &record.headers {
        body.bytes(true, name);
        body.nullable_bytes(true, value.as_ref());
    }
}

fn read_record(reader: &mut Reader) -> Result<Record, DecodeError> {
    let topic: Arc<str> = reader.string(true)?.into();
    let partition = Some(reader.i32()?).filter(|partition| *partition >= 0);
    let timestamp_ms = Some(reader.i64()?);
    let key = reader.nullable_bytes(true)?;
    let value = reader.nullable_bytes(true)?;
    let mut headers = Vec::new();
    // Each takes bytes of its own: a count that lies ends soon.
    for _ in 0..reader.u32()? {
        headers.push((reader.bytes(true)?, reader.nullable_bytes(true)?));
    }
    Ok(Record { topic, partition, key, value, headers, timestamp_ms })
}

fn write_window(body: &mut Writer, window: &Window) {
    body.u64(window.first);
    body.u64(window.last);
    body.i64(window.producer.id);
    body.i16(window.producer.epoch);
    body.u32(count(window.partitions.len()));
    for (topic, partitions) in &window.partitions {
        body.string(true, topic);
        body.u32(*partitions);
    }
    body.u32(count(window.groups.len()));
    for group in &window.groups {
        body.string(true, &group.topic);
        body.i32(group.partition);
        body.i32(group.base_sequence);
        body.u32(group.records);
        body.u8(group.outcome.to_byte());
    }
}

fn read_window(reader: &mut Reader) -> Result<Window, DecodeError> {
    let (first, last) = (reader.u64()?, reader.u64()?);
    let producer = ProducerId { id: reader.i64()?, epoch: reader.i16()? };
    let mut window = Window { first, last, producer, ..Window::default() };
    for _ in 0..reader.u32()? {
        window.partitions.insert(reader.string(true)?.into(), reader.u32()?);
    }
    for _ in 0..reader.u32()? {
        window.groups.push(Group {
            topic: reader.string(true)?.into(),
            partition: reader.i32()?,
            base_sequence: reader.i32()?,
            records: reader.u32()?,
            outcome: Outcome::from_byte(reader.u8()?),
        });
    }
    Ok(window)
}

fn write_state(body: &mut Writer, ledger: &Ledger) {
    body.u64(ledger.done_through);
    let producer = ledger.producer.unwrap_or(ProducerId { id: -1, epoch: -1 });
    body.i64(producer.id);
    body.i16(producer.epoch);
    body.u32(count(ledger.sequences.len()));
    for ((topic, partition), sequence) in &ledger.sequences {
        body.string(true, topic);
        body.i32(*partition);
        body.i32(*sequence);
    }
    body.bool(ledger.window.is_some());
    if let Some(window) = &ledger.window {
        write_window(body, window);
    }
}

fn read_state(reader: &mut Reader) -> Result<Ledger, DecodeError> {
    let done_through = reader.u64()?;
    let producer = ProducerId { id: reader.i64()?, epoch: reader.i16()? };
    let producer = Some(producer).filter(|producer| producer.id >= 0);
    let mut ledger = Ledger { done_through, producer, ..Ledger::default() };
    for _ in 0..reader.u32()? {
        let place = (reader.string(true)?.into(), reader.i32()?);
        ledger.sequences.insert(place, reader.i32()?);
    }
    if reader.bool()? {
        ledger.window = Some(read_window(reader)?);
    }
    Ok(ledger)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What a file holds: its frames with their places, and where the last whole one ends.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) frames: Vec<(u64, Numbered)>,
    /// Bytes that are good; what stands behind them is torn or damaged.
    pub(super) good_bytes: u64,
}

/// Reads a whole file. `after`: its first frame must have a higher number than that. A file without its
/// State is none: the power went before it was begun.
pub(super) fn scan(file: &Bytes, after: u64) -> Scan {
    let mut scan = Scan::default();
    if file.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
        return scan;
    }
    let mut at = MAGIC.len();
    let mut last: Option<u64> = None;
    while let Some((numbered, bytes)) = decode(&file.slice(at..)) {
        let is_next = match last {
            None => numbered.number > after && matches!(numbered.frame, Frame::State(_)),
            Some(last) => Some(numbered.number) == last.checked_add(1),
        };
        if !is_next {
            break;
        }
        last = Some(numbered.number);
        scan.frames.push((at as u64, numbered));
        at += bytes;
    }
    if !scan.frames.is_empty() {
        scan.good_bytes = at as u64;
    }
    scan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        let mut window = Window {
            first: 2,
            last: 3,
            producer: ProducerId { id: 7, epoch: 1 },
            ..Window::default()
        };
        window.partitions.insert("t".into(), 3);
        window.groups.push(Group {
            topic: "t".into(),
            partition: 2,
            base_sequence: 40,
            records: 2,
            outcome: Outcome::Open,
        });
        window
    }

    fn frames() -> Vec<Frame> {
        let record = Record::to("t").key("k").value("v").header("h", "x").timestamp_ms(5);
        let mut ledger = Ledger { done_through: 1, ..Ledger::default() };
        ledger.producer = Some(ProducerId { id: 7, epoch: 1 });
        ledger.sequences.insert(("t".into(), 2), 40);
        ledger.window = Some(window());
        vec![
            Frame::State(ledger),
            Frame::Record(record.clone()),
            Frame::Record(Record { value: None, partition: Some(2), ..record }),
            Frame::Window(window()),
            Frame::Done(vec![Outcome::Written, Outcome::Refused]),
        ]
    }

    fn file() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (MAGIC.to_vec(), Vec::new());
        for (number, frame) in (1..).zip(frames()) {
            encode(number, &frame, &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, _) = file();
        let scan = scan(&Bytes::from(bytes.clone()), 0);
        let read: Vec<Frame> = scan.frames.into_iter().map(|(_, n)| n.frame).collect();
        assert_eq!(read, frames());
        assert_eq!(scan.good_bytes, bytes.len() as u64);
    }

    #[test]
    fn a_cut_at_every_byte_leaves_the_whole_frames_before_it() {
        let (bytes, ends) = file();
        for cut in 0..bytes.len() {
            let scan = scan(&Bytes::copy_from_slice(&bytes[..cut]), 0);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(scan.frames.len(), whole, "cut at {cut}");
            let good = whole.checked_sub(1).map_or(0, |last| ends[last] as u64);
            assert_eq!(scan.good_bytes, good, "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_at_every_byte_ends_the_reading_there_or_before() {
        let (bytes, ends) = file();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let scan = scan(&Bytes::from(bad), 0);
            let whole = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(scan.frames.len(), if at < MAGIC.len() { 0 } else { whole }, "byte {at}");
        }
    }

    #[test]
    fn frames_of_another_life_do_not_count() {
        let (bytes, _) = file();
        assert!(scan(&Bytes::from(bytes), 1).frames.is_empty(), "its numbers are not above 1");
        let mut gap = MAGIC.to_vec();
        encode(1, &Frame::State(Ledger::default()), &mut gap);
        encode(3, &Frame::Done(vec![]), &mut gap);
        assert_eq!(scan(&Bytes::from(gap), 0).frames.len(), 1);
    }

    #[test]
    fn counts_that_lie_take_no_memory() {
        for kind in [1, 2, 3, 4] {
            let mut body = 9u64.to_le_bytes().to_vec();
            body.push(kind);
            body.extend([0xff; 64]);
            let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
            bytes.extend(crc32c::crc32c(&body).to_le_bytes());
            bytes.extend(body);
            assert!(decode(&Bytes::from(bytes)).is_none());
        }
    }
}
