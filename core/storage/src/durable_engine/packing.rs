//! Packing where it belongs: small batches on their way to segments, and back when consumers read
//! them. The computing is offloaded; what is packed how, and what consumers get, is decided by
//! [`crate::packing`].

use bytes::Bytes;
use millpond_engine::{HistorySlice, PartitionKey, ReadFault};
use millpond_wire::limits::{HISTORY_EXPANSION, PACK_JOB_BYTES, SERVE_IN_PLACE_BYTES};
use millpond_wire::record::{Codec, LogBatch};

use super::shell::offload;
use super::{DurableEngine, Shell};
use crate::disk::{Disk, DiskError};
use crate::packing::{PackPolicy, Packed, Served, class_of, is_dense, pack, serve};
use crate::segments::Flush;

impl<D: Disk, S: Shell> DurableEngine<D, S> {
    /// How far packing goes for a partition; `None` if its topic is gone or packing is off.
    fn pack_policy(&self, key: PartitionKey) -> Option<PackPolicy> {
        let is_on = self.config.packs;
        self.with_engine(|engine| {
            let topic = engine.catalog().by_id(key.topic_id).filter(|_| is_on)?;
            let max_bytes = topic.config("max.message.bytes").parse().unwrap_or(usize::MAX);
            Some(PackPolicy::for_topic(named_codec(topic.config("compression.type")), max_bytes))
        })
    }

    /// How compaction writes a partition's batches anew: packed as at a checkpoint, or, where
    /// packing is off, only what has to be changed.
    pub(super) fn compaction_policy(&self, key: PartitionKey) -> PackPolicy {
        let untouched = || PackPolicy { small_batch_bytes: 0, ..PackPolicy::default() };
        self.pack_policy(key).unwrap_or_else(untouched)
    }

    /// The codec that a topic's `compression.type` names.
    pub(super) fn compression_type(&self, key: PartitionKey) -> Option<Codec> {
        self.with_engine(|engine| {
            let topic = engine.catalog().by_id(key.topic_id)?;
            named_codec(topic.config("compression.type"))
        })
    }

    /// Packs batches of a partition, piece by piece, and writes them.
    pub(super) async fn pack_and_write(
        &self,
        key: PartitionKey,
        batches: &[LogBatch],
        flush: &mut Flush<'_, D>,
    ) -> Result<(), DiskError> {
        let policy = self.pack_policy(key);
        let mut rest = batches;
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(piece_len(rest));
            rest = later;
            let packed = match &policy {
                Some(policy) if gains(piece, policy) => self.packed(piece, policy).await,
                _ => None,
            };
            for batch in packed.as_deref().unwrap_or(piece) {
                flush.add(batch).await?;
            }
        }
        Ok(())
    }

    async fn packed(&self, batches: &[LogBatch], policy: &PackPolicy) -> Option<Vec<LogBatch>> {
        let (batches, policy) = (batches.to_vec(), policy.clone());
        let packed = offload(&self.shell, move || pack(&batches, &policy)).await;
        // What panicked is stored as it came.
        let Packed { batches, stats } = packed?;
        self.meter.packed(stats.bytes_in, stats.bytes_out);
        Some(batches)
    }

    /// What consumers get for batches of the log, up to `max_bytes`, one batch at least.
    pub(super) async fn served(
        &self,
        key: PartitionKey,
        batches: Vec<LogBatch>,
        max_bytes: usize,
    ) -> Result<HistorySlice, ReadFault> {
        let packed = batches.iter().filter(|batch| batch.header().attributes.is_repacked());
        let packed_bytes: usize = packed.map(LogBatch::size_bytes).sum();
        let codec = self.compression_type(key);
        let work = move || serve_all(&batches, codec, max_bytes);
        let served = if packed_bytes * HISTORY_EXPANSION <= SERVE_IN_PLACE_BYTES {
            Some(work())
        } else {
            offload(&self.shell, work).await
        };
        served.unwrap_or_else(|| Err(ReadFault::Io("unpacking failed; see the log".to_owned())))
    }

    /// How many times its size a repacked batch of this partition is about served as.
    pub(super) fn expansion(&self, key: PartitionKey) -> usize {
        match self.compression_type(key) {
            None | Some(Codec::None) => HISTORY_EXPANSION,
            Some(_) => 1,
        }
    }
}

/// `producer` names none; `uncompressed` does.
fn named_codec(compression_type: &str) -> Option<Codec> {
    match compression_type {
        "uncompressed" => Some(Codec::None),
        name => Codec::from_name(name),
    }
}

/// How many batches are packed in one go: memory is taken for as much. Offsets that were lost or
/// removed end a piece, so that they stay a hole that readers meet.
fn piece_len(batches: &[LogBatch]) -> usize {
    let (mut bytes, mut next) = (0, batches.first().map_or(0, LogBatch::base_offset));
    let fits = batches.iter().take_while(|batch| {
        let is_next = batch.base_offset() == next;
        bytes += batch.size_bytes();
        next = batch.next_offset();
        is_next && bytes <= PACK_JOB_BYTES
    });
    fits.count().max(1)
}

/// Whether any of these is small: else packing would only pass them on.
fn gains(batches: &[LogBatch], policy: &PackPolicy) -> bool {
    batches.iter().any(|batch| {
        let header = batch.header();
        class_of(&header, policy).is_some() && !is_dense(&header, batch, policy)
    })
}

fn serve_all(
    batches: &[LogBatch],
    codec: Option<Codec>,
    max_bytes: usize,
) -> Result<HistorySlice, ReadFault> {
    let mut records: Vec<Bytes> = Vec::with_capacity(batches.len());
    let mut taken = 0;
    for batch in batches {
        let instead = match serve(batch, codec) {
            Ok(Served::AsIs) => None,
            Ok(Served::Instead(instead)) => Some(instead),
            // What stands before damage is served; the read that begins at it is told.
            Err(_) if !records.is_empty() => break,
            Err(error) => {
                let offset = batch.base_offset();
                let what = format!("the packed batch at offset {offset}: {error}");
                return Err(ReadFault::Damaged(what));
            }
        };
        let size = instead.as_ref().unwrap_or(batch).size_bytes();
        if taken > 0 && taken + size > max_bytes {
            break;
        }
        taken += size;
        match instead {
            Some(instead) => records.push(stamped(&instead)),
            // Read from a segment, so the stamp is on.
            None => records.push(batch.unstamped().clone()),
        }
    }
    Ok(HistorySlice { records })
}

fn stamped(batch: &LogBatch) -> Bytes {
    let mut bytes = Vec::with_capacity(batch.size_bytes());
    batch.write_to(&mut bytes);
    bytes.into()
}
