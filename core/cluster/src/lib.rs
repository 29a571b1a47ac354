//! Who the nodes are: the identity of this node and of its cluster, and the brokers that clients
//! are told of.
//!
//! Today a cluster is one node. What is here is the part that stays when there are more: an
//! identity that an emptied or swapped disk cannot fake (KIP-858's directory id), and addresses per
//! listener. Never opens a socket, never decides anything about data.

pub mod brokers;
pub mod identity;

pub use brokers::{Broker, Brokers, HostPort, HostPortError};
pub use identity::{FORMAT_VERSION, IdentityError, NodeId, NodeIdentity};
