//! From what recovery finds in the journal to the engine: entries decoded, batches that stand in
//! segments read back and checked, losses told. The same for a start and for whoever only looks; it
//! changes nothing on the device, and never hands on a batch whose checksum it has not seen.

use std::collections::BTreeSet;

use bytes::Bytes;
use millpond_engine::{Engine, Entry, EntrySeq, Fact, WantedExtent};
use millpond_wire::limits::BATCH_BYTES_MAX;
use millpond_wire::record::LogBatch;

use super::entry::partition_of;
use super::error::ReplayFault;
use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode};
use crate::journal::{EntryBytes, LostEntry, Replayed};
use crate::segments::format::segment_path;
use crate::segments::{SegmentId, SegmentName};

/// A replay under way.
pub(crate) struct Replay<D: Disk> {
    disk: D,
    /// As far as it came.
    pub(crate) engine: Engine,
    /// The segments in which batches of the journal stand.
    pub(crate) segments: BTreeSet<SegmentId>,
    /// Bytes of record batches.
    pub(crate) payload_bytes: u64,
    /// Entries that looked whole and were not.
    pub(crate) given_up: u64,
    /// The segment that was read last.
    open: Option<(SegmentId, D::File)>,
}

impl<D: Disk> Replay<D> {
    /// A replay that goes on from what `engine` knows.
    pub(crate) fn new(disk: D, engine: Engine) -> Replay<D> {
        let segments = BTreeSet::new();
        Replay { disk, engine, segments, payload_bytes: 0, given_up: 0, open: None }
    }

    /// Hands what recovery found to the engine.
    pub(crate) async fn take(&mut self, found: Replayed) -> Result<(), ReplayFault> {
        match found {
            Replayed::Entry(found) => {
                let (seq, scope, len_bytes) = (found.seq, found.scope, found.bytes.len());
                match self.decode(found).await? {
                    Some(entry) => {
                        self.payload_bytes += entry.payload_bytes() as u64;
                        Ok(self.engine.replay(entry)?)
                    }
                    None => {
                        self.given_up += 1;
                        self.take_lost(LostEntry { seq, scope, len_bytes })
                    }
                }
            }
            Replayed::Lost(lost) => self.take_lost(lost),
        }
    }

    /// An entry of the journal; `None` if it concerns one partition only and a bit of it was turned
    /// back that was not what was wrong, or a batch is not where it says.
    async fn decode(&mut self, found: EntryBytes) -> Result<Option<Entry>, ReplayFault> {
        let is_guess = found.is_corrected && found.scope != 0;
        let seq = EntrySeq(found.seq);
        let wanted = match Entry::wanted_extents(seq, found.bytes.clone()) {
            Err(_) if is_guess => return Ok(None),
            wanted => wanted?,
        };
        let mut batches = Vec::with_capacity(wanted.len());
        for extent in &wanted {
            match self.batch_at(extent).await? {
                Some(batch) => batches.push(batch),
                None if found.scope != 0 => {
                    let (partition, at) = (extent.partition, extent.extent);
                    tracing::error!(%partition, ?at, "a batch is not in its segment as written");
                    return Ok(None);
                }
                // Decoding says which one is missing.
                None => break,
            }
        }
        let entry = match Entry::decode_with(seq, found.bytes, batches) {
            Err(_) if is_guess => return Ok(None),
            entry => entry?,
        };
        let has_right_crcs = |fact: &Fact| match fact {
            Fact::Appended { batch, .. } => batch.has_right_crc(),
            _ => true,
        };
        // Large batches carry a checksum of their own.
        Ok((!is_guess || entry.facts.iter().all(has_right_crcs)).then_some(entry))
    }

    /// The batch that stands where an entry says; `None` if it is not there as it was written.
    async fn batch_at(&mut self, wanted: &WantedExtent) -> Result<Option<LogBatch>, DiskError> {
        let extent = wanted.extent;
        let (base_offset, generation) = (extent.base_offset, extent.generation);
        let id = (wanted.partition, SegmentName { base_offset, generation });
        self.segments.insert(id);
        let size = wanted.size_bytes();
        if size == 0 || size > BATCH_BYTES_MAX {
            return Ok(None);
        }
        let Some(file) = self.file_of(id).await? else {
            return Ok(None);
        };
        let buf = AlignedBuf::with_capacity(size, READ_ALIGN_BYTES);
        let (result, buf) = file.read_at(extent.position, buf, size).await;
        result?;
        Ok(wanted.batch_of(Bytes::copy_from_slice(buf.as_slice())))
    }

    async fn file_of(&mut self, id: SegmentId) -> Result<Option<D::File>, DiskError> {
        if let Some((open, file)) = &self.open
            && *open == id
        {
            return Ok(Some(file.clone()));
        }
        match self.disk.open(&segment_path(id.0, id.1), OpenMode::EXISTING).await {
            Ok(file) => {
                self.open = Some((id, file.clone()));
                Ok(Some(file))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take_lost(&mut self, lost: LostEntry) -> Result<(), ReplayFault> {
        let seq = EntrySeq(lost.seq);
        let Some(key) = partition_of(lost.scope, self.engine.catalog()) else {
            return Err(ReplayFault::LostScope);
        };
        tracing::error!(entry = lost.seq, partition = %key, "an entry of the journal is lost");
        Ok(self.engine.replay_lost(seq, key, lost.len_bytes)?)
    }
}

const READ_ALIGN_BYTES: usize = 512;
