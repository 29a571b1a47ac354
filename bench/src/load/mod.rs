//! Load on a broker: what is sent, and when. Everything here speaks the Kafka protocol, NATS's or MQTT
//! and knows nothing of Millpond, so that any broker that speaks one can be put under the same load.

pub(crate) mod answers;
pub(crate) mod conversation;
pub(crate) mod dials;
pub(crate) mod fleet;
pub(crate) mod frames;
pub(crate) mod member;
pub(crate) mod mqtt;
pub(crate) mod nats;
pub(crate) mod pace;
pub(crate) mod paced;
pub(crate) mod reader;
pub(crate) mod saturate;
pub(crate) mod sink;
pub(crate) mod storm;
pub(crate) mod topics;
pub(crate) mod ways;
