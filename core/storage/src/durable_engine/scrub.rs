//! The scrub: reads every segment once in a while, slowly, and checks every batch, so that damage
//! is known before somebody needs what is damaged. It must never change a byte, and never stand in
//! the way of anybody: it reads so many bytes a second and no more.

use std::convert::Infallible;

use millpond_engine::{PartitionKey, ReadFault};
use millpond_wire::limits::{SCRUB_EVERY_MS, SCRUB_FIRST_MS, SCRUB_PIECE_BYTES};

use super::{DurableEngine, Shell};
use crate::disk::Disk;
use crate::segments::{Fault, SegmentMeta};

/// What became of a segment.
enum Verdict {
    Whole,
    /// Replaced or dropped meanwhile.
    Gone,
    Damaged(ReadFault),
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Never ends.
    pub(super) async fn scrub(&self) -> Infallible {
        if self.config.scrub_bytes_per_second == 0 {
            std::future::pending::<Infallible>().await;
        }
        let mut due_ms = self.shell.now().mono_ms + SCRUB_FIRST_MS;
        loop {
            self.shell.sleep_until_ms(due_ms).await;
            self.scrub_all().await;
            due_ms = self.shell.now().mono_ms + SCRUB_EVERY_MS;
        }
    }

    async fn scrub_all(&self) {
        let segments: Vec<(PartitionKey, SegmentMeta)> = self
            .segments
            .with_table(|table| table.iter().map(|(key, meta)| (key, *meta)).collect());
        let mut damaged = 0;
        for (key, meta) in segments {
            match self.scrub_segment(key, meta).await {
                Verdict::Whole | Verdict::Gone => {}
                Verdict::Damaged(fault) => {
                    damaged += 1;
                    tracing::error!(
                        partition = %key,
                        %fault,
                        "the scrub found damage: what is damaged is not served, all else is. \
                         `millpond log verify` tells more, `millpond log repair` gives it up"
                    );
                }
            }
        }
        self.meter.scrubbed_all(damaged);
    }

    async fn scrub_segment(&self, key: PartitionKey, meta: SegmentMeta) -> Verdict {
        if !self.segments.with_table(|table| table.holds(key, meta.name())) {
            return Verdict::Gone;
        }
        match self.scrub_batches(key, meta).await {
            Ok(()) => Verdict::Whole,
            Err(Fault::Read(fault)) => Verdict::Damaged(fault),
            Err(Fault::Gone | Fault::BadMark) => Verdict::Gone,
        }
    }

    async fn scrub_batches(&self, key: PartitionKey, meta: SegmentMeta) -> Result<(), Fault> {
        let mut walk = self.segments.walk_all(key, meta).await?;
        let mut piece_bytes = 0;
        while let Some(header) = walk.peek().await? {
            piece_bytes += walk.size(&header)? as u64;
            walk.take(&header).await?;
            if piece_bytes >= SCRUB_PIECE_BYTES {
                self.rest_after(piece_bytes).await;
                piece_bytes = 0;
            }
        }
        self.rest_after(piece_bytes).await;
        Ok(())
    }

    /// Waits as long as so many bytes may take.
    async fn rest_after(&self, bytes: u64) {
        self.meter.scrubbed(bytes);
        let wait_ms = bytes.saturating_mul(1000) / self.config.scrub_bytes_per_second;
        self.shell.sleep_until_ms(self.shell.now().mono_ms + wait_ms).await;
    }
}
