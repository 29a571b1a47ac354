//! History reads: a few at a time, beside the journal, answered to the engine as events.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use millpond_engine::{Event, HistoryRead, HistorySlice, ReadFault, ReadJob};
use millpond_wire::limits::HISTORY_JOBS_AT_ONCE;

use super::{DurableEngine, Shell};
use crate::disk::Disk;

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// Never ends.
    pub(super) async fn read_history(&self) {
        let mut running = FuturesUnordered::new();
        loop {
            let seen = self.jobs_came.count();
            while running.len() < HISTORY_JOBS_AT_ONCE {
                let job = self.jobs.borrow_mut().pop_front();
                match job {
                    Some(job) => running.push(self.read_job(job)),
                    None => break,
                }
            }
            let mut came = self.jobs_came.past(seen);
            let done = std::future::poll_fn(|cx| {
                if let Poll::Ready(Some(event)) = running.poll_next_unpin(cx) {
                    return Poll::Ready(Some(event));
                }
                Pin::new(&mut came).poll(cx).map(|()| None)
            })
            .await;
            if let Some(event) = done {
                self.submit(event);
            }
        }
    }

    async fn read_job(&self, job: ReadJob) -> Event {
        let mut result = Vec::with_capacity(job.reads.len());
        for read in &job.reads {
            let slice = self.read_slice(read).await;
            if let Err(fault) = &slice {
                self.meter.history_fault();
                tracing::error!(partition = %read.partition, %fault, "history cannot be read");
            }
            result.push(slice);
        }
        Event::HistoryRead { id: job.id, result }
    }

    async fn read_slice(&self, read: &HistoryRead) -> Result<HistorySlice, ReadFault> {
        let batches = self.segments.read(read, self.expansion(read.partition)).await?;
        let slice = self.served(read.partition, batches, read.max_bytes).await?;
        self.meter.history_read(slice.records.len() as u64, slice.size_bytes() as u64);
        Ok(slice)
    }
}
