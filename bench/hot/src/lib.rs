//! The hot paths of the broker, each set up once for all who measure it: criterion (how long,
//! `benches/paths.rs`), valgrind (how many instructions, `examples/hot.rs` and `bench/instructions`)
//! and the counting allocator (`tests/allocations`). All of them do the same thing on the same bytes
//! in every run. Must never look at a clock, at chance or at the machine.

pub mod broker;
pub mod device;
pub mod filter;
pub mod messages;
mod paths;
pub mod records;

pub use paths::{HotPath, PATHS, Step};
