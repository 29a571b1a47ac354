//! The whole node but its sockets, under a seeded scheduler with a simulated disk, network and
//! clock: power cuts, lost answers, slow devices, and clients that try again. Same seed, same run.
//! Must never use a thread, a real clock or a chance that the seed does not decide.
//!
//! A run has a stormy phase, in which the power goes several times, and a calm one, in which the
//! node comes back for good; then everything that was promised is checked against what is there.

pub mod client;
pub mod history;
pub mod network;
pub mod node;
pub mod oracle;
pub mod run;
pub mod trace;

pub use run::{Report, Storm, run_seed};
