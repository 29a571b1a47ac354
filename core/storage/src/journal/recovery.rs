//! Follows the chain of commits after a start and decides where it ends, and why: see the recovery
//! rule in `format.rs`. What can be had of a damaged commit is in `damage.rs`. It changes nothing on the device, so it may be cut off at any moment.

use bytes::Bytes;
use millpond_wire::mutant::Mutant;

use super::damage::{JournalDamage, mend_entries, mend_header};
use super::format::{
    COMMIT_HEADER_BYTES, COMMITS_UNRELEASED_MAX, CommitHeader, ENTRY_ROW_BYTES, EntryRow,
    HeaderFault,
};
use super::open::file_name;
use super::reader::RingReader;
use super::ring::{JournalPosition, RingPosition, RingShape};
use crate::disk::{DiskError, DiskFile};
use crate::fields::crc;
use crate::metrics::RecoveryReport;

/// False with the mutant that trusts what it finds; the simulator must find that out.
fn checks_chain() -> bool {
    !Mutant::NoCrcChain.is_on()
}

/// An entry as it stood in the journal, its CRC checked.
#[derive(Clone, Debug)]
pub struct EntryBytes {
    /// Its sequence.
    pub seq: u64,
    /// Its encoding.
    pub bytes: Bytes,
    /// 0, or the hash of the partition it concerns.
    pub scope: u64,
    /// A bit of it was turned back to make its CRC right: a good guess, to be checked further where
    /// that is possible.
    pub is_corrected: bool,
}

/// An entry whose bytes are damaged, while everything around it is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostEntry {
    /// Its sequence.
    pub seq: u64,
    /// The hash of the one partition that it concerned; never 0.
    pub scope: u64,
    /// How long it was.
    pub len_bytes: usize,
}

/// What recovery hands over, in order, one for each sequence.
#[derive(Clone, Debug)]
pub enum Replayed {
    /// As it was written.
    Entry(EntryBytes),
    /// It was durable and cannot be had any more.
    Lost(LostEntry),
}

/// Why the journal could not be replayed. `R` is what the receiver of entries may say.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError<R> {
    /// The device failed to read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// See [`JournalDamage`].
    #[error(transparent)]
    Damage(#[from] JournalDamage),
    /// Written by a later version of the program.
    #[error("{file} is of journal format {version}: start the version that wrote it")]
    Newer {
        /// Relative to the data directory.
        file: String,
        /// Its version.
        version: u16,
    },
    /// The receiver refused an entry.
    #[error("entry {seq} of the journal cannot be replayed: {reason}")]
    Refused {
        /// Which entry.
        seq: u64,
        /// What the receiver said.
        reason: R,
    },
}

/// Where the chain ended.
pub(super) struct ChainEnd {
    pub(super) head: JournalPosition,
    /// The highest incarnation seen anywhere.
    pub(super) incarnation: u64,
    pub(super) report: RecoveryReport,
}

/// Why the commit that is expected somewhere is not there.
enum Fault {
    Header(HeaderFault),
    OtherPlace,
    Broken(&'static str),
}

impl Fault {
    fn describe(&self) -> String {
        match self {
            Fault::Header(fault) => fault.to_string(),
            Fault::OtherPlace => "another commit stands there".to_owned(),
            Fault::Broken(what) => (*what).to_owned(),
        }
    }
}

impl Replayed {
    /// Its sequence.
    pub fn seq(&self) -> u64 {
        match self {
            Replayed::Entry(entry) => entry.seq,
            Replayed::Lost(lost) => lost.seq,
        }
    }
}

/// A commit that continues the chain.
struct Found {
    header: CommitHeader,
    at: RingPosition,
    items: Vec<Replayed>,
}

pub(super) struct Recovery<'a, F> {
    reader: RingReader<'a, F>,
    shape: RingShape,
    journal_id: u64,
    resume: JournalPosition,
    next: JournalPosition,
    mark: u64,
    /// Nothing that is still to be read can raise the mark.
    is_mark_final: bool,
    incarnation: u64,
    report: RecoveryReport,
}

