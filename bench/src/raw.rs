//! The bound: what the same disk gives to a bare loop that writes and syncs, through the same disk
//! backend that the broker uses, in a file prepared as the broker's journal is.
//!
//! It does nothing that the broker would not have to do at the least, and leaves nothing out that
//! makes a write durable.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use millpond_storage::disk::{
    AlignedBuf, BackendChoice, Disk, DiskFile, OpenMode, RealDisk, RealFile,
};
use tokio::runtime::Runtime;

use crate::error::{BenchError, Context, Outcome};
use crate::latency::Latencies;
use crate::load::pace::Pace;

/// The file that the loop writes around, as long as the broker's journal.
const RING_BYTES: u64 = 120 << 20;
/// The file's name, in a directory of its own.
const FILE: &str = "ring";
/// How much is written at once while the file is prepared.
const PREPARE_BYTES: usize = 1 << 20;

/// A prepared file and the disk that it is on.
pub(crate) struct RawDisk {
    file: RealFile,
    disk: RealDisk,
    cursor: Cell<u64>,
    // Last: what is above is dropped within it.
    runtime: Runtime,
}

impl RawDisk {
    /// Prepares the file in `dir`: every block written and synced once.
    pub(crate) fn prepare(dir: &Path) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("a runtime for the raw loop")?;
        let (disk, file) = runtime.block_on(async {
            let disk = RealDisk::open(dir, BackendChoice::Auto).context("the raw loop's disk")?;
            let file = disk.open(FILE, OpenMode::CREATE_DIRECT).await;
            let file = file.context("the raw loop's file")?;
            let mut buf = AlignedBuf::with_capacity(PREPARE_BYTES, disk.block_bytes());
            buf.set_len(PREPARE_BYTES);
            for offset in (0..RING_BYTES).step_by(PREPARE_BYTES) {
                let (result, returned) = file.write_at(offset, buf).await;
                result.context("preparing the raw loop's file")?;
                buf = returned;
            }
            file.sync().await.context("preparing the raw loop's file")?;
            Ok::<_, BenchError>((disk, file))
        })?;
        Ok(Self { file, disk, cursor: Cell::new(0), runtime })
    }

    /// A buffer that this disk takes, holding as much of `bytes`, again and again, as `len` asks.
    fn buffer(&self, bytes: &[u8], len: usize) -> AlignedBuf {
        let mut buf = AlignedBuf::with_capacity(len, self.disk.block_bytes());
        while buf.len() < len && !bytes.is_empty() {
            let more = (len - buf.len()).min(bytes.len());
            buf.extend_from_slice(bytes.get(..more).unwrap_or_default());
        }
        buf.pad_to_multiple(self.disk.block_bytes());
        buf
    }

    /// Where the next write of `len` bytes goes: sequentially around the ring.
    fn advance(&self, len: usize) -> u64 {
        let at = self.cursor.get();
        let at = if at + len as u64 > RING_BYTES { 0 } else { at };
        self.cursor.set(at + len as u64);
        at
    }

    /// Durable writes of `write_bytes` one after the other, `in_flight` of them at a time, for
    /// `duration`. Gives bytes per second.
    #[allow(clippy::cast_precision_loss, reason = "byte counts are far below 2^52")]
    pub(crate) fn saturate(
        &self,
        payload: &[u8],
        write_bytes: usize,
        in_flight: usize,
        duration: Duration,
    ) -> Outcome<f64> {
        let started = Instant::now();
        let until = started + duration;
        let lane = async || {
            let mut buf = self.buffer(payload, write_bytes);
            let mut written = 0;
            while Instant::now() < until {
                let offset = self.advance(buf.len());
                let (result, returned) = self.file.write_durable(offset, buf).await;
                result.context("the raw loop's write")?;
                buf = returned;
                written += buf.len() as u64;
            }
            Ok::<_, BenchError>(written)
        };
        let lanes = (0..in_flight).map(|_| lane());
        let written = self.runtime.block_on(try_join_all(lanes))?;
        let written: u64 = written.into_iter().sum();
        Ok(written as f64 / started.elapsed().as_secs_f64())
    }

    /// Durable writes of one block at an even rate, one at a time, each timed from when it was due.
    pub(crate) fn paced(&self, payload: &[u8], pace: Pace, count: u64) -> Outcome<Latencies> {
        let mut latencies = Latencies::new()?;
        let block = self.disk.block_bytes();
        let mut buf = self.buffer(payload.get(..block).unwrap_or(payload), block);
        for index in 0..count {
            let due = pace.wait_for(index);
            let offset = self.advance(buf.len());
            let write = self.file.write_durable(offset, buf);
            let (result, returned) = self.runtime.block_on(write);
            result.context("the raw loop's write")?;
            buf = returned;
            if pace.counts(index) {
                latencies.record(due.elapsed());
            }
        }
        Ok(latencies)
    }
}
