//! The stories of `transforms.rs` (what the shipped modules do) once more, on the interpreter.

#[path = "transforms.rs"]
mod stories;
