//! The workbench of the end-to-end tests: start a real broker process, run real clients against
//! it, kill it, and judge what is left.
//!
//! Must never be skipped over: a helper that lacks something (a binary, a client, a package)
//! panics and names the command that installs it. Nothing here sleeps blindly: whatever is waited
//! for is an event with a deadline.

pub mod authority;
pub mod autopsy;
pub mod binary;
pub mod bomb;
pub mod broker;
pub mod checker;
pub mod clients;
pub mod command;
pub mod connect;
pub mod crew;
pub mod dice;
pub mod feeder;
pub mod go;
pub mod images;
pub mod java;
pub mod jvm;
pub mod kafka;
pub mod load;
pub mod log;
pub mod path;
pub mod ports;
pub mod relay;
pub mod running;
pub mod sasl;
pub mod witness;
pub mod writer;

/// What judges a log here judges it in the simulator too.
pub use millpond_sim::history;
