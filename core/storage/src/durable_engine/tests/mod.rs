//! The durable engine on a simulated disk: stories in `stories.rs`, those of topics with a window of
//! loss in `windows.rs`, of full disks in `space.rs`, seeded lives with power cuts in `crashes.rs`,
//! data directories of every version in `fixtures.rs`, the machine they run on in `rig.rs`; the real
//! disks in `real.rs`.

mod crashes;
mod fixtures;
mod real;
mod rig;
mod space;
mod stories;
mod windows;
