//! Compaction (`cleanup.policy=compact`): of each key the newest record stays. Pure: no file, no
//! clock; whoever drives it reads segments, writes new ones and stages the exchange. Must never
//! drop the newest record of a key, a tombstone before all that it deletes, or change an offset
//! or a timestamp.
//!
//! A round of one partition:
//! 1. [`choose`] says up to where it goes and where the part begins that no round has seen;
//! 2. [`KeyScan`] reads that part, oldest first, and ends where its memory is full;
//! 3. [`Rewriter`] is given *every* batch from the start of the log to the end of the scan,
//!    oldest first, and gives the batches that replace them.
//!
//! The order in 3 is what tombstones rest on: new segments may take the place of old ones one by
//! one, but the oldest first, and a segment counts as clean only when all before it do. Then a
//! round that is cut short has lost nothing, and the next one begins at the same place. A segment
//! of which nothing changed ([`RewriteStats::is_changed`]) need not be replaced.
//!
//! Control batches stay. A round goes no further than the last stable offset, so each transaction in
//! it was committed or aborted: records of committed ones are like all others, those of aborted ones
//! go, and make none go. Records without a key stay (Kafka refuses them when they are produced).

mod aborted;
mod keys;
mod plan;
mod rewrite;
mod scan;
#[cfg(test)]
mod tests;

pub use aborted::Aborted;
pub use keys::{MapFull, OffsetMap};
pub use plan::{CompactionPolicy, CompactionRange, SegmentSummary, choose};
pub use rewrite::{CompactionError, RewriteStats, Rewriter, Round};
pub use scan::KeyScan;
