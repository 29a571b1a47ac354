//! Makes batches of the records that came out of a chain.
//!
//! Same codec, timestamps, headers; no producer. A batch is cut where it would grow above what
//! consumers with default settings can take.

use crate::outcome::{Output, OutputTopic};
use crate::rows::Row;
use bytes::Bytes;
use millpond_wire::ErrorCode;
use millpond_wire::limits as caps;
use millpond_wire::record::{Batch, BatchBuilder, BatchError, BuildError, Codec};
use thiserror::Error;

/// Why records do not make a batch.
#[derive(Debug, Error)]
pub(crate) enum RebuildError {
    #[error("the records that a transform let through do not fit a batch: {0}")]
    Build(#[from] BuildError),
    #[error("the records that a transform let through do not make a batch: {0}")]
    Parse(#[from] BatchError),
}

impl RebuildError {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            RebuildError::Build(BuildError::BadTimestamp { .. }) => ErrorCode::InvalidTimestamp,
            RebuildError::Build(BuildError::TooLarge { .. }) => ErrorCode::MessageTooLarge,
            RebuildError::Build(_) | RebuildError::Parse(_) => ErrorCode::UnknownServerError,
        }
    }
}

/// Batches of `rows` for `topic`, appended to `outputs`; without a batch that came, uncompressed.
pub(crate) fn rebuild(
    came: Option<&Batch>,
    rows: &[Row],
    arenas: &[Bytes],
    topic: &OutputTopic,
    outputs: &mut Vec<Output>,
) -> Result<(), RebuildError> {
    let full_bytes = caps::DEFAULT_MAX_MESSAGE_BYTES.max(came.map_or(0, Batch::size_bytes));
    let new = || BatchBuilder::new(Codec::None, None);
    let mut builder = came.map_or_else(new, BatchBuilder::like);
    for row in rows {
        if !builder.is_empty()
            && builder.size_bytes() + row.payload_bytes() + RECORD_OVERHEAD_BYTES > full_bytes
        {
            outputs.push(finish(&mut builder, topic)?);
        }
        let headers = row.headers.get(arenas).unwrap_or_default();
        builder.push_with_raw_headers(
            row.timestamp_ms,
            row.key.get(arenas),
            row.value.get(arenas),
            headers,
        )?;
    }
    if !builder.is_empty() {
        outputs.push(finish(&mut builder, topic)?);
    }
    Ok(())
}

/// What a record costs beside its payload, at most.
const RECORD_OVERHEAD_BYTES: usize = 40;

fn finish(builder: &mut BatchBuilder, topic: &OutputTopic) -> Result<Output, RebuildError> {
    let batch = Batch::parse_trusted(builder.build()?)?;
    Ok(Output { topic: topic.clone(), batch })
}
