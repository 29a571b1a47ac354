//! The whole node but its sockets, under a seeded scheduler with a simulated disk, network and
//! clock: power cuts, failing and lying disks, lost answers, and clients that try again. Same seed,
//! same run. Must never use a thread, a real clock or a chance that the seed does not decide.
//!
//! A run has a stormy phase, a row of gales drawn by the seed, and a calm one, in which the node
//! comes back for good; then everything that was promised is checked against what is there.

pub mod client;
pub mod committed;
pub mod damage;
pub mod fleeting;
mod gales;
pub mod group;
pub mod history;
pub mod lab;
mod losses;
pub mod member;
pub mod network;
pub mod node;
pub mod oracle;
pub mod producer;
pub mod reader;
pub mod run;
pub mod seeds;
pub mod stop;
pub mod storm;
pub mod topics;
pub mod trace;
pub mod transactor;
pub mod trimmer;
pub mod txn_books;
pub mod txn_session;

pub use run::{Report, run_seed};
pub use storm::{Gale, Storm};
