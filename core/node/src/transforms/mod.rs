//! Transforms on this node: modules on flash, compiled off the data path, run by the workers one
//! batch at a time for each partition. Never decides what happens to a batch's offsets: it tells
//! the engine what came out.

mod compiler;
mod lanes;
mod logs;
mod runner;
mod service;
mod stateful;
mod stats;
mod store;
mod watch;

pub(crate) use compiler::{
    COMMAND as COMPILE_COMMAND, GREETING as COMPILE_GREETING, REFUSED as COMPILE_REFUSED,
};
pub(crate) use logs::LogLine;
pub(crate) use runner::host_spec;
pub(crate) use service::TransformService;
pub(crate) use stats::{TransformReport, TransformStats, VersionReport};
