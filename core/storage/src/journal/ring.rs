//! Arithmetic of the ring: positions, files, what fits where. It touches no disk.

use std::fmt;

/// A place along the ring, in bytes from its first lap. Never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingPosition(pub u64);

impl fmt::Display for RingPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The shape of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingShape {
    /// How many files.
    pub files: u32,
    /// Bytes of each, header block included; a multiple of the block.
    pub file_bytes: u64,
    /// The unit of writing.
    pub block_bytes: u32,
}

impl RingShape {
    /// Whether the numbers make a ring.
    pub fn is_sound(&self) -> bool {
        let block = u64::from(self.block_bytes);
        self.files >= 2
            && self.block_bytes.is_power_of_two()
            && self.file_bytes.is_multiple_of(block)
            && self.file_bytes >= (SEAL_BLOCKS_RESERVED + 4) * block
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.file_bytes * u64::from(self.files)
    }

    /// The largest commit for which an empty ring always has room, in bytes: the rest of a file,
    /// without what is kept for seals.
    pub fn commit_bytes_max(&self) -> u64 {
        self.file_bytes - u64::from(self.block_bytes) - self.reserve_bytes()
    }

    /// Bytes at the end of the free space that only seals may take: one block for each start that
    /// dies before its first checkpoint.
    pub fn reserve_bytes(&self) -> u64 {
        u64::from(self.block_bytes) * SEAL_BLOCKS_RESERVED
    }

    /// Where the first commit goes.
    pub fn start(&self) -> RingPosition {
        RingPosition(u64::from(self.block_bytes))
    }

    /// The file and the offset in it.
    pub fn place(&self, at: RingPosition) -> (usize, u64) {
        let file = (at.0 / self.file_bytes) % u64::from(self.files);
        (file as usize, at.0 % self.file_bytes)
    }

    /// The first place for a commit at or after `at`: not in a file's header.
    pub fn usable(&self, at: RingPosition) -> RingPosition {
        if at.0.is_multiple_of(self.file_bytes) {
            RingPosition(at.0 + u64::from(self.block_bytes))
        } else {
            at
        }
    }

    /// Bytes from a usable place to the end of its file.
    pub fn rest_of_file(&self, at: RingPosition) -> u64 {
        self.file_bytes - at.0 % self.file_bytes
    }

    /// The first place for a commit in the file after that of `at`.
    pub fn next_file(&self, at: RingPosition) -> RingPosition {
        let file = at.0 / self.file_bytes + 1;
        RingPosition(file * self.file_bytes + u64::from(self.block_bytes))
    }

    /// Where a commit of `len_bytes` goes if writing has come to `at`.
    pub fn fit(&self, at: RingPosition, len_bytes: u64) -> RingPosition {
        let at = self.usable(at);
        if len_bytes <= self.rest_of_file(at) { at } else { self.next_file(at) }
    }
}

/// Where the chain of commits continues: what a checkpoint keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalPosition {
    /// The place of the next commit, or the start of the file after it.
    pub position: RingPosition,
    /// Its number.
    pub commit: u64,
    /// The CRC that it repeats.
    pub previous_crc: u32,
    /// The sequence of its first entry.
    pub next_entry: u64,
    /// The incarnation of the commit before.
    pub incarnation: u64,
}

const SEAL_BLOCKS_RESERVED: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const RING: RingShape = RingShape { files: 3, file_bytes: 16384, block_bytes: 4096 };

    #[test]
    fn commits_never_touch_a_file_header_nor_cross_files() {
        let mut at = RING.start();
        for step in 0..100 {
            let len = 4096 * (1 + step % 3);
            at = RING.fit(at, len);
            let (file, offset) = RING.place(at);
            assert!(file < 3 && offset >= 4096 && offset + len <= 16384);
            at = RingPosition(at.0 + len);
        }
        assert!(at.0 > RING.total_bytes());
    }

    #[test]
    fn a_commit_that_fits_exactly_stays() {
        assert_eq!(RING.fit(RingPosition(4096), 12288), RingPosition(4096));
        assert_eq!(RING.fit(RingPosition(8192), 12288), RingPosition(16384 + 4096));
    }
}
