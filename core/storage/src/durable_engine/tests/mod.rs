//! The durable engine on a simulated disk: stories in `stories.rs`, those of topics with a window of
//! loss in `windows.rs`, seeded lives with power cuts in `crashes.rs`, the machine they run on in `rig.rs`; the real disks in `real.rs`.

mod crashes;
mod real;
mod rig;
mod stories;
mod windows;