impl<'a, F: DiskFile> Recovery<'a, F> {
    pub(super) fn new(
        files: &'a [F],
        shape: RingShape,
        journal_id: u64,
        resume: JournalPosition,
    ) -> Recovery<'a, F> {
        Recovery {
            reader: RingReader::new(files, shape),
            shape,
            journal_id,
            resume,
            next: resume,
            // The checkpoint was written after everything before it was durable.
            mark: resume.commit.saturating_sub(1),
            is_mark_final: false,
            incarnation: resume.incarnation,
            report: RecoveryReport::default(),
        }
    }

    /// Hands every entry of the chain to `deliver`, in order.
    pub(super) async fn replay<R>(
        mut self,
        mut deliver: impl AsyncFnMut(Replayed) -> Result<(), R>,
    ) -> Result<ChainEnd, RecoverError<R>> {
        let fault = loop {
            let fault = match self.next_commit().await? {
                Ok(found) => {
                    self.accept(found, &mut deliver).await?;
                    continue;
                }
                Err(fault) => fault,
            };
            if let Fault::Header(HeaderFault::Newer(version)) = fault {
                let (file, _) = self.shape.place(self.shape.usable(self.next.position));
                return Err(RecoverError::Newer { file: file_name(file), version });
            }
            if !self.is_mark_final {
                // Everything that could tell of the mark lies beyond this place.
                self.scan_beyond().await?;
                self.is_mark_final = true;
            }
            if self.mark < self.next.commit {
                break fault;
            }
            let found = match self.mend().await? {
                Ok(found) => found,
                Err(reason) => return Err(self.damage(reason.unwrap_or(fault.describe())).into()),
            };
            self.accept(found, &mut deliver).await?;
        };
        let beyond = self.scan_beyond().await?;
        self.report.torn_tail = beyond || matches!(fault, Fault::Broken(_));
        Ok(ChainEnd { head: self.next, incarnation: self.incarnation, report: self.report })
    }

    fn damage(&self, reason: String) -> JournalDamage {
        let (file, offset_bytes) = self.shape.place(self.shape.usable(self.next.position));
        JournalDamage {
            file: file_name(file),
            offset_bytes,
            commit: self.next.commit,
            durable_mark: self.mark,
            reason,
        }
    }

    /// The next commit, which was durable and is damaged: what can be had of it. An error says
    /// what cannot, if that is known better than by whoever found the damage.
    async fn mend(&mut self) -> Result<Result<Found, Option<String>>, DiskError> {
        let here = self.shape.usable(self.next.position);
        let mut reason = None;
        for at in [here, self.shape.next_file(here)] {
            match self.mend_at(at).await? {
                Some(Ok(found)) => return Ok(Ok(found)),
                Some(Err(why)) => reason = Some(why.to_owned()),
                None => {}
            }
        }
        Ok(Err(reason))
    }

    /// `None` if it is not this place where the commit stands.
    async fn mend_at(
        &mut self,
        at: RingPosition,
    ) -> Result<Option<Result<Found, &'static str>>, DiskError> {
        if at.0 >= self.resume.position.0 + self.shape.total_bytes() {
            return Ok(None);
        }
        let block = u64::from(self.shape.block_bytes);
        let bytes = self.reader.read(at, block).await?;
        let (header, header_bits) = match CommitHeader::decode(bytes, true) {
            Ok(header) => (header, 0),
            Err(_) => match mend_header(bytes) {
                Some(header) => (header, 1),
                None => return Ok(None),
            },
        };
        let Ok(body_end) = self.check(&header, at) else {
            return Ok(None);
        };
        let bytes = self.reader.read(at, u64::from(header.blocks) * block).await?;
        let body = bytes.get(COMMIT_HEADER_BYTES..body_end as usize).unwrap_or(&[]);
        let mended = match mend_entries(&header, body) {
            Ok(mended) => mended,
            Err(reason) => return Ok(Some(Err(reason))),
        };
        let corrected_bits = header_bits + mended.corrected_bits;
        let (file, offset_bytes) = self.shape.place(at);
        tracing::error!(
            file = file_name(file),
            offset_bytes,
            commit = header.number,
            corrected_bits,
            lost_entries = mended.lost,
            "the journal is damaged; this much of a commit was corrected or given up"
        );
        self.report.corrected_bits += corrected_bits;
        self.report.damaged_entries += mended.lost;
        Ok(Some(Ok(Found { header, at, items: mended.items })))
    }

    /// The commit that continues the chain: where writing had come to, or, if it did not fit
    /// there, at the start of the next file.
    async fn next_commit(&mut self) -> Result<Result<Found, Fault>, DiskError> {
        let here = self.shape.usable(self.next.position);
        let fault = match self.commit_at(here).await? {
            Ok(found) => return Ok(Ok(found)),
            Err(fault) => fault,
        };
        let there = self.shape.next_file(here);
        match self.commit_at(there).await? {
            Ok(found) => Ok(Ok(found)),
            // What is wrong here says more than what is absent there, unless it is there that
            // something is broken.
            Err(other @ Fault::Broken(_)) if !matches!(fault, Fault::Broken(_)) => Ok(Err(other)),
            Err(_) => Ok(Err(fault)),
        }
    }

    async fn commit_at(&mut self, at: RingPosition) -> Result<Result<Found, Fault>, DiskError> {
        if at.0 >= self.resume.position.0 + self.shape.total_bytes() {
            return Ok(Err(Fault::Header(HeaderFault::Absent)));
        }
        let block = u64::from(self.shape.block_bytes);
        let header = match CommitHeader::decode(self.reader.read(at, block).await?, checks_chain())
        {
            Ok(header) => header,
            Err(fault) => return Ok(Err(Fault::Header(fault))),
        };
        let body_end = match self.check(&header, at) {
            Ok(body_end) => body_end,
            Err(fault) => return Ok(Err(fault)),
        };
        let bytes = self.reader.read(at, u64::from(header.blocks) * block).await?;
        let body = bytes.get(COMMIT_HEADER_BYTES..body_end as usize).unwrap_or(&[]);
        Ok(entries_of(&header, body).map(|items| Found { header, at, items }))
    }

    /// Whether a sound header is that of the next commit, at this place; where its body ends.
    fn check(&self, header: &CommitHeader, at: RingPosition) -> Result<u64, Fault> {
        if header.journal_id != self.journal_id
            || header.position != at.0
            || header.number != self.next.commit
            || header.incarnation < self.next.incarnation
        {
            return Err(Fault::OtherPlace);
        }
        if checks_chain() && header.previous_crc != self.next.previous_crc {
            return Err(Fault::Broken("it does not continue the commit before it"));
        }
        if header.first_entry != self.next.next_entry {
            return Err(Fault::Broken("its entries do not continue those before it"));
        }
        let len = u64::from(header.blocks) * u64::from(self.shape.block_bytes);
        let body_end = COMMIT_HEADER_BYTES as u64 + u64::from(header.body_bytes);
        if body_end > len || len > self.shape.rest_of_file(at) {
            return Err(Fault::Broken("its length is impossible"));
        }
        Ok(body_end)
    }

    async fn accept<R>(
        &mut self,
        found: Found,
        deliver: &mut impl AsyncFnMut(Replayed) -> Result<(), R>,
    ) -> Result<(), RecoverError<R>> {
        let Found { header, at, items } = found;
        let len = u64::from(header.blocks) * u64::from(self.shape.block_bytes);
        self.report.commits += 1;
        self.report.entries += items.len() as u64;
        self.report.bytes += len;
        self.next = JournalPosition {
            position: RingPosition(at.0 + len),
            commit: header.number + 1,
            previous_crc: CommitHeader::crc_of(&header.encode()),
            next_entry: header.first_entry + u64::from(header.entry_count),
            incarnation: header.incarnation,
        };
        self.learn(&header);
        for item in items {
            let seq = item.seq();
            deliver(item).await.map_err(|reason| RecoverError::Refused { seq, reason })?;
        }
        Ok(())
    }

    fn learn(&mut self, header: &CommitHeader) {
        let implied = header.number.saturating_sub(COMMITS_UNRELEASED_MAX);
        self.mark = self.mark.max(header.durable_number).max(implied);
        self.incarnation = self.incarnation.max(header.incarnation);
    }

    /// Looks at every block between the end of the chain and the oldest place still needed for
    /// headers of this lap, and takes their word for what was durable. True if there were any.
    async fn scan_beyond(&mut self) -> Result<bool, DiskError> {
        let block = u64::from(self.shape.block_bytes);
        let end = self.resume.position.0 + self.shape.total_bytes();
        let mut at = self.shape.usable(self.next.position);
        let mut found = false;
        while at.0 < end {
            let bytes = self.reader.read(at, block).await?;
            if let Ok(header) = CommitHeader::decode(bytes, true)
                && header.journal_id == self.journal_id
                && header.position == at.0
                && header.number >= self.next.commit
            {
                found = true;
                self.learn(&header);
            }
            at = self.shape.usable(RingPosition(at.0 + block));
        }
        Ok(found)
    }
}

