//! The deterministic heart of Millpond: topics, partitions, idempotent producers, consumer groups
//! and waiting fetches, as one sans-I/O state machine.
//!
//! Events go in through [`Engine::handle`], effects come out of [`Engine::poll_effect`]. The engine
//! never reads a clock, draws a random number, opens a file, touches a socket or starts a thread:
//! time and seed are handed in, and the same events give the same effects, byte for byte.
//!
//! What one event decides stands in one [`Entry`]; nothing is answered before the entries that it
//! rests on are durable. [`Engine::snapshot`] and [`Engine::replay`] bring the same state back.

mod access;
mod acl;
mod admission;
mod api;
mod audit;
mod broker_config;
mod changelog;
mod codec;
mod compact;
mod config;
mod counters;
mod deployment_format;
mod derive;
mod durability;
mod effect;
mod engine;
mod entry;
mod event;
mod extent;
mod fact;
mod fetch;
mod fetch_session;
mod group;
mod group_fact;
mod group_note;
mod holes;
mod keyed;
mod loss;
mod membership;
mod offset_expiry;
mod offsets;
mod outputs;
mod parked;
mod partition;
mod pattern;
mod produce;
mod produce_call;
mod producer;
mod quota;
mod reads;
mod record_clock;
mod refusal;
mod retention;
mod rng;
mod sent;
mod setting;
mod snapshot;
mod space;
mod state;
mod stored;
mod throttle;
mod timestamps;
mod topic;
mod topic_config;
mod transaction;
pub mod transform;
mod units;
mod user_fact;
mod users;
mod view;

pub use access::AccessConfig;
pub use acl::{Acl, AclFact, AclTarget, AclWord, Pattern, Permission, Principal};
pub use api::api_versions;
pub use audit::{AUDIT_TOPIC, LoginRefused, Told};
pub use changelog::{read_state, shared_state_topic, state_batches, state_topic};
pub use codec::CodecError;
pub use config::{Advertised, EngineConfig};
pub use counters::Counters;
pub use derive::{Cursor, DeriveView};
pub use durability::{SyncBy, Unsynced, Window};
pub use effect::{Effect, HistoryRead, HistorySlice, ReadJob, StatePage};
pub use engine::Engine;
pub use entry::{
    CommittedOffset, ENTRY_VERSION, Entry, EntryError, EntryScope, Fact, Sent, SentAnswer,
};
pub use event::{Event, FlushedRange, ReadFault};
pub use extent::{Extent, WantedExtent};
pub use group::{
    ClassicChange, ClassicMember, ConsumerChange, GroupState, MemberPlace, MemberWords, PlaceState,
};
pub use group_fact::GroupFact;
pub use group_note::GroupNote;
pub use loss::LostRange;
pub use offsets::{GroupOffsets, OffsetStore};
pub use partition::{FIRST_LEADER_EPOCH, Partition};
pub use quota::{ClientQuota, QuotaEntity, QuotaName};
pub use retention::DroppedRecords;
pub use setting::{BrokerScope, SettingFact};
pub use snapshot::{FrozenState, SNAPSHOT_VERSION, SnapshotError};
pub use space::{SpaceReport, SpaceView};
pub use state::ReplayError;
pub use stored::{StoredPartition, StoredSegment};
pub use topic::{Catalog, Topic};
pub use topic_config::{ConfigError, ConfigKind, TOPIC_CONFIGS, TopicConfig};
pub use transaction::{AbortedTransaction, TransactionFact, TransactionState};
pub use units::{
    AdminId, EntrySeq, ListenerId, Now, PartitionKey, Peer, ReadId, RequestId, SessionId, Ticket,
    TransformId,
};
pub use user_fact::UserFact;
pub use users::{ScramCredential, ScramHash};
pub use view::{GroupKind, GroupView, MemberView};

#[cfg(test)]
mod tests;
