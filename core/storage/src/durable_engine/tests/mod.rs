//! The durable engine on a simulated disk: stories in `stories.rs`, seeded lives with power cuts in
//! `crashes.rs`, a
//! stopped node looked at in `offline.rs`, the machine they run on in `rig.rs`; the real disks in `real.rs`.

mod crashes;
mod offline;
mod real;
mod rig;
mod stories;