/// Cuts a commit's body into its entries, every length and checksum checked.
fn entries_of(header: &CommitHeader, body: &[u8]) -> Result<Vec<Replayed>, Fault> {
    let count = header.entry_count as usize;
    let table_bytes = count.saturating_mul(ENTRY_ROW_BYTES);
    let Some((table, entries)) = body.split_at_checked(table_bytes) else {
        return Err(Fault::Broken("its table is longer than its body"));
    };
    if checks_chain() && crc(table) != header.table_crc {
        return Err(Fault::Broken("checksum of the entry table is wrong"));
    }
    let shared = Bytes::copy_from_slice(entries);
    let mut found = Vec::with_capacity(count);
    let mut at = 0_usize;
    for (index, row) in table.chunks_exact(ENTRY_ROW_BYTES).enumerate() {
        let row = EntryRow::decode(row);
        let end = at.saturating_add(row.len_bytes as usize);
        if end > shared.len() {
            return Err(Fault::Broken("an entry is longer than the commit"));
        }
        let bytes = shared.slice(at..end);
        if checks_chain() && crc(&bytes) != row.crc {
            return Err(Fault::Broken("checksum of an entry is wrong"));
        }
        let (seq, scope) = (header.first_entry + index as u64, row.scope);
        found.push(Replayed::Entry(EntryBytes { seq, bytes, scope, is_corrected: false }));
        at = end;
    }
    if at != shared.len() {
        return Err(Fault::Broken("bytes are left over after its entries"));
    }
    Ok(found)
}
