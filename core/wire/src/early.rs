//! Which requests may be served from the first flight of a resumed QUIC connection (0-RTT, RFC 9001, section 9.2),
//! before the peer has shown that the flight is not a recorded one. Such a flight may come any number of times, so
//! only what changes nothing when it comes again is served from it; everything else waits for the end of the
//! handshake, which no recording reaches. Must never say more than that: whether a repeated batch would be known
//! as one is the engine's knowledge.

use crate::api::ApiKey;

/// Whether requests of an API may be served before the handshake is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    /// They read, and nobody can tell afterwards that they came.
    Always,
    /// It depends on what is asked, and on what the engine knows.
    ByContent,
    /// They change something, or say what a device that wakes up does not need at once: they wait.
    Never,
}

impl ApiKey {
    /// Whether requests of this API may be served before the handshake is confirmed. An API without a word here
    /// does not compile.
    #[must_use]
    pub const fn early(self) -> Early {
        match self {
            Self::ApiVersions | Self::ListOffsets | Self::OffsetForLeaderEpoch => Early::Always,
            // May create topics, may change a fetch session, may append.
            Self::Metadata | Self::Fetch | Self::Produce => Early::ByContent,
            // Membership and offsets of groups, transactions, identity.
            Self::OffsetCommit
            | Self::OffsetFetch
            | Self::OffsetDelete
            | Self::FindCoordinator
            | Self::JoinGroup
            | Self::Heartbeat
            | Self::LeaveGroup
            | Self::SyncGroup
            | Self::DescribeGroups
            | Self::ListGroups
            | Self::DeleteGroups
            | Self::ConsumerGroupHeartbeat
            | Self::ConsumerGroupDescribe
            | Self::SaslHandshake
            | Self::SaslAuthenticate
            | Self::InitProducerId
            | Self::AddPartitionsToTxn
            | Self::AddOffsetsToTxn
            | Self::EndTxn
            | Self::WriteTxnMarkers
            | Self::TxnOffsetCommit
            | Self::DescribeTransactions
            | Self::ListTransactions
            | Self::DescribeProducers => Early::Never,
            // What people and their tools do.
            Self::CreateTopics
            | Self::DeleteTopics
            | Self::CreatePartitions
            | Self::DeleteRecords
            | Self::DescribeTopicPartitions
            | Self::DescribeCluster
            | Self::AlterConfigs
            | Self::IncrementalAlterConfigs
            | Self::DescribeConfigs
            | Self::ListConfigResources
            | Self::AlterReplicaLogDirs
            | Self::DescribeLogDirs
            | Self::ElectLeaders
            | Self::AlterPartitionReassignments
            | Self::ListPartitionReassignments
            | Self::DescribeClientQuotas
            | Self::AlterClientQuotas
            | Self::DescribeAcls
            | Self::CreateAcls
            | Self::DeleteAcls
            | Self::DescribeUserScramCredentials
            | Self::AlterUserScramCredentials
            | Self::DescribeQuorum
            | Self::UpdateFeatures => Early::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::APIS;
    use crate::permission::Operation;

    /// Whoever may do more than read and see waits, but for produce, of which the engine decides.
    #[test]
    fn nothing_that_needs_more_than_reading_is_served_early_by_its_api_alone() {
        let reads = [Operation::Read, Operation::Describe];
        let mut early = Vec::new();
        for spec in APIS.iter().filter(|spec| spec.key.early() != Early::Never) {
            early.push(spec.name);
            let mut needs = spec.needs.iter().copied().flatten();
            let only_reads = needs.all(|need| reads.contains(&need.operation));
            assert!(only_reads || spec.key.early() == Early::ByContent, "{}", spec.name);
        }
        early.sort_unstable();
        let known =
            ["ApiVersions", "Fetch", "ListOffsets", "Metadata", "OffsetForLeaderEpoch", "Produce"];
        assert_eq!(early, known);
    }
}
