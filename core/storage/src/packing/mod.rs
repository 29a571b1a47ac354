//! Packing: on their way to segments small batches become large ones, compressed with zstd, equal
//! record for record (offset, timestamp, key, value, headers). Pure: no file, no clock. Must never
//! lose, change or reorder a record, and never make a batch that some consumer of its topic
//! cannot be served.
//!
//! - [`pack`]: batches in, fewer and smaller ones out.
//! - [`serve`]: a batch of the log as consumers get it.
//! - [`PackPolicy`]: how far to go, from the settings of the topic.
//!
//! What stays apart (DESIGN 2.2): leader epochs; create time and log append time, and different
//! log append times; control batches; transactional data, but that of one producer and epoch
//! without anything between; what its producers compressed with zstd and what they did not.

mod merge;
mod plan;
mod serve;
#[cfg(test)]
pub(crate) mod tests;

pub use plan::PackPolicy;
pub use serve::{Served, serve};

pub(crate) use merge::{MergeError, Merger, Source};
pub(crate) use plan::{class_of, delete_horizon, is_dense};

use millpond_wire::record::{BatchError, LogBatch};

/// What [`pack`] gives.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The same records, in order; batches that were not merged share their bytes with the input.
    pub batches: Vec<LogBatch>,
    /// What was done.
    pub stats: PackStats,
}

/// What packing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackStats {
    /// Batches that came in.
    pub batches_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Batches that go out.
    pub batches_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Batches that were taken apart and are now parts of others.
    pub merged: u64,
    /// Batches that should have been merged but cannot be decoded; they went through untouched.
    pub unreadable: u64,
}

/// Merges runs of small batches, each of which continues the one before. What is large, dense, alone of its kind or not to be decoded
/// goes through untouched, and so does a run that would not become smaller.
///
/// Takes memory for one batch of `policy.target_bytes` and its compressed form beside the output.
#[must_use]
pub fn pack(batches: &[LogBatch], policy: &PackPolicy) -> Packed {
    let mut merger = Merger::new(policy);
    let mut unreadable = 0;
    let mut next_offset = None;
    let merged = batches
        .iter()
        .try_for_each(|batch| {
            // Offsets that damage took lie between: a consumer must come to that gap and be told.
            if next_offset.replace(batch.next_offset()) != Some(batch.base_offset()) {
                merger.close()?;
            }
            pack_one(&mut merger, batch, policy, &mut unreadable)
        })
        .and_then(|()| merger.finish());
    let (batches_out, merged) = match merged {
        Ok(done) => (done.batches, done.merged),
        Err(error) => {
            tracing::warn!(%error, "batches are stored as they came, packing failed");
            (batches.to_vec(), 0)
        }
    };
    let stats = PackStats {
        batches_in: batches.len() as u64,
        bytes_in: bytes_of(batches),
        batches_out: batches_out.len() as u64,
        bytes_out: bytes_of(&batches_out),
        merged,
        unreadable,
    };
    Packed { batches: batches_out, stats }
}

fn pack_one(
    merger: &mut Merger,
    batch: &LogBatch,
    policy: &PackPolicy,
    unreadable: &mut u64,
) -> Result<(), MergeError> {
    let header = batch.header();
    let class = class_of(&header, policy).filter(|_| !is_dense(&header, batch, policy));
    let Some(class) = class else {
        return merger.pass(batch);
    };
    // What expands beyond the target is dense, whatever else it is.
    let opened = Source::open(batch, class, policy.target_bytes).and_then(|source| {
        let survey = source.survey(|_| true)?;
        Ok((source, survey))
    });
    match opened {
        Ok((source, survey)) => {
            merger.add(&source, &survey, delete_horizon(&header), |_| true)?;
            Ok(())
        }
        Err(error) => {
            *unreadable += u64::from(!is_too_large(&error));
            merger.pass(batch)
        }
    }
}

fn is_too_large(error: &BatchError) -> bool {
    matches!(error, BatchError::Bomb { .. })
}

fn bytes_of(batches: &[LogBatch]) -> u64 {
    batches.iter().map(|batch| batch.size_bytes() as u64).sum()
}
