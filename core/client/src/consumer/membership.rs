//! A place in a group, by whichever of Kafka's two protocols the group speaks. Decides nothing but which.

use super::builder::{ConsumerBuilder, GroupProtocol};
use super::positions::Place;
use super::{classic, managed, offsets};
use crate::admin::CommittedOffset;
use crate::client::Client;
use crate::connection::Connection;
use crate::error::{CallError, ClientError};
use millpond_wire::{ApiKey, ErrorCode};
use std::time::Duration;

/// Pause before the other protocol is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) enum Membership {
    /// For one generation.
    Classic(classic::Member),
    /// Until it leaves.
    Managed(managed::Member),
}

/// Joins as the settings say. `member_id`: the name in the last classic generation.
pub(crate) async fn join(
    client: Client,
    settings: ConsumerBuilder,
    member_id: String,
) -> Result<Membership, ClientError> {
    loop {
        if settings.protocol != GroupProtocol::Classic {
            match managed::join(client.clone(), &settings).await {
                Err(error) if settings.protocol == GroupProtocol::Auto && is_not_for_it(&error) => {
                    tracing::debug!(%error, "the classic protocol then");
                }
                outcome => return outcome.map(Membership::Managed),
            }
        }
        let joined = classic::join(client.clone(), settings.clone(), member_id.clone()).await;
        let has_changed = |error: &ClientError| {
            settings.protocol == GroupProtocol::Auto
                && error.code() == Some(ErrorCode::InconsistentGroupProtocol)
        };
        match joined {
            // Its last classic member went meanwhile, and another began anew.
            Err(error) if has_changed(&error) => tokio::time::sleep(PAUSE).await,
            outcome => return outcome.map(Membership::Classic),
        }
    }
}

/// The broker, or the group as it is now, does not speak the new protocol.
fn is_not_for_it(error: &ClientError) -> bool {
    let api = ApiKey::ConsumerGroupHeartbeat;
    let is_unknown = matches!(
        error,
        ClientError::Call(CallError::Unsupported { api: refused, .. }) if *refused == api
    );
    is_unknown
        || matches!(error.code(), Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion))
}

impl Membership {
    /// Whether it has ended and is to be begun anew.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Classic(member) => member.is_over(),
            Self::Managed(member) => member.fault().is_some(),
        }
    }

    /// Resolves when there is something to act on. Cancellation-safe.
    pub(crate) async fn news(&mut self) {
        match self {
            Self::Classic(member) => member.over().await,
            Self::Managed(member) => member.news().await,
        }
    }

    pub(crate) fn place(&self) -> crate::GroupPlace {
        match self {
            Self::Classic(member) => member.place(),
            Self::Managed(member) => member.place(),
        }
    }

    fn lane(&self) -> Connection {
        match self {
            Self::Classic(member) => member.lane().clone(),
            Self::Managed(member) => member.lane(),
        }
    }

    /// What the group has committed; see [`offsets::fetch`].
    pub(crate) async fn committed(
        &self,
        places: &[Place],
        stable: bool,
    ) -> Result<Vec<CommittedOffset>, ClientError> {
        offsets::fetch(&self.lane(), &self.place().group, places, stable).await
    }

    pub(crate) async fn commit(&self, offsets: &[(Place, i64)]) -> Result<(), ClientError> {
        match self {
            Self::Classic(member) => offsets::commit(member.lane(), &member.place(), offsets).await,
            Self::Managed(member) => member.commit(offsets).await,
        }
    }

    pub(crate) async fn leave(self) -> Result<(), ClientError> {
        match self {
            Self::Classic(member) => member.leave().await,
            Self::Managed(member) => member.leave().await,
        }
    }
}
