//! The WASM host: modules run on batches before they are stored, in a sandbox with a memory and a
//! CPU limit, with a policy for their failures.
//!
//! ```text
//!   batch -> rows -> batch_buffer -> guest -> verdicts -> policy -> rows -> rebuild -> batches
//!                      (instance, imports)   (isolate)
//! ```
//!
//! - [`Host`]: the engine all guests share; [`Host::compile`] checks and compiles a module;
//!   [`Host::precompile`] does it in one process, [`Host::load`] takes the result up in another.
//! - [`Transform::deploy`]: a declaration ([`TransformSpec`]) and a module, tried once.
//! - [`Chain`]: the transforms of one partition; [`run`] runs it on a batch.
//!
//! A stage may keep state (`state.rs`): a cache in memory in front of a changelog that the caller
//! journals with the outcome. [`Chain::state_wanted`] says what must be loaded before a run,
//! [`Report::state`] what the run changed; [`Chain::forget_state`] where that was not journalled.
//!
//! It must never trust a pointer, a length or a count of a guest, let one run longer than its
//! budget, or change a batch of which it kept all records. It knows nothing of the engine: what
//! becomes of an [`Outcome`] is decided there.

mod abi;
mod artifact;
mod batch_buffer;
mod chain;
mod compile;
mod dead_letters;
mod error_rate;
mod fault;
mod guest;
mod headers;
mod helper_imports;
mod horizon;
mod host;
mod imports;
mod instance;
mod isolate;
mod json;
mod logs;
mod module_shape;
#[cfg(test)]
mod numbers;
mod outcome;
mod policy;
mod rebuild;
mod redpanda;
mod rows;
mod runner;
mod shared;
mod spec;
mod state;
mod state_imports;
mod stats;
mod ticker;
mod timers;
mod verdicts;

pub use artifact::ArtifactError;
pub use chain::{Chain, ChainError, DeployError, Transform};
pub use compile::{CompileError, CompiledModule, Contract};
pub use error_rate::{ErrorRate, ErrorRateError, ErrorRateLimit};
pub use fault::{FailureReason, Fault, Lie};
pub use host::{EngineKind, Host, HostConfig, HostError};
pub use logs::{Level, LogLine};
pub use outcome::{Outcome, Output, OutputTopic};
pub use policy::{FailurePolicy, OnFailure};
pub use runner::{Input, Report, StageChanges, run};
pub use shared::{Shared, SharedSource};
pub use spec::{Limits, Sha256, SpecError, TransformSpec};
pub use state::{StateChange, StateError};
pub use stats::{FailureCounts, LatencyHistogram, StageStats, StageTotals};
