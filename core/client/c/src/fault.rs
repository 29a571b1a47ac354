//! What went wrong, as C is told: the broker's code if it has one, whether trying again may help, and
//! words. Never carries what records hold.

use millpond_client::{
    ClientError, DeliveryError, ErrorCode, SendError, SpillError, TransactionError,
};

/// What is to be done about it, where that is not in the words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Read the words.
    #[default]
    Failed,
    /// The transaction can only be aborted.
    Spoilt,
    /// Another has the transactional id: this producer is of no more use.
    Fenced,
    /// What was given makes no sense; nothing was done.
    Invalid,
    /// It has ended.
    Closed,
    /// The time is over; it goes on.
    TimedOut,
    /// Too much is under way already.
    Full,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) code: i16,
    pub(crate) is_retriable: bool,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(kind: Kind, text: &str) -> Self {
        let is_retriable = matches!(kind, Kind::TimedOut | Kind::Full);
        Self { kind, code: 0, is_retriable, text: text.to_owned() }
    }

    pub(crate) fn closed() -> Self {
        Self::new(Kind::Closed, "it is closed")
    }

    pub(crate) fn timed_out() -> Self {
        Self::new(Kind::TimedOut, "the time given is over; it goes on, ask again")
    }
}

fn number(code: Option<ErrorCode>) -> i16 {
    code.map_or(0, ErrorCode::code)
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::Config { .. } => Kind::Invalid,
            _ => Kind::Failed,
        };
        let (code, is_retriable) = (number(error.code()), error.is_retriable());
        Self { kind, code, is_retriable, text: error.to_string() }
    }
}

impl From<TransactionError> for Fault {
    fn from(error: TransactionError) -> Self {
        let kind = match &error {
            TransactionError::Order(_) | TransactionError::TooMany { .. } => Kind::Invalid,
            TransactionError::Spoilt => Kind::Spoilt,
            TransactionError::Fenced => Kind::Fenced,
            TransactionError::Send(_) | TransactionError::Client(_) => Kind::Failed,
        };
        let (code, is_retriable) = match &error {
            TransactionError::Client(error) => (number(error.code()), error.is_retriable()),
            _ => (0, false),
        };
        Self { kind, code, is_retriable, text: error.to_string() }
    }
}

impl From<&DeliveryError> for Fault {
    fn from(error: &DeliveryError) -> Self {
        let code = match error {
            DeliveryError::Refused { code, .. } => Some(*code),
            _ => None,
        };
        let is_retriable = match error {
            DeliveryError::TimedOut { may_be_written, .. } => !may_be_written,
            _ => code.is_some_and(ErrorCode::is_retriable),
        };
        Self { kind: Kind::Failed, code: number(code), is_retriable, text: error.to_string() }
    }
}

impl From<SendError> for Fault {
    fn from(error: SendError) -> Self {
        let (code, is_retriable) = match &error {
            SendError::Topic { source, .. } => (number(source.code()), source.is_retriable()),
            _ => (0, false),
        };
        Self { kind: Kind::Failed, code, is_retriable, text: error.to_string() }
    }
}

impl From<SpillError> for Fault {
    fn from(error: SpillError) -> Self {
        let is_retriable = matches!(error, SpillError::Full { .. });
        Self { kind: Kind::Failed, code: 0, is_retriable, text: error.to_string() }
    }
}
