//! Writing what has a place: a lane for each partition that has something to write, a few at a time,
//! each writing as much as waits for it in one go. An error other than a refusal ends the node.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use millpond_engine::PartitionKey;
use millpond_wire::limits::{DIRECT_GATHER_BYTES, DIRECT_LANES_MAX};
use millpond_wire::record::LogBatch;

use super::super::{DurableEngine, FatalDiskError, Shell};
use super::{Place, Placement};
use crate::disk::{AlignedBuf, Disk, DiskError, DiskFile, OpenMode};
use crate::metrics::WriteCause;
use crate::segments::SegmentName;
use crate::segments::format::{SegmentHeader, segment_path};

/// Batches that follow each other in one segment.
struct Load<F> {
    key: PartitionKey,
    name: SegmentName,
    batches: Vec<(Rc<Place>, LogBatch)>,
    file: Option<F>,
}

/// What came of a load.
struct Done<F> {
    load: Load<F>,
    result: Result<F, DiskError>,
}

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Writes what is given places. Ends only with an error.
    pub(in crate::durable_engine) async fn write_direct(&self) -> FatalDiskError {
        let mut lanes = FuturesUnordered::new();
        loop {
            let seen = self.direct.work.count();
            while lanes.len() < DIRECT_LANES_MAX
                && let Some(load) = self.next_load()
            {
                lanes.push(self.write_load(load));
            }
            let mut work = self.direct.work.past(seen);
            let done = std::future::poll_fn(|cx| {
                if let Poll::Ready(Some(done)) = lanes.poll_next_unpin(cx) {
                    return Poll::Ready(Some(done));
                }
                Pin::new(&mut work).poll(cx).map(|()| None)
            })
            .await;
            if let Some(done) = done
                && let Err(error) = self.load_done(done)
            {
                return FatalDiskError::Direct(error);
            }
        }
    }

    /// As much as waits for the partition whose turn it is.
    fn next_load(&self) -> Option<Load<D::File>> {
        let key = self.direct.ready.borrow_mut().pop_front()?;
        let mut runs = self.direct.runs.borrow_mut();
        let run = runs.get_mut(&key)?;
        let (first, _) = run.queue.front()?;
        let (name, start) = (first.name, first.position);
        let fits = |(place, _): &(Rc<Place>, LogBatch)| {
            place.name == name && place.end - start <= DIRECT_GATHER_BYTES as u64
        };
        let count = run.queue.iter().take_while(|queued| fits(queued)).count().max(1);
        let batches = run.queue.drain(..count).collect();
        run.is_writing = true;
        let file = run.file.take().filter(|(open, _)| *open == name).map(|(_, file)| file);
        Some(Load { key, name, batches, file })
    }

    async fn write_load(&self, mut load: Load<D::File>) -> Done<D::File> {
        let result = self.try_load(&mut load).await;
        Done { load, result }
    }

    async fn try_load(&self, load: &mut Load<D::File>) -> Result<D::File, DiskError> {
        let block = self.disk.block_bytes();
        let first = load.batches.first().map_or(0, |(place, _)| place.position);
        let end = load.batches.last().map_or(0, |(place, _)| place.end);
        let is_new = load.batches.first().is_some_and(|(place, _)| place.begins_segment);
        let file = match load.file.take() {
            Some(file) => file,
            None => self.open_direct(load.key, load.name, is_new).await?,
        };
        // A new segment's header goes with its first batch.
        let start = if is_new { 0 } else { first };
        let mut buf = AlignedBuf::with_capacity((end - start) as usize, block);
        if is_new {
            let header = SegmentHeader { partition: load.key, name: load.name };
            buf.extend_from_slice(&header.encode());
        }
        for (place, batch) in &load.batches {
            zero_up_to(&mut buf, (place.position - start) as usize);
            let at = buf.len();
            buf.set_len(at + batch.size_bytes());
            batch.write_to(&mut &mut buf.as_mut_slice()[at..]);
        }
        zero_up_to(&mut buf, (end - start) as usize);
        let (result, buf) = file.write_durable(start, buf).await;
        result?;
        self.meter.wrote(WriteCause::Segment, buf.len() as u64);
        self.meter.synced(WriteCause::Segment);
        Ok(file)
    }

    /// An open segment whose name is on the device.
    async fn open_direct(
        &self,
        key: PartitionKey,
        name: SegmentName,
        is_new: bool,
    ) -> Result<D::File, DiskError> {
        if !is_new {
            return self.disk.open(&segment_path(key, name), OpenMode::DIRECT).await;
        }
        if self.segments.with_table(|table| table.of(key).is_empty()) {
            self.segments.make_directories([key]).await?;
        }
        self.segments.create_file(key, name).await
    }

    fn load_done(&self, done: Done<D::File>) -> Result<(), DiskError> {
        let Done { load, result } = done;
        let bytes: usize = load.batches.iter().map(|(_, batch)| batch.size_bytes()).sum();
        let direct = &self.direct;
        let mut gone = bytes as u64;
        let mut runs = direct.runs.borrow_mut();
        let Some(run) = runs.get_mut(&load.key) else {
            return Ok(());
        };
        run.is_writing = false;
        match result {
            Ok(file) => {
                load.batches.iter().for_each(|(place, _)| place.set(Placement::Written));
                run.file = Some((load.name, file));
            }
            // Full; or the topic was deleted meanwhile.
            Err(error) if error.is_refusal() || error.is_not_found() => {
                direct.is_shut.set(error.is_refusal());
                gone += run.refuse();
                tracing::warn!(partition = %load.key, %error, "a large batch goes by the journal");
                self.journal.remeasure();
            }
            Err(error) => return Err(error),
        }
        direct.waiting_bytes.set(direct.waiting_bytes.get().saturating_sub(gone));
        if !run.queue.is_empty() {
            direct.ready.borrow_mut().push_back(load.key);
            direct.work.raise();
        }
        drop(runs);
        self.journal.wake();
        direct.settled.raise();
        Ok(())
    }
}

/// Appends zeros until the buffer is so long.
fn zero_up_to(buf: &mut AlignedBuf, len: usize) {
    let at = buf.len();
    if len > at {
        buf.set_len(len);
        buf.as_mut_slice()[at..].fill(0);
    }
}
