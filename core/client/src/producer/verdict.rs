//! What the answer to a batch means: delivered, refused for good, worth another try, or doubt.
//!
//! The one place where Kafka's codes become decisions of the producer. The question behind each
//! line is whether the broker can have written the batch.

use super::delivery::Written;
use crate::error::CallError;
use millpond_wire::ErrorCode;
use millpond_wire::messages::produce_response::PartitionProduceResponse;
use std::sync::Arc;

/// What to make of one try.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// The broker has it.
    Delivered(Written),
    /// The broker will never take it, and has not.
    Refused { code: ErrorCode, message: Option<Arc<str>> },
    /// Try again. `uncertain`: this try may have been written.
    Retry { uncertain: bool, why: Arc<str> },
    /// The broker expected another sequence number.
    OutOfOrder,
    /// The broker does not know, or no longer takes, the producer id and epoch.
    ProducerUnknown { why: Arc<str> },
}

impl Verdict {
    /// Of a response to the batch.
    pub(crate) fn of_response(response: &PartitionProduceResponse) -> Self {
        let code = ErrorCode::from_code(response.error_code);
        let code = code.unwrap_or(ErrorCode::UnknownServerError);
        match code {
            ErrorCode::None => Self::Delivered(Written {
                base_offset: Some(response.base_offset).filter(|offset| *offset >= 0),
                log_append_time_ms: Some(response.log_append_time_ms).filter(|time| *time >= 0),
            }),
            // Written by an earlier try, too long ago for the broker to know where.
            ErrorCode::DuplicateSequenceNumber => {
                Self::Delivered(Written { base_offset: None, log_append_time_ms: None })
            }
            ErrorCode::OutOfOrderSequenceNumber => Self::OutOfOrder,
            ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerIdMapping
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::ProducerFenced => Self::ProducerUnknown { why: code.message().into() },
            // Written, or perhaps written, though the answer is an error.
            ErrorCode::RequestTimedOut
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::NetworkException
            | ErrorCode::KafkaStorageError => {
                Self::Retry { uncertain: true, why: code.message().into() }
            }
            // Nobody knows what a broker without a word for it has done.
            ErrorCode::UnknownServerError => Self::Retry {
                uncertain: true,
                why: response.error_message.as_deref().unwrap_or(code.message()).into(),
            },
            code if code.is_retriable() => {
                Self::Retry { uncertain: false, why: code.message().into() }
            }
            code => {
                Self::Refused { code, message: response.error_message.as_deref().map(Into::into) }
            }
        }
    }

    /// Of a request that has no response by design (acks = 0) and is sent.
    pub(crate) fn of_no_response() -> Self {
        Self::Delivered(Written { base_offset: None, log_append_time_ms: None })
    }

    /// Of a request that was sent and has no usable response.
    pub(crate) fn of_failed_call(error: &CallError) -> Self {
        match error {
            CallError::Unsupported { .. } => Self::Refused {
                code: ErrorCode::UnsupportedVersion,
                message: Some(error.to_string().into()),
            },
            CallError::Busy { .. } => {
                Self::Retry { uncertain: false, why: error.to_string().into() }
            }
            CallError::Lost { .. }
            | CallError::Timeout { .. }
            | CallError::Malformed { .. }
            | CallError::Unexpected { .. } => {
                Self::Retry { uncertain: true, why: error.to_string().into() }
            }
        }
    }

    /// Of a request that never reached the line.
    pub(crate) fn of_unsent_call(error: &CallError) -> Self {
        match Self::of_failed_call(error) {
            Self::Retry { why, .. } => Self::Retry { uncertain: false, why },
            verdict => verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(code: ErrorCode) -> Verdict {
        Verdict::of_response(&PartitionProduceResponse {
            error_code: code.code(),
            base_offset: -1,
            ..Default::default()
        })
    }

    #[test]
    fn what_may_be_written_is_told_from_what_is_not() {
        for code in [ErrorCode::RequestTimedOut, ErrorCode::KafkaStorageError] {
            assert!(matches!(verdict(code), Verdict::Retry { uncertain: true, .. }), "{code:?}");
        }
        for code in [ErrorCode::NotLeaderOrFollower, ErrorCode::UnknownTopicOrPartition] {
            assert!(matches!(verdict(code), Verdict::Retry { uncertain: false, .. }), "{code:?}");
        }
        for code in [ErrorCode::MessageTooLarge, ErrorCode::InvalidRecord] {
            assert!(matches!(verdict(code), Verdict::Refused { .. }), "{code:?}");
        }
    }

    #[test]
    fn an_accepted_batch_without_an_offset_is_delivered() {
        assert!(matches!(
            verdict(ErrorCode::None),
            Verdict::Delivered(Written { base_offset: None, .. })
        ));
        assert!(matches!(verdict(ErrorCode::DuplicateSequenceNumber), Verdict::Delivered(_)));
    }
}
