//! The SDK as C sees it: `millpond_client.h` beside this, a static and a shared library.
//!
//! `ffi/` is the boundary, where pointers are believed, and the only place that may; what is behind it is
//! as safe as the rest. Nothing here unwinds into C, calls C's code from another thread, or starts more
//! than one thread for a producer or a consumer.

mod batch;
mod bell;
mod fault;
mod ffi;
mod line;
mod reader;
mod settings;
