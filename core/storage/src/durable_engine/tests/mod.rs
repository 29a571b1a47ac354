//! The durable engine on a simulated disk: stories in `stories.rs`, seeded lives with power cuts in
//! `crashes.rs`, damaged journals in `damage.rs`, data directories of every version in
//! `fixtures.rs`, the machine they run on in `rig.rs`; the real disks in `real.rs`.

mod crashes;
mod damage;
mod fixtures;
mod real;
mod rig;
mod stories;
