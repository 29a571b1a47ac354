//! What one partition has on the direct path: where its next batch goes, and what stands where.
//! Plain arithmetic; it touches no disk.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use millpond_engine::{EntrySeq, Extent};
use millpond_wire::record::LogBatch;

use crate::segments::format::{SEGMENT_HEADER_BYTES, padded_end};
use crate::segments::{SegmentIndex, SegmentMeta, SegmentName, WrittenSegment};

/// How far a placed batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Not on the device yet.
    Waiting,
    /// On the device.
    Written,
    /// The device took no more: the batch goes into its entry.
    Refused,
}

/// Where a batch stands, or will.
#[derive(Debug)]
pub(crate) struct Place {
    seq: EntrySeq,
    pub(super) name: SegmentName,
    pub(super) position: u64,
    /// Whether it is the first of a new segment, whose header is still to be written.
    pub(super) begins_segment: bool,
    /// Where the next one begins: padding included.
    pub(super) end: u64,
    size_bytes: u64,
    base_offset: i64,
    next_offset: i64,
    max_timestamp: i64,
    records: u64,
    placement: Cell<Placement>,
}

impl Place {
    pub(crate) fn placement(&self) -> Placement {
        self.placement.get()
    }

    pub(super) fn set(&self, placement: Placement) {
        self.placement.set(placement);
    }

    /// As an entry tells it.
    pub(crate) fn extent(&self) -> Extent {
        let SegmentName { base_offset, generation } = self.name;
        Extent { base_offset, generation, position: self.position }
    }
}

/// See the module above.
pub(super) struct Run<F> {
    name: SegmentName,
    /// Where the next batch goes.
    position: u64,
    /// Whether nothing was placed in this segment yet, and it is new.
    is_fresh: bool,
    /// The offset that it has.
    end_offset: i64,
    /// A batch went another way.
    is_ended: bool,
    /// In order; those that no checkpoint names yet.
    places: VecDeque<Rc<Place>>,
    /// To be written, in order.
    pub(super) queue: VecDeque<(Rc<Place>, LogBatch)>,
    pub(super) is_writing: bool,
    /// The file that was written last, and its name.
    pub(super) file: Option<(SegmentName, F)>,
    block_bytes: usize,
}

impl<F> Run<F> {
    /// A run in a segment of its own.
    pub(super) fn new(base_offset: i64, generation: u32, block_bytes: usize) -> Run<F> {
        let name = SegmentName { base_offset, generation };
        let position = padded_end(SEGMENT_HEADER_BYTES as u64, block_bytes);
        Run { is_fresh: true, ..Run::at(name, position, base_offset, block_bytes) }
    }

    /// A run that continues a segment.
    pub(super) fn after(newest: SegmentMeta, block_bytes: usize) -> Run<F> {
        Run::at(newest.name(), newest.trusted_bytes, newest.end_offset, block_bytes)
    }

    fn at(name: SegmentName, position: u64, end_offset: i64, block_bytes: usize) -> Run<F> {
        Run {
            name,
            position,
            is_fresh: false,
            end_offset,
            is_ended: false,
            places: VecDeque::new(),
            queue: VecDeque::new(),
            is_writing: false,
            file: None,
            block_bytes,
        }
    }

    pub(super) fn is_continued_by(&self, batch: &LogBatch) -> bool {
        !self.is_ended && self.end_offset == batch.base_offset()
    }

    pub(super) fn end(&mut self) {
        self.is_ended = true;
    }

