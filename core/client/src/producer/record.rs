//! A record on its way out. Values only.

use bytes::Bytes;
use std::sync::Arc;

/// One record for a topic.
///
/// ```
/// use millpond_client::Record;
/// let record = Record::to("telemetry")
///     .key("device-7")
///     .value(r#"{"temperature": 21.5}"#)
///     .header("content-type", "application/json");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
    pub(crate) timestamp_ms: Option<i64>,
}

impl Record {
    /// A record for `topic` with neither key nor value. An `Arc<str>` is not copied.
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// Sets the key: records with equal keys go to the same partition, in order.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value; without one the record is a tombstone.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Adds a header that has a name only.
    #[must_use]
    pub fn header_without_value(mut self, name: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Sets the time (ms since 1970); without it the time of `send` counts.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Names the partition, whatever the key.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let part = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, v)| name.len() + part(v)).sum();
        self.topic.len() + part(&self.key) + part(&self.value) + headers
    }
}
