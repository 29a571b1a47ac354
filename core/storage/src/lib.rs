//! Storage: the journal, segments, checkpoints and recovery, over a [`disk::Disk`] with three
//! implementations; and [`DurableEngine`], the one loop that makes the engine's decisions durable
//! before anybody hears of them.
//!
//! It must never acknowledge what is not on the device, never rewrite acknowledged bytes, never
//! take damage for a torn tail.

pub mod checkpoint;
mod clock;
pub mod compaction;
mod config;
pub mod disk;
mod durable_engine;
mod fields;
pub mod journal;
mod metrics;
pub mod offline;
pub mod packing;
pub mod segments;
mod signal;

pub use clock::StorageClock;
pub use config::StorageConfig;
pub use durable_engine::{DurableEngine, FatalDiskError, OpenError, ReplayFault, Shell};
pub use metrics::{
    CompactionMetrics, LATENCY_BOUNDS_US, LatencyHistogram, RecoveryReport, StorageMetrics,
    WriteCause,
};
