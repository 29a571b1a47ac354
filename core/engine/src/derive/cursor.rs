//! Where derived transforms stand in their sources: durable, moved by the entry that holds what was
//! made of the records before. Never moves back.

use crate::codec::{CodecError, Take, put_count, put_partition, put_string};
use crate::units::PartitionKey;
use bytes::BufMut;
use millpond_wire::uuid::Uuid;
use std::collections::BTreeMap;

/// Where one transform stands in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The first offset that it has not been given.
    pub next: i64,
    /// Records that it has been given so far.
    pub inputs: u64,
}

/// All cursors, by partition and the transform's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CursorTable {
    by_lane: BTreeMap<(PartitionKey, String), Cursor>,
}

impl CursorTable {
    pub(crate) fn get(&self, partition: PartitionKey, transform: &str) -> Option<Cursor> {
        self.by_lane.get(&(partition, transform.to_owned())).copied()
    }

    pub(crate) fn set(&mut self, partition: PartitionKey, transform: &str, cursor: Cursor) {
        let own = self.by_lane.entry((partition, transform.to_owned())).or_default();
        own.next = own.next.max(cursor.next);
        own.inputs = own.inputs.max(cursor.inputs);
    }

    pub(crate) fn remove_transform(&mut self, name: &str) {
        self.by_lane.retain(|(_, transform), _| transform != name);
    }

    pub(crate) fn remove_topic(&mut self, topic_id: Uuid) {
        self.by_lane.retain(|(partition, _), _| partition.topic_id != topic_id);
    }

    /// ```text
    /// cursors  u32 x (key | transform str | next i64 | inputs u64)
    /// ```
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_count(out, self.by_lane.len());
        for ((partition, transform), cursor) in &self.by_lane {
            put_cursor(out, *partition, transform, *cursor);
        }
    }

    pub(crate) fn take(take: &mut Take) -> Result<CursorTable, CodecError> {
        let mut table = CursorTable::default();
        for _ in 0..take.count("cursors", 40)? {
            let (partition, transform, cursor) = take_cursor(take)?;
            table.set(partition, &transform, cursor);
        }
        Ok(table)
    }
}

pub(crate) fn put_cursor(
    out: &mut impl BufMut,
    partition: PartitionKey,
    transform: &str,
    cursor: Cursor,
) {
    put_partition(out, &partition);
    put_string(out, transform);
    out.put_i64_le(cursor.next);
    out.put_u64_le(cursor.inputs);
}

pub(crate) fn take_cursor(take: &mut Take) -> Result<(PartitionKey, String, Cursor), CodecError> {
    let partition = take.partition()?;
    let transform = take.string("transform name")?;
    let cursor = Cursor { next: take.i64("cursor")?, inputs: take.u64("cursor's inputs")? };
    if cursor.next < 0 {
        return Err(CodecError::Impossible { what: "cursor", value: cursor.next });
    }
    Ok((partition, transform, cursor))
}
