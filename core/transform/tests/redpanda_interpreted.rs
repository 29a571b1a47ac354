//! The stories of `redpanda.rs` (modules of Redpanda's contract) once more, on the interpreter.

#[path = "redpanda.rs"]
mod stories;
