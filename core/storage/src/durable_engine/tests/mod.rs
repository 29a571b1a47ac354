//! The durable engine on a simulated disk: stories in `stories.rs`, those of topics with a window of
//! loss in `windows.rs`, of full disks in `space.rs`, of packed history in `packing.rs`, of compacted
//! topics in `compaction.rs`, of damaged journals in `damage.rs`, of large batches in `direct.rs`,
//! seeded lives with power cuts in `crashes.rs`, data directories of every
//! version in `fixtures.rs`, transforms with state in `state_lives.rs`, transactions in `transactions.rs`, a stopped node looked at in `offline.rs`, the machine they run on in
//! `rig.rs`; the real disks in `real.rs`.

mod compaction;
mod crashes;
mod damage;
mod direct;
mod fixture_kafka;
mod fixture_transforms;
mod fixtures;
mod means;
mod offline;
mod packing;
mod real;
mod rig;
mod space;
mod state_lives;
mod stories;
mod transactions;
mod windows;
