//! Administration: topics, groups, offsets, settings.
//!
//! One request per operation, answered or failed; nothing is retried but what the broker calls
//! retriable, and that only within the time given.

mod acls;
mod groups;
mod offsets;
mod topics;
mod users;

pub use acls::{Acl, AclFilter};
pub(crate) use groups::committed;
pub use groups::{CommittedOffset, GroupDescription, GroupListing, GroupMember};
pub use offsets::PartitionLag;
pub use topics::{NewTopic, OffsetSpec, PartitionOffset, Setting};
pub(crate) use topics::{list_offsets_request, partition_offsets};
pub use users::{NewCredential, ScramMechanism, User, UserCredential};

use crate::client::Client;
use crate::connection::Connection;
use crate::error::ClientError;
use crate::metadata::{Cluster, Topic};
use millpond_wire::messages::{Request, Response};
use std::sync::Arc;
use std::time::Duration;

/// Time given to the broker for changing topics, and to a retry of what may heal by itself.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause before something retriable is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Administers a cluster. Clones share the client.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

impl Admin {
    /// An administrator on the lines of `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Brokers, controller, cluster id, as they are now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn describe_cluster(&self) -> Result<Arc<Cluster>, ClientError> {
        self.client.refresh(&[], false).await
    }

    /// Every topic, by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list_topics(&self) -> Result<Vec<Topic>, ClientError> {
        let cluster = self.client.refresh_all().await?;
        let mut topics: Vec<Topic> = cluster.topics.values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `UnknownTopicOrPartition` if there is none.
    pub async fn describe_topic(&self, name: &str) -> Result<Topic, ClientError> {
        let cluster = self.client.refresh(&[name.into()], false).await?;
        cluster
            .topics
            .get(name)
            .cloned()
            .ok_or_else(|| ClientError::NotFound { what: format!("topic `{name}`") })
    }

    /// Asks any broker.
    async fn ask(&self, request: Request) -> Result<(Connection, Response), ClientError> {
        self.client.ask(request).await
    }

    /// A line to the broker that coordinates `group`.
    async fn coordinator(&self, group: &str) -> Result<Connection, ClientError> {
        let broker = self.client.group_coordinator(group).await?;
        self.client.lane(broker).await
    }
}

/// `Err` for any code but `None`.
fn check(what: String, code: i16, message: Option<String>) -> Result<(), ClientError> {
    ClientError::refused(what, code, message).map_or(Ok(()), Err)
}