    /// Whether nothing of it waits, neither for the device nor for a checkpoint.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.queue.is_empty() && !self.is_writing
    }

    /// Whether nothing of it is on its way to the device.
    pub(super) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && !self.is_writing
    }

    pub(super) fn wants_lane(&self) -> bool {
        // Otherwise it has one, or waits for one.
        !self.is_writing && self.queue.len() == 1
    }

    /// The segments of its places, and the one that is written next.
    pub(super) fn names(&self) -> impl Iterator<Item = SegmentName> {
        self.places.iter().map(|place| place.name).chain([self.name])
    }

    /// The place of a batch that continues it.
    pub(super) fn place(
        &mut self,
        seq: EntrySeq,
        batch: &LogBatch,
        segment_bytes: u64,
        fresh_generation: impl FnOnce() -> u32,
    ) -> Rc<Place> {
        if self.position >= segment_bytes {
            let base_offset = batch.base_offset();
            self.name = SegmentName { base_offset, generation: fresh_generation() };
            self.position = padded_end(SEGMENT_HEADER_BYTES as u64, self.block_bytes);
            self.is_fresh = true;
        }
        let size_bytes = batch.size_bytes() as u64;
        let place = Rc::new(Place {
            seq,
            name: self.name,
            position: self.position,
            begins_segment: self.is_fresh,
            end: padded_end(self.position + size_bytes, self.block_bytes),
            size_bytes,
            base_offset: batch.base_offset(),
            next_offset: batch.next_offset(),
            max_timestamp: batch.max_timestamp(),
            records: u64::try_from(batch.header().records_count).unwrap_or(0),
            placement: Cell::new(Placement::Waiting),
        });
        self.position = place.end;
        self.is_fresh = false;
        self.end_offset = place.next_offset;
        self.places.push_back(Rc::clone(&place));
        self.queue.push_back((Rc::clone(&place), batch.clone()));
        place
    }

    /// The device refused: what is not written goes another way. Answers the bytes that waited.
    pub(super) fn refuse(&mut self) -> u64 {
        self.end();
        self.file = None;
        let waiting: u64 = self.queue.drain(..).map(|(place, _)| place.size_bytes).sum();
        let is_refused = |place: &Rc<Place>| place.placement() == Placement::Waiting;
        self.places.iter().filter(|place| is_refused(place)).for_each(|place| {
            place.set(Placement::Refused);
        });
        self.places.retain(|place| place.placement() == Placement::Written);
        waiting
    }

    pub(super) fn is_settled(&self, upto: EntrySeq) -> bool {
        let before = self.places.iter().take_while(|place| place.seq <= upto);
        before.filter(|place| place.placement() == Placement::Waiting).count() == 0
    }

    pub(super) fn forget_below(&mut self, upto: i64) {
        self.places.retain(|place| place.next_offset > upto);
    }

    /// See [`super::Direct::written`].
    pub(super) fn written(
        &self,
        newest: Option<SegmentMeta>,
        upto: EntrySeq,
    ) -> Option<(Vec<WrittenSegment>, i64)> {
        let mut done: Vec<WrittenSegment> = Vec::new();
        let mut end_offset = None;
        for place in self.places.iter().take_while(|place| place.seq <= upto) {
            if done.last().is_none_or(|last| last.meta.name() != place.name) {
                let known = newest.filter(|newest| newest.name() == place.name);
                done.push(begin(known, place.name));
            }
            if let Some(segment) = done.last_mut() {
                add(segment, place);
            }
            end_offset = Some(place.next_offset);
        }
        Some((done, end_offset?))
    }
}

fn begin(known: Option<SegmentMeta>, name: SegmentName) -> WrittenSegment {
    match known {
        Some(meta) => {
            WrittenSegment { index: SegmentIndex::new(meta.trusted_bytes, meta.end_offset), meta }
        }
        None => {
            let header_bytes = SEGMENT_HEADER_BYTES as u64;
            let mut meta = SegmentMeta::empty(name);
            meta.trusted_bytes = header_bytes;
            WrittenSegment { meta, index: SegmentIndex::new(header_bytes, name.base_offset) }
        }
    }
}

fn add(segment: &mut WrittenSegment, place: &Place) {
    let WrittenSegment { meta, index } = segment;
    index.passed(meta.trusted_bytes, place.position);
    index.saw(place.position, place.size_bytes, place.base_offset, place.max_timestamp);
    index.passed(place.position + place.size_bytes, place.end);
    meta.trusted_bytes = place.end;
    meta.end_offset = place.next_offset;
    meta.max_timestamp = meta.max_timestamp.max(place.max_timestamp);
    meta.records += place.records;
}
