//! What a client may be allowed to do, in Kafka's words: operations on kinds of resources. Which API
//! needs which of them stands in the table of `api`. Must never decide who has what.

/// An operation, with Kafka's code of it (`AclOperation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Operation {
    /// Each of the others; in rules only.
    All = 2,
    /// Take records, or part in a group.
    Read = 3,
    /// Append records, or use a transactional id.
    Write = 4,
    /// Make one.
    Create = 5,
    /// Remove one, or something of it.
    Delete = 6,
    /// Change one.
    Alter = 7,
    /// Look at one.
    Describe = 8,
    /// What brokers do among themselves.
    ClusterAction = 9,
    /// Look at settings.
    DescribeConfigs = 10,
    /// Change settings.
    AlterConfigs = 11,
    /// Be given a producer id.
    IdempotentWrite = 12,
    /// Make delegation tokens for a user; in rules only, there are no tokens.
    CreateTokens = 13,
    /// Look at delegation tokens; in rules only.
    DescribeTokens = 14,
}

/// A kind of resource, with Kafka's code of it (`ResourceType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Resource {
    /// By name.
    Topic = 2,
    /// By id.
    Group = 3,
    /// There is one.
    Cluster = 4,
    /// By itself.
    TransactionalId = 5,
    /// By its id; in rules only, there are none.
    DelegationToken = 6,
    /// By name; in rules only.
    User = 7,
}

/// An operation on the resources of a kind that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// What is done.
    pub operation: Operation,
    /// To what.
    pub resource: Resource,
}

impl Operation {
    /// All of them.
    pub const EACH: [Operation; 13] = [
        Self::All,
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Alter,
        Self::Describe,
        Self::ClusterAction,
        Self::DescribeConfigs,
        Self::AlterConfigs,
        Self::IdempotentWrite,
        Self::CreateTokens,
        Self::DescribeTokens,
    ];

    /// By Kafka's code; `None`: it is not known, or means any of them.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        Self::EACH.into_iter().find(|each| *each as i8 == code)
    }

    /// Who may do one of these may do this, too (as in Kafka).
    #[must_use]
    pub const fn implied_by(self) -> &'static [Operation] {
        match self {
            Self::Describe => &[Self::Read, Self::Write, Self::Delete, Self::Alter],
            Self::DescribeConfigs => &[Self::AlterConfigs],
            _ => &[],
        }
    }

    /// The bit of the operation in the answers that list what is allowed.
    #[must_use]
    pub const fn bit(self) -> i32 {
        1 << self as u8
    }
}

impl Resource {
    /// All of them.
    pub const EACH: [Resource; 6] = [
        Self::Topic,
        Self::Group,
        Self::Cluster,
        Self::TransactionalId,
        Self::DelegationToken,
        Self::User,
    ];

    /// By Kafka's code; `None`: it is not known, or means any of them.
    #[must_use]
    pub fn from_code(code: i8) -> Option<Self> {
        Self::EACH.into_iter().find(|each| *each as i8 == code)
    }
}

/// The name of the one resource that Kafka knows of the kind cluster.
pub const CLUSTER_NAME: &str = "kafka-cluster";
/// Modules that come in: a name of the kind cluster that is ours. `Create` is to upload one.
pub const MODULES_NAME: &str = "millpond-modules";
/// What runs on the node: `Alter` is to put in force, pause, roll back, delete; `AlterConfigs` to change
/// settings and limits; `Describe` to look, logs included.
pub const TRANSFORMS_NAME: &str = "millpond-transforms";

/// The bits of several operations.
#[must_use]
pub const fn bits(mut operations: &[Operation]) -> i32 {
    let mut bits = 0;
    while let [operation, rest @ ..] = operations {
        bits |= operation.bit();
        operations = rest;
    }
    bits
}
