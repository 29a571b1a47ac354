//! Reading history: whole batches by offset or by time, each checked before it is given out. A
//! batch that fails its checks is an error for this read, never skipped and never served.

use millpond_engine::{HistoryRead, ReadFault};
use millpond_wire::limits::HISTORY_READ_BYTES_MAX;
use millpond_wire::record::LogBatch;

use super::Segments;
use super::walk::{Fault, SCAN_BYTES};
use crate::disk::Disk;

/// How often a read begins anew because its segments were replaced under it (each time another
/// checkpoint came between) or an index was wrong.
const RETRIES: usize = 8;

impl<D: Disk> Segments<D> {
    /// The batches of one read, as they stand in the segments. A repacked batch counts
    /// `expansion` times its size against the read's budget: about what it will be served as.
    pub(crate) async fn read(
        &self,
        read: &HistoryRead,
        expansion: usize,
    ) -> Result<Vec<LogBatch>, ReadFault> {
        let mut found = Vec::new();
        let mut tries = 0;
        let fault = loop {
            let result = match read.find_timestamp {
                Some(timestamp) => self.find(read, timestamp, &mut found).await,
                None => self.collect(read, expansion, &mut found).await,
            };
            match result {
                Err(Fault::Read(fault)) if found.is_empty() => break fault,
                // What stands before damage is served; the read that begins at it is told.
                Ok(()) | Err(Fault::Read(_)) => return Ok(found),
                // The table of now names what took its place; the index is made anew.
                Err(Fault::Gone | Fault::BadMark) if tries < RETRIES => {
                    found.clear();
                    tries += 1;
                }
                Err(Fault::Gone | Fault::BadMark) => {
                    break ReadFault::Io("its segments are being replaced all the time".to_owned());
                }
            }
        };
        Err(fault)
    }

    async fn collect(
        &self,
        read: &HistoryRead,
        expansion: usize,
        found: &mut Vec<LogBatch>,
    ) -> Result<(), Fault> {
        let budget = read.max_bytes.min(HISTORY_READ_BYTES_MAX);
        let metas = self.state.borrow().table.from_offset(read.partition, read.offset).to_vec();
        let mut taken = 0;
        for meta in metas {
            if meta.base_offset >= read.upto {
                break;
            }
            self.load_index(read.partition, &meta).await;
            let start = self.mark(read.partition, &meta, |index| index.before_offset(read.offset));
            let read_bytes = if meta.is_packed { budget / expansion.max(1) } else { budget };
            let mut walk = self.walk(read.partition, meta, start, read_bytes).await?;
            while let Some(header) = walk.peek().await? {
                if header.base_offset >= read.upto {
                    return Ok(());
                }
                if header.last_offset() < read.offset {
                    walk.skip(&header)?;
                    continue;
                }
                let factor = if header.attributes.is_repacked() { expansion } else { 1 };
                let size = walk.size(&header)?.saturating_mul(factor);
                if taken > 0 && taken + size > budget {
                    return Ok(());
                }
                found.push(walk.take(&header).await?);
                taken += size;
            }
        }
        Ok(())
    }

    async fn find(
        &self,
        read: &HistoryRead,
        timestamp: i64,
        found: &mut Vec<LogBatch>,
    ) -> Result<(), Fault> {
        let metas = self.state.borrow().table.from_offset(read.partition, read.offset).to_vec();
        for meta in metas {
            if meta.base_offset >= read.upto {
                break;
            }
            if meta.max_timestamp < timestamp {
                continue;
            }
            self.load_index(read.partition, &meta).await;
            let start = self.mark(read.partition, &meta, |index| {
                let by_offset = index.before_offset(read.offset);
                let by_time = index.before_timestamp(timestamp);
                if by_offset.position > by_time.position { by_offset } else { by_time }
            });
            let mut walk = self.walk(read.partition, meta, start, SCAN_BYTES).await?;
            while let Some(header) = walk.peek().await? {
                if header.base_offset >= read.upto {
                    return Ok(());
                }
                // One without records only stands for offsets that compaction emptied.
                let has_records = header.records_count > 0;
                let is_in_reach = header.last_offset() >= read.offset && has_records;
                if is_in_reach && header.max_timestamp >= timestamp {
                    found.push(walk.take(&header).await?);
                    return Ok(());
                }
                walk.skip(&header)?;
            }
        }
        Ok(())
    }
}
