//! The stories of `hostile.rs` (modules that loop, trap, exhaust memory, lie and flood) once more, on the interpreter.

#[path = "hostile.rs"]
mod stories;
