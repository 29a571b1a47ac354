//! The Kafka protocol, bounded and pure: messages, frames, record batches.
//!
//! This floor reads no clock, no random source, no file, no socket, and starts no thread. Nothing here allocates
//! from a size that a peer declared: counts are checked against the bytes that are left, memory against a budget
//! that follows from the bytes received, and every cap stands in [`limits`].

pub mod api;
pub mod early;
pub mod error_code;
pub mod float;
pub mod frame;
pub mod limits;
pub mod message;
pub mod messages;
pub mod murmur2;
pub mod mutant;
pub mod permission;
pub mod reader;
pub mod record;
pub mod rope;
pub mod secret;
pub mod topic_name;
pub mod uuid;
pub mod writer;

pub use api::{ApiKey, ApiSpec};
pub use early::Early;
pub use error_code::ErrorCode;
pub use float::F64;
pub use message::Message;
pub use reader::{DecodeError, Reader};
pub use rope::Records;
pub use secret::Secret;
pub use uuid::Uuid;
pub use writer::Writer;
