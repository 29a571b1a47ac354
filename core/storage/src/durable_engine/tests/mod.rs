//! The durable engine on a simulated disk: stories in `stories.rs`, seeded lives with power cuts in
//! `crashes.rs`, the machine they run on in `rig.rs`.

mod crashes;
mod rig;
mod stories;
