//! The SDK as C sees it: `millpond_client.h` beside this, a static and a shared library.
//!
//! `ffi.rs` is the boundary, where pointers are believed, and the only file that may; `settings.rs` and
//! `line.rs` behind it are as safe as the rest. Nothing here unwinds into C, calls C's code from another
//! thread, or starts more than one thread for a producer.

mod ffi;
mod line;
mod settings;
