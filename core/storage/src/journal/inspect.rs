//! The journal as people in trouble look at it: every commit of the present lap, whole or not, and
//! what the next start would make of it. It must never write, and never stop at the first fault.

use bytes::Bytes;

use super::format::{COMMIT_HEADER_BYTES, CommitHeader, ENTRY_ROW_BYTES, EntryRow};
use super::open::{OpenJournalError, file_name, open_files};
use super::reader::RingReader;
use super::recovery::{Recovery, Replayed};
use super::ring::{JournalPosition, RingPosition, RingShape};
use crate::disk::{Disk, DiskError, DiskFile};
use crate::fields::crc;
use crate::metrics::RecoveryReport;

/// A commit as it stands on the device.
#[derive(Clone, Debug)]
pub struct CommitFacts {
    /// Relative to the data directory.
    pub file: String,
    /// Where in the file it begins.
    pub offset_bytes: u64,
    /// Its header.
    pub header: CommitHeader,
    /// Bytes of it on the device, padding included.
    pub len_bytes: u64,
    /// What is wrong with it; `None` if it is whole and continues the commit before it.
    pub fault: Option<&'static str>,
    /// Its entries, as far as they can be cut apart.
    pub entries: Vec<EntryFacts>,
}

/// An entry as it stands on the device.
#[derive(Clone, Debug)]
pub struct EntryFacts {
    /// Its sequence.
    pub seq: u64,
    /// Its encoding.
    pub bytes: Bytes,
    /// Whether its checksum is right.
    pub is_whole: bool,
    /// 0, or the hash of the partition it concerns.
    pub scope: u64,
}

/// An open ring, for reading only.
pub(crate) struct Inspection<D: Disk> {
    files: Vec<D::File>,
    shape: RingShape,
    journal_id: u64,
    resume: JournalPosition,
}

impl<D: Disk> Inspection<D> {
    /// Opens the ring that a checkpoint names.
    pub(crate) async fn open<R>(
        disk: &D,
        journal_id: u64,
        resume: JournalPosition,
    ) -> Result<Inspection<D>, OpenJournalError<R>> {
        let (shape, files) = open_files(disk, journal_id).await?;
        Ok(Inspection { files, shape, journal_id, resume })
    }

    /// The shape of the ring.
    pub(crate) fn shape(&self) -> RingShape {
        self.shape
    }

    /// What the next start would find: the same rule, the same code.
    pub(crate) async fn replay<R>(
        &self,
        deliver: impl FnMut(Replayed) -> Result<(), R>,
    ) -> Result<RecoveryReport, OpenJournalError<R>> {
        let recovery = Recovery::new(&self.files, self.shape, self.journal_id, self.resume);
        Ok(recovery.replay(deliver).await?.report)
    }

    /// A walk over the commits from the checkpoint's position on, one lap.
    pub(crate) fn walk(&self) -> CommitWalk<'_, D::File> {
        CommitWalk {
            reader: RingReader::new(&self.files, self.shape),
            shape: self.shape,
            journal_id: self.journal_id,
            at: self.shape.usable(self.resume.position),
            end: RingPosition(self.resume.position.0 + self.shape.total_bytes()),
            expected: self.resume,
        }
    }
}

/// Commits one after the other, in the order of the ring.
pub(crate) struct CommitWalk<'a, F> {
    reader: RingReader<'a, F>,
    shape: RingShape,
    journal_id: u64,
    at: RingPosition,
    end: RingPosition,
    expected: JournalPosition,
}

impl<F: DiskFile> CommitWalk<'_, F> {
    /// The next commit of this lap; `None` at its end. Blocks that hold none are passed over.
    pub(crate) async fn next(&mut self) -> Result<Option<CommitFacts>, DiskError> {
        let block = u64::from(self.shape.block_bytes);
        while self.at.0 < self.end.0 {
            let here = self.at;
            let found = CommitHeader::decode(self.reader.read(here, block).await?, true).ok();
            let header = found.filter(|header| {
                // The position names the lap: commits of earlier ones do not pass.
                header.journal_id == self.journal_id && header.position == here.0
            });
            let Some(header) = header else {
                self.at = self.shape.usable(RingPosition(here.0 + block));
                continue;
            };
            return Ok(Some(self.read_commit(here, header).await?));
        }
        Ok(None)
    }

    async fn read_commit(
        &mut self,
        at: RingPosition,
        header: CommitHeader,
    ) -> Result<CommitFacts, DiskError> {
        let block = u64::from(self.shape.block_bytes);
        let len_bytes = u64::from(header.blocks).max(1) * block;
        let body_end = COMMIT_HEADER_BYTES as u64 + u64::from(header.body_bytes);
        let is_possible = body_end <= len_bytes && len_bytes <= self.shape.rest_of_file(at);
        let mut fault = self.chain_fault(&header);
        let mut entries = Vec::new();
        if is_possible {
            let bytes = self.reader.read(at, len_bytes).await?;
            let body = bytes.get(COMMIT_HEADER_BYTES..body_end as usize).unwrap_or(&[]);
            let (cut, body_fault) = cut_apart(&header, body);
            entries = cut;
            fault = fault.or(body_fault);
        } else {
            fault = fault.or(Some("its length is impossible"));
        }
        let (file, offset_bytes) = self.shape.place(at);
        self.expected = JournalPosition {
            position: RingPosition(at.0 + len_bytes),
            commit: header.number + 1,
            previous_crc: CommitHeader::crc_of(&header.encode()),
            next_entry: header.first_entry + u64::from(header.entry_count),
            incarnation: header.incarnation,
        };
        let step = if is_possible { len_bytes } else { block };
        self.at = self.shape.usable(RingPosition(at.0 + step));
        Ok(CommitFacts { file: file_name(file), offset_bytes, header, len_bytes, fault, entries })
    }

    fn chain_fault(&self, header: &CommitHeader) -> Option<&'static str> {
        if header.number != self.expected.commit {
            return Some("a commit is missing before it");
        }
        if header.previous_crc != self.expected.previous_crc {
            return Some("it does not continue the commit before it");
        }
        if header.first_entry != self.expected.next_entry {
            return Some("its entries do not continue those before it");
        }
        None
    }
}

/// Cuts a body into its entries; what cannot be cut apart is left out and named.
fn cut_apart(header: &CommitHeader, body: &[u8]) -> (Vec<EntryFacts>, Option<&'static str>) {
    let table_bytes = (header.entry_count as usize).saturating_mul(ENTRY_ROW_BYTES);
    let Some((table, rest)) = body.split_at_checked(table_bytes) else {
        return (Vec::new(), Some("its table is longer than its body"));
    };
    if crc(table) != header.table_crc {
        return (Vec::new(), Some("checksum of the entry table is wrong"));
    }
    let shared = Bytes::copy_from_slice(rest);
    let (mut at, mut found, mut fault) = (0_usize, Vec::new(), None);
    for (index, row) in table.chunks_exact(ENTRY_ROW_BYTES).enumerate() {
        let row = EntryRow::decode(row);
        let end = at.saturating_add(row.len_bytes as usize);
        if end > shared.len() {
            return (found, Some("an entry is longer than the commit"));
        }
        let bytes = shared.slice(at..end);
        let is_whole = crc(&bytes) == row.crc;
        if !is_whole {
            fault = Some("checksum of an entry is wrong");
        }
        let seq = header.first_entry + index as u64;
        found.push(EntryFacts { seq, bytes, is_whole, scope: row.scope });
        at = end;
    }
    (found, fault)
}
