//! What a client may be allowed to do, in Kafka's words: operations on kinds of resources. Which API
//! needs which of them stands in the table of `api`. Must never decide who has what.

/// An operation, with Kafka's code of it (`AclOperation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Operation {
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
    /// The bit of the operation in the answers that list what is allowed.
    #[must_use]
    pub const fn bit(self) -> i32 {
        1 << self as u8
    }
}

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
