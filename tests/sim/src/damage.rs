//! Damage at rest: flipped bits and writes gone astray, in a chosen kind of file and, in the
//! journal, on a chosen side of what is known to be durable. It can be put back, so that a refused
//! start shows as well that nothing was changed. Must never hit what nobody could notice: a commit
//! that was acknowledged and of which no later one tells.

use crate::history::Partition;
use crate::topics::partition_of;
use bytes::Bytes;
use millpond_storage::checkpoint::Checkpoint;
use millpond_storage::disk::sim::{SimDisk, SimRng};
use millpond_storage::journal::format::{COMMITS_UNRELEASED_MAX, CommitHeader, FileHeader};
use millpond_storage::journal::{RingPosition, RingShape};

/// Bytes of a sector of the simulated device.
const SECTOR_BYTES: u64 = 512;
/// The commits near the end of the chain are those that a recovery reads.
const LATE_COMMITS: u64 = 12;

/// Bytes that are not what was written there.
#[derive(Debug)]
pub struct Damage {
    /// The file.
    pub path: String,
    /// Where.
    pub offset_bytes: u64,
    old: Vec<u8>,
}

impl Damage {
    /// Puts back what stood there.
    pub fn heal(&self, disk: &SimDisk) {
        disk.overwrite(&self.path, self.offset_bytes, &self.old);
    }
}

/// A damaged segment: which offsets stand in it.
pub struct HitSegment {
    /// Whose they are.
    pub partition: Partition,
    /// The first.
    pub from: i64,
    /// The first that is surely in another.
    pub upto: i64,
    /// What was done.
    pub damage: Damage,
}

/// Damages a segment of a topic that stays; `name_of` knows the topic of a directory.
pub fn strike_segment(
    disk: &SimDisk,
    rng: &mut SimRng,
    name_of: impl Fn(&str) -> Option<String>,
) -> Option<HitSegment> {
    let paths: Vec<String> =
        disk.files().into_iter().filter(|path| path.ends_with(".seg")).collect();
    let path = paths.get(rng.below(paths.len() as u64) as usize)?;
    let (dir, base) = split_segment(path)?;
    let mut parts = dir.split('/').skip(1);
    let (topic_dir, index) = (parts.next()?, parts.next()?.parse().ok()?);
    let partition = partition_of(&name_of(topic_dir)?, index)?;
    let len = disk.content(path)?.len() as u64;
    let upto = end_of_closed(disk, topic_dir, index, base).unwrap_or(i64::MAX);
    let damage = hit(disk, rng, path, 0, len)?;
    Some(HitSegment { partition, from: base, upto, damage })
}

/// Where a segment ends that nothing will be added to: one that the checkpoint names, with others
/// behind it.
fn end_of_closed(disk: &SimDisk, topic_dir: &str, index: i32, base: i64) -> Option<i64> {
    let table = checkpoint(disk)?.segments;
    let mut metas =
        table.iter().filter(|(key, _)| key.partition == index && hex(&key.topic_id.0) == topic_dir);
    metas.find(|(_, meta)| meta.base_offset == base)?;
    metas.next().map(|(_, meta)| meta.base_offset)
}

/// The name of a topic's directory.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The directory and the base offset of a segment's path, of whichever generation.
fn split_segment(path: &str) -> Option<(&str, i64)> {
    let (dir, name) = path.rsplit_once('/')?;
    Some((dir, name.get(..20)?.parse().ok()?))
}

/// Damages the newest checkpoint.
pub fn strike_checkpoint(disk: &SimDisk, rng: &mut SimRng) -> Option<Damage> {
    let path = newest_checkpoint(disk)?;
    let len = disk.content(&path)?.len() as u64;
    hit(disk, rng, &path, 0, len)
}

/// Damages the journal where a later header tells that it is durable; now and then the header of a
/// file.
pub fn strike_journal(disk: &SimDisk, rng: &mut SimRng) -> Option<Damage> {
    let ring = Ring::read(disk)?;
    if rng.chance(100) {
        let file = rng.below(u64::from(ring.shape.files)) as usize;
        return hit(disk, rng, ring.paths.get(file)?, 0, SECTOR_BYTES);
    }
    let mark = ring.commits.iter().map(known_durable).max()?;
    let newest = ring.commits.iter().map(|commit| commit.number).max()?;
    let mut known: Vec<&CommitHeader> =
        ring.commits.iter().filter(|commit| commit.number <= mark).collect();
    if rng.chance(700) {
        known.retain(|commit| commit.number + LATE_COMMITS > newest);
    }
    let commit = known.get(rng.below(known.len() as u64) as usize)?;
    let (file, offset) = ring.shape.place(RingPosition(commit.position));
    let len = u64::from(commit.blocks) * u64::from(ring.shape.block_bytes);
    hit(disk, rng, ring.paths.get(file)?, offset, len)
}

