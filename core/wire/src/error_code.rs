//! The error codes of the Kafka protocol: the one place that maps numbers, names and meanings. Must never decide
//! what an error is answered with; it only says what a code is called.

use crate::permission::Resource;

macro_rules! error_codes {
    ($($name:ident = $code:literal, $retriable:literal, $message:literal;)*) => {
        /// An error code of the Kafka protocol. The number is on the wire; names are Kafka's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $name = $code,)*
        }

        impl ErrorCode {
            /// All codes, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code of a number on the wire; `None` if this program does not know it.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<Self> {
                Some(match code {
                    $($code => Self::$name,)*
                    _ => return None,
                })
            }

            /// Whether a client may try the same again and succeed.
            #[must_use]
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(Self::$name => $retriable,)*
                }
            }

            /// What happened, in a sentence for a person.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$name => $message,)*
                }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1, false, "an error on the broker that has no code of its own; its log says more";
    None = 0, false, "no error";
    OffsetOutOfRange = 1, false, "the offset is before the start or after the end of the partition";
    CorruptMessage = 2, true, "a record batch fails its checksum, its size or its layout";
    UnknownTopicOrPartition = 3, true, "this broker has no such topic or partition";
    InvalidFetchSize = 4, false, "the fetch size is not allowed";
    LeaderNotAvailable = 5, true, "the partition has no leader yet";
    NotLeaderOrFollower = 6, true, "this broker does not hold the partition; ask for metadata again";
    RequestTimedOut = 7, true, "the request ran out of time";
    BrokerNotAvailable = 8, false, "the broker is not available";
    ReplicaNotAvailable = 9, true, "the replica is not available";
    MessageTooLarge = 10, false, "the record batch is larger than the topic allows";
    StaleControllerEpoch = 11, false, "the controller has moved on";
    OffsetMetadataTooLarge = 12, false, "the metadata of a committed offset is too long";
    NetworkException = 13, true, "the connection was lost before the answer";
    CoordinatorLoadInProgress = 14, true, "the coordinator is still loading";
    CoordinatorNotAvailable = 15, true, "the coordinator is not available";
    NotCoordinator = 16, true, "this broker does not coordinate the group or transaction";
    InvalidTopicException = 17, false, "the topic name is not allowed";
    RecordListTooLarge = 18, false, "the record batches are larger than a segment";
    NotEnoughReplicas = 19, true, "fewer replicas are in sync than required";
    NotEnoughReplicasAfterAppend = 20, true, "written, but to fewer in-sync replicas than required";
    InvalidRequiredAcks = 21, false, "acks must be -1, 0 or 1";
    IllegalGeneration = 22, false, "the generation is not the group's current one";
    InconsistentGroupProtocol = 23, false, "the member's protocols share none with the group";
    InvalidGroupId = 24, false, "the group id is not allowed";
    UnknownMemberId = 25, false, "the group has no such member";
    InvalidSessionTimeout = 26, false, "the session timeout is outside the broker's range";
    RebalanceInProgress = 27, false, "the group rebalances; join again";
    InvalidCommitOffsetSize = 28, false, "the committed offset is too large to store";
    TopicAuthorizationFailed = 29, false, "no permission for the topic";
    GroupAuthorizationFailed = 30, false, "no permission for the group";
    ClusterAuthorizationFailed = 31, false, "no permission for the cluster";
    InvalidTimestamp = 32, false, "a timestamp is out of the accepted range";
    UnsupportedSaslMechanism = 33, false, "the SASL mechanism is not offered";
    IllegalSaslState = 34, false, "the request does not fit the state of authentication";
    UnsupportedVersion = 35, false, "this version of the request is not served";
    TopicAlreadyExists = 36, false, "a topic of this name exists";
    InvalidPartitions = 37, false, "the number of partitions is not allowed";
    InvalidReplicationFactor = 38, false, "the replication factor is not possible here";
    InvalidReplicaAssignment = 39, false, "the replica assignment is not possible here";
    InvalidConfig = 40, false, "a setting is unknown or its value not allowed";
    NotController = 41, true, "this broker is not the controller";
    InvalidRequest = 42, false, "the request contradicts itself or misses something";
    UnsupportedForMessageFormat = 43, false, "the record format does not support this";
    PolicyViolation = 44, false, "a policy of the broker forbids this";
    OutOfOrderSequenceNumber = 45, false, "the producer's sequence number does not follow the last one";
    DuplicateSequenceNumber = 46, false, "the producer's sequence number was seen before";
    InvalidProducerEpoch = 47, false, "a newer producer with the same id has taken over";
    InvalidTxnState = 48, false, "the transaction is not in a state for this";
    InvalidProducerIdMapping = 49, false, "the producer id does not belong to the transactional id";
    InvalidTransactionTimeout = 50, false, "the transaction timeout is longer than allowed";
    ConcurrentTransactions = 51, true, "another transaction of this producer is still ending";
    TransactionCoordinatorFenced = 52, false, "the transaction coordinator was replaced";
    TransactionalIdAuthorizationFailed = 53, false, "no permission for the transactional id";
    SecurityDisabled = 54, false, "security features are off";
    OperationNotAttempted = 55, false, "not tried, because an earlier part failed";
    KafkaStorageError = 56, true, "the disk failed";
    LogDirNotFound = 57, false, "no such log directory";
    SaslAuthenticationFailed = 58, false, "the credentials were refused";
    UnknownProducerId = 59, false, "the broker has no state of this producer";
    ReassignmentInProgress = 60, false, "the partitions are being moved";
    DelegationTokenAuthDisabled = 61, false, "delegation tokens are off";
    DelegationTokenNotFound = 62, false, "no such delegation token";
    DelegationTokenOwnerMismatch = 63, false, "the delegation token belongs to someone else";
    DelegationTokenRequestNotAllowed = 64, false, "delegation tokens are not given on this connection";
    DelegationTokenAuthorizationFailed = 65, false, "no permission for the delegation token";
    DelegationTokenExpired = 66, false, "the delegation token has expired";
    InvalidPrincipalType = 67, false, "the kind of principal is not supported";
    NonEmptyGroup = 68, false, "the group has members";
    GroupIdNotFound = 69, false, "no such group";
    FetchSessionIdNotFound = 70, true, "no such fetch session";
    InvalidFetchSessionEpoch = 71, true, "the epoch of the fetch session does not follow the last one";
    ListenerNotFound = 72, true, "the leader has no listener like the one asked";
    TopicDeletionDisabled = 73, false, "topics cannot be deleted here";
    FencedLeaderEpoch = 74, true, "the client's leader epoch is older than the broker's";
    UnknownLeaderEpoch = 75, true, "the client's leader epoch is newer than the broker's";
    UnsupportedCompressionType = 76, false, "the codec is not allowed for this version";
    StaleBrokerEpoch = 77, false, "the broker epoch has changed";
    OffsetNotAvailable = 78, true, "a new leader has not caught up yet";
    MemberIdRequired = 79, false, "join again with the member id given in this answer";
    PreferredLeaderNotAvailable = 80, true, "the preferred leader is not available";
    GroupMaxSizeReached = 81, false, "the group is full";
    FencedInstanceId = 82, false, "another member with the same static id has taken over";
    EligibleLeadersNotAvailable = 83, true, "no replica may become leader";
    ElectionNotNeeded = 84, true, "the partition has its leader already";
    NoReassignmentInProgress = 85, false, "nothing is being moved";
    GroupSubscribedToTopic = 86, false, "the group still subscribes to the topic";
    InvalidRecord = 87, false, "a record was refused";
    UnstableOffsetCommit = 88, true, "an offset is part of a transaction that is not finished";
    ThrottlingQuotaExceeded = 89, true, "a quota is exceeded";
    ProducerFenced = 90, false, "a newer producer with the same transactional id has taken over";
    ResourceNotFound = 91, false, "no such resource";
    DuplicateResource = 92, false, "the resource exists";
    UnacceptableCredential = 93, false, "the credential does not meet the requirements";
    InconsistentVoterSet = 94, false, "the voters differ from those known";
    InvalidUpdateVersion = 95, false, "the version of the update is not allowed";
    FeatureUpdateFailed = 96, false, "the features could not be changed";
    PrincipalDeserializationFailure = 97, false, "the forwarded principal could not be read";
    SnapshotNotFound = 98, false, "no such snapshot";
    PositionOutOfRange = 99, false, "the position is not inside the snapshot";
    UnknownTopicId = 100, true, "no topic has this id";
    DuplicateBrokerRegistration = 101, false, "a broker with this id is registered";
    BrokerIdNotRegistered = 102, false, "the broker id is not registered";
    InconsistentTopicId = 103, true, "the topic id does not belong to the topic's name";
    InconsistentClusterId = 104, false, "the cluster id is not this cluster's";
    TransactionalIdNotFound = 105, false, "no such transactional id";
    FetchSessionTopicIdError = 106, true, "the fetch session mixes requests with and without topic ids";
    IneligibleReplica = 107, false, "the replica may not join the in-sync set";
    NewLeaderElected = 108, false, "the partition has a new leader";
    OffsetMovedToTieredStorage = 109, false, "the offset is only in remote storage";
    FencedMemberEpoch = 110, false, "the member's epoch is older than the group's";
    UnreleasedInstanceId = 111, false, "another member still holds the static id";
    UnsupportedAssignor = 112, false, "the assignor is not supported";
    StaleMemberEpoch = 113, false, "the member's epoch is stale; send the heartbeat first";
    MismatchedEndpointType = 114, false, "the request came to the wrong kind of endpoint";
    UnsupportedEndpointType = 115, false, "this kind of endpoint is not supported";
    UnknownControllerId = 116, false, "no such controller";
    UnknownSubscriptionId = 117, false, "the telemetry subscription is out of date";
    TelemetryTooLarge = 118, false, "the telemetry is larger than allowed";
    InvalidRegistration = 119, false, "the registration is not allowed";
    TransactionAbortable = 120, false, "the transaction must be aborted";
    InvalidRecordState = 121, false, "the state of the record forbids this";
    ShareSessionNotFound = 122, true, "no such share session";
    InvalidShareSessionEpoch = 123, true, "the epoch of the share session does not follow the last one";
    FencedStateEpoch = 124, false, "the state epoch is older than the stored one";
    InvalidVoterKey = 125, false, "the key of the voter is not the stored one";
    DuplicateVoter = 126, false, "the voter is in the set";
    VoterNotFound = 127, false, "the voter is not in the set";
    InvalidRegularExpression = 128, false, "the regular expression cannot be read";
    RebootstrapRequired = 129, false, "the client's metadata is stale; bootstrap again";
    StreamsInvalidTopology = 130, false, "the streams topology is not allowed";
    StreamsInvalidTopologyEpoch = 131, false, "the epoch of the streams topology is not allowed";
    StreamsTopologyFenced = 132, false, "the streams topology is older than the group's";
    ShareSessionLimitReached = 133, true, "no more share sessions are taken";
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// What is told to who may not do something to a resource of this kind.
    #[must_use]
    pub const fn of_refusal(resource: Resource) -> Self {
        match resource {
            Resource::Topic => Self::TopicAuthorizationFailed,
            Resource::Group => Self::GroupAuthorizationFailed,
            Resource::Cluster | Resource::User => Self::ClusterAuthorizationFailed,
            Resource::TransactionalId => Self::TransactionalIdAuthorizationFailed,
            Resource::DelegationToken => Self::DelegationTokenAuthorizationFailed,
        }
    }

    /// Whether this says that nothing went wrong.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::None)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> Self {
        code.code()
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({self:?}, {})", self.message(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(code.code()), Some(*code));
        }
        assert_eq!(ErrorCode::from_code(-2), None);
        assert_eq!(ErrorCode::from_code(i16::MAX), None);
    }

    #[test]
    fn display_says_what_happened_and_the_number() {
        assert_eq!(
            ErrorCode::OutOfOrderSequenceNumber.to_string(),
            "the producer's sequence number does not follow the last one (OutOfOrderSequenceNumber, 45)"
        );
    }
}
