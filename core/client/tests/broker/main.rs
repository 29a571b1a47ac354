//! The SDK against a small broker in this process, over TCP, TLS and QUIC on 127.0.0.1.
//!
//! One binary: linking four would take longer than running them.

mod connections;
mod consuming;
mod producing;
mod support;
