//! A record as JSON, one form for all commands: what `consume --json` writes, `transform try` and
//! `transform test` read. Text stands as a string, other bytes as `{"hex": "..."}`, and for people
//! who write records by hand `{"json": ...}` stands for that JSON without spaces.

use millpond_client::ConsumedRecord;
use serde_json::{Map, Value, json};

use crate::hex::{hex, unhex};

/// A record; what is not said is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JsonRecord {
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Option<Headers>,
}

/// Names and values in order.
pub(crate) type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl JsonRecord {
    pub(crate) fn of(record: &ConsumedRecord) -> Self {
        let headers = record.headers.iter();
        let own = |(name, value): &(bytes::Bytes, Option<bytes::Bytes>)| {
            (name.to_vec(), value.as_ref().map(|value| value.to_vec()))
        };
        Self {
            topic: Some(record.topic.to_string()),
            partition: Some(record.partition),
            offset: Some(record.offset),
            timestamp_ms: Some(record.timestamp_ms),
            key: record.key.as_ref().map(|key| key.to_vec()),
            value: record.value.as_ref().map(|value| value.to_vec()),
            headers: Some(headers.map(own).collect()),
        }
    }

    /// All that is known of it; key and value always.
    pub(crate) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            fields.extend(value.map(|value| (name.to_owned(), value)));
        };
        put("topic", self.topic.clone().map(Value::from));
        put("partition", self.partition.map(Value::from));
        put("offset", self.offset.map(Value::from));
        put("timestamp_ms", self.timestamp_ms.map(Value::from));
        put("key", Some(shown(self.key.as_deref())));
        put("value", Some(shown(self.value.as_deref())));
        let pair = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| {
            json!([shown(Some(name)), shown(value.as_deref())])
        };
        put("headers", self.headers.as_ref().map(|all| all.iter().map(pair).collect()));
        Value::Object(fields)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Which field is not what it must be.
    pub(crate) fn parse(value: &Value) -> Result<Self, String> {
        let Value::Object(fields) = value else { return Err("a record is a JSON object".into()) };
        let mut record = Self::default();
        for (name, value) in fields {
            let number = || value.as_i64().ok_or_else(|| format!("{name} must be a whole number"));
            match name.as_str() {
                "topic" => {
                    let text = value.as_str().ok_or("topic must be a string")?;
                    record.topic = Some(text.to_owned());
                }
                "partition" => {
                    let number = i32::try_from(number()?).map_err(|_| "partition is too large")?;
                    record.partition = Some(number);
                }
                "offset" => record.offset = Some(number()?),
                "timestamp_ms" => record.timestamp_ms = Some(number()?),
                "key" => record.key = read(name, value)?,
                "value" => record.value = read(name, value)?,
                "headers" => record.headers = Some(read_headers(value)?),
                other => {
                    return Err(format!(
                        "a record has no {other:?}; there are topic, partition, offset, \
                         timestamp_ms, key, value, headers"
                    ));
                }
            }
        }
        Ok(record)
    }
}

/// Bytes for people and for [`JsonRecord::parse`].
pub(crate) fn shown(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => json!({ "hex": hex(bytes) }),
    }
}

fn read(name: &str, value: &Value) -> Result<Option<Vec<u8>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone().into_bytes())),
        Value::Object(object) => match (object.len(), object.get("hex"), object.get("json")) {
            (1, Some(Value::String(digits)), None) => {
                let bytes = unhex(digits);
                bytes.map(Some).ok_or_else(|| format!("{name}: {digits:?} is not hexadecimal"))
            }
            (1, None, Some(json)) => Ok(Some(json.to_string().into_bytes())),
            _ => Err(format!("{name} is text, null, {{\"hex\": \"...\"}} or {{\"json\": ...}}")),
        },
        _ => Err(format!("{name} is text, null, {{\"hex\": \"...\"}} or {{\"json\": ...}}")),
    }
}

fn read_headers(value: &Value) -> Result<Headers, String> {
    let wrong = || "headers is a list of [name, value]".to_owned();
    let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
        Some([name, value]) => {
            let name = read("a header's name", name)?.ok_or_else(wrong)?;
            Ok((name, read("a header's value", value)?))
        }
        _ => Err(wrong()),
    };
    value.as_array().ok_or_else(wrong)?.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() {
        let record = JsonRecord {
            topic: Some("t".into()),
            partition: Some(2),
            offset: Some(7),
            timestamp_ms: Some(1000),
            key: None,
            value: Some(vec![0xff, 0xfe]),
            headers: Some(vec![(b"a".to_vec(), Some(b"1".to_vec())), (b"b".to_vec(), None)]),
        };
        let json = record.to_json();
        assert_eq!(json["value"]["hex"], "fffe");
        assert_eq!(json["headers"][1], json!(["b", null]));
        assert_eq!(JsonRecord::parse(&json), Ok(record));
    }

    #[test]
    fn json_by_hand_is_written_without_spaces() {
        let record = JsonRecord::parse(&json!({ "value": { "json": { "a": [1, 2] } } })).unwrap();
        assert_eq!(record.value.unwrap(), b"{\"a\":[1,2]}");
    }

    #[test]
    fn mistakes_are_named() {
        for (value, part) in [
            (json!([]), "object"),
            (json!({ "vale": "x" }), "vale"),
            (json!({ "key": 7 }), "key"),
            (json!({ "value": { "hex": "0g" } }), "hexadecimal"),
            (json!({ "partition": 5_000_000_000_i64 }), "partition"),
            (json!({ "headers": [["a"]] }), "headers"),
        ] {
            let error = JsonRecord::parse(&value).unwrap_err();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
