//! What every generated structure can do. Must never hold state, or know a single message.

use crate::reader::{DecodeError, Reader};
use crate::writer::Writer;

/// A structure of the Kafka protocol: a request, a response, or a part of one.
pub trait Message: Sized {
    /// The least number of bytes that an encoding in this version can have. A count of elements is checked against
    /// it before memory is taken.
    fn min_bytes(version: i16) -> usize;

    /// Reads one from the bytes of a peer. Never panics; memory is bounded by the reader's budget.
    ///
    /// # Errors
    /// Whatever does not fit the version's layout, see [`DecodeError`]. A version that is not served is read as if
    /// it were laid out like its nearest neighbour: check it first ([`crate::ApiKey::serves`]).
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes this in the given version. Fields that the version lacks are left out.
    fn encode(&self, writer: &mut Writer, version: i16);
}