/// Damages the journal's free space right after the newest commit.
pub fn strike_free_space(disk: &SimDisk, rng: &mut SimRng) -> Option<Damage> {
    let ring = Ring::read(disk)?;
    let resume = checkpoint(disk)?.resume;
    let newest = ring.commits.iter().max_by_key(|commit| commit.number)?;
    let block = u64::from(ring.shape.block_bytes);
    let end = RingPosition(newest.position + u64::from(newest.blocks) * block);
    let at = ring.shape.usable(end.max(resume.position));
    let limit = resume.position.0 + ring.shape.total_bytes();
    let room = limit.saturating_sub(at.0).min(ring.shape.rest_of_file(at)).min(8 * block);
    let (file, offset) = ring.shape.place(at);
    (room > 0).then(|| hit(disk, rng, ring.paths.get(file)?, offset, room))?
}

/// What a header tells of the commits up to its own.
fn known_durable(commit: &CommitHeader) -> u64 {
    commit.durable_number.max(commit.number.saturating_sub(COMMITS_UNRELEASED_MAX))
}

/// One bit, or some sectors, of `len` bytes of a file.
fn hit(disk: &SimDisk, rng: &mut SimRng, path: &str, from: u64, len: u64) -> Option<Damage> {
    let offset_bytes = from + rng.below(len);
    if rng.chance(600) {
        let old = disk.content(path)?.get(offset_bytes as usize..=offset_bytes as usize)?.to_vec();
        let flipped = [old[0] ^ (1 << rng.below(8))];
        disk.overwrite(path, offset_bytes, &flipped)?;
        return Some(Damage { path: path.to_owned(), offset_bytes, old });
    }
    // A write that was meant for another place: whole sectors of another file.
    let at = (offset_bytes - offset_bytes % SECTOR_BYTES).max(from);
    let files = disk.files();
    let source = disk.content(&files[rng.below(files.len() as u64) as usize])?;
    let start = (rng.below(source.len() as u64 / SECTOR_BYTES) * SECTOR_BYTES) as usize;
    let many = (rng.between(1, 8) * SECTOR_BYTES).min(from + len - at) as usize;
    let end = (start + many).min(source.len());
    let old = disk.overwrite(path, at, &source[start..end])?;
    Some(Damage { path: path.to_owned(), offset_bytes: at, old })
}

fn newest_checkpoint(disk: &SimDisk) -> Option<String> {
    let mut paths = disk.files();
    paths.retain(|path| path.starts_with("checkpoint/") && path.ends_with(".mpc"));
    paths.pop()
}

fn checkpoint(disk: &SimDisk) -> Option<Checkpoint> {
    let bytes = disk.content(&newest_checkpoint(disk)?)?;
    Checkpoint::decode(Bytes::from(bytes)).ok()
}

/// The journal as it lies on the disk.
struct Ring {
    shape: RingShape,
    paths: Vec<String>,
    /// Every whole commit header that stands where it says.
    commits: Vec<CommitHeader>,
}

impl Ring {
    fn read(disk: &SimDisk) -> Option<Ring> {
        let mut paths = disk.files();
        paths.retain(|path| path.starts_with("journal/"));
        let contents: Vec<Vec<u8>> = paths.iter().filter_map(|path| disk.content(path)).collect();
        let header = FileHeader::decode(contents.first()?).ok()?;
        let shape = RingShape {
            files: header.files,
            file_bytes: header.file_bytes,
            block_bytes: header.block_bytes,
        };
        let mut commits = Vec::new();
        for (file, content) in contents.iter().enumerate() {
            for (index, block) in content.chunks(shape.block_bytes as usize).enumerate() {
                let here = (file, index as u64 * u64::from(shape.block_bytes));
                if let Ok(commit) = CommitHeader::decode(block, true)
                    && shape.place(RingPosition(commit.position)) == here
                    && commit.journal_id == header.journal_id
                {
                    commits.push(commit);
                }
            }
        }
        Some(Ring { shape, paths, commits })
    }
}
