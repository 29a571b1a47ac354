//! Every message in every version against an independent implementation: byte for byte, and field for field. Must
//! never be the only test of a layout that clients depend on: see `golden.rs`.

#[macro_use]
mod support;

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};

use bytes::BytesMut;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable};
use millpond_wire::messages as ours;
use millpond_wire::{ErrorCode, Message, Reader, Uuid, frame};

use support::{Dice, Sample, encoded};

const SAMPLES_PER_VERSION: u64 = 60;

/// What the debug text of a message says: structs as sorted maps, wrappers gone.
#[derive(Debug, PartialEq)]
enum Said {
    Struct(BTreeMap<String, Said>),
    List(Vec<Said>),
    Value(String),
}

/// Reads the text that `derive(Debug)` prints.
struct DebugText<'a> {
    text: &'a str,
}

impl<'a> DebugText<'a> {
    fn eat(&mut self, mark: char) -> bool {
        self.text = self.text.trim_start();
        let rest = self.text.strip_prefix(mark);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    /// A number, a name, a UUID, or a quoted text with the letter before it.
    fn word(&mut self) -> &'a str {
        self.text = self.text.trim_start();
        let quoted =
            self.text.strip_prefix("b\"").map(|_| 2).or(self.text.strip_prefix('"').map(|_| 1));
        let mut escaped = false;
        let end = match quoted {
            Some(start) => {
                let closing = self.text[start..].find(|c| {
                    let closes = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    closes
                });
                start + closing.expect("a quoted text ends") + 1
            }
            None => self.text.find(|c: char| "(){}[],: ".contains(c)).unwrap_or(self.text.len()),
        };
        let (word, rest) = self.text.split_at(end);
        self.text = rest;
        word
    }

    fn value(&mut self) -> Said {
        if self.eat('[') {
            return Said::List(self.until(']'));
        }
        let word = if self.text.trim_start().starts_with('{') { "" } else { self.word() };
        if self.eat('(') {
            // `Some`, `TopicName`, `Uuid` and the like: what is inside counts.
            return self.until(')').pop().expect("a wrapper wraps something");
        }
        if !self.eat('{') {
            let uuid = if word.len() == 22 { word.parse::<Uuid>().ok() } else { None };
            return Said::Value(uuid.map_or_else(|| word.to_owned(), hyphenated));
        }
        let mut fields = BTreeMap::new();
        while !self.eat('}') {
            let name = self.word().to_owned();
            assert!(self.eat(':'), "a field has a value: {}", self.text);
            let value = self.value();
            fields.insert(name, value);
            self.eat(',');
        }
        Said::Struct(fields)
    }

    fn until(&mut self, mark: char) -> Vec<Said> {
        let mut values = Vec::new();
        while !self.eat(mark) {
            values.push(self.value());
            self.eat(',');
        }
        values
    }
}

fn hyphenated(uuid: Uuid) -> String {
    let mut text = String::new();
    for (index, byte) in uuid.0.iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whether theirs says all that ours says. Theirs may have fields of versions that are not served.
fn agree(ours: &Said, theirs: &Said) -> Result<(), String> {
    match (ours, theirs) {
        (Said::Struct(ours), Said::Struct(theirs)) => ours.iter().try_for_each(|(name, value)| {
            let other = theirs
                .get(name)
                .or_else(|| theirs.get(&format!("_{}", name.trim_end_matches('_'))));
            let Some(other) = other else {
                // A field of a version that they do not know says nothing in those that they do.
                let is_nothing =
                    matches!(value, Said::Value(text) if text == "false" || text == "None");
                return is_nothing
                    .then_some(())
                    .ok_or_else(|| format!("{name}: not in {:?}", theirs.keys()));
            };
            agree(value, other).map_err(|problem| format!("{name}: {problem}"))
        }),
        (Said::List(ours), Said::List(theirs)) if ours.len() == theirs.len() => {
            ours.iter().zip(theirs).try_for_each(|(ours, theirs)| agree(ours, theirs))
        }
        (ours, theirs) if ours == theirs => Ok(()),
        // What is secret does not say itself; the bytes are compared all the same.
        (Said::Value(ours), Said::Value(_)) if ours == "<secret>" => Ok(()),
        // A field that the version lacks: null is our default, emptiness often theirs. Where the version has the
        // field, the bytes tell null and empty apart.
        (Said::Value(ours), Said::List(theirs)) if ours == "None" && theirs.is_empty() => Ok(()),
        (Said::Value(ours), Said::Value(theirs))
            if ours == "None" && ["\"\"", "b\"\""].contains(&&**theirs) =>
        {
            Ok(())
        }
        (ours, theirs) => Err(format!("ours {ours:?}, theirs {theirs:?}")),
    }
}

fn said(message: &impl Debug) -> Said {
    DebugText { text: &format!("{message:?}") }.value()
}

fn compare<Ours, Theirs>(name: &str, version: i16, seed: u64)
where
    Ours: Sample + Debug + PartialEq,
    Theirs: Encodable + Decodable + Debug,
{
    let at = format!("{name} version {version} seed {seed}");
    let message = Ours::sample(&mut Dice::new(seed), version);
    let bytes = encoded(&message, version);
    assert!(Ours::min_bytes(version) <= bytes.len(), "{at}: the least size is a bound");

    let mut unread = bytes.clone();
    let decoded =
        Theirs::decode(&mut unread, version).unwrap_or_else(|e| panic!("{at}: {e}\n{message:?}"));
    assert!(unread.is_empty(), "{at}: theirs leaves {} bytes", unread.len());
    agree(&said(&message), &said(&decoded)).unwrap_or_else(|problem| panic!("{at}: {problem}"));

    let mut again = BytesMut::new();
    decoded.encode(&mut again, version).unwrap_or_else(|e| panic!("{at}: {e}"));
    let again = again.freeze();
    assert_eq!(again, bytes, "{at}: theirs writes what ours wrote");

    let mut reader = Reader::new(again);
    let back = Ours::decode(&mut reader, version).unwrap_or_else(|e| panic!("{at}: {e}"));
    assert!(reader.is_empty(), "{at}: ours leaves {} bytes", reader.remaining());
    assert_eq!(back, message, "{at}: ours reads what theirs wrote");
    assert_eq!(encoded(&back, version), bytes, "{at}: and writes it again");
}

/// The empty message: what is there even if nothing is said must take `min_bytes`.
fn compare_default<Ours: Message + Default>(name: &str, version: i16) {
    let bytes = encoded(&Ours::default(), version);
    assert_eq!(bytes.len(), Ours::min_bytes(version), "{name} version {version}");
}

/// The last version that the independent implementation knows, where that is not the last served:
/// `golden.rs` has frames of the others.
fn known_to_them(name: &str, last: i16) -> i16 {
    match name {
        "OffsetCommitRequest" | "OffsetCommitResponse" => 9,
        "OffsetFetchRequest" | "OffsetFetchResponse" => 9,
        "ListOffsetsRequest" | "ListOffsetsResponse" => 10,
        "DescribeLogDirsRequest" | "DescribeLogDirsResponse" => 4,
        _ => last,
    }
}

#[test]
fn every_message_in_every_version_agrees_with_an_independent_implementation() {
    macro_rules! check {
        ($name:ident, $first:literal, $last:literal) => {
            for version in $first..=known_to_them(stringify!($name), $last) {
                for seed in 0..SAMPLES_PER_VERSION {
                    compare::<ours::$name, theirs::$name>(stringify!($name), version, seed);
                }
            }
        };
    }
    each_message!(check);
}

#[test]
fn an_empty_message_takes_exactly_the_least_size() {
    macro_rules! check {
        ($name:ident, $first:literal, $last:literal) => {
            for version in $first..=$last {
                compare_default::<ours::$name>(stringify!($name), version);
            }
        };
    }
    each_message!(check);
}

#[test]
fn error_codes_agree_on_names_and_on_what_may_be_retried() {
    use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};
    for code in -1..=400_i16 {
        let Some(ours) = ErrorCode::from_code(code) else {
            assert!(
                matches!(code.err(), Some(ResponseError::Unknown(_))),
                "{code} is known to them"
            );
            continue;
        };
        match code.err() {
            Some(theirs) => {
                assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
                // Kafka's own clients of 3.x and 4.x try this again.
                let is_newer = ours == ErrorCode::ConcurrentTransactions;
                assert_eq!(ours.is_retriable(), theirs.is_retriable() || is_newer, "{ours:?}");
            }
            None => assert_eq!(ours, ErrorCode::None),
        }
    }
}

#[test]
fn api_keys_and_flexible_versions_agree() {
    for spec in millpond_wire::api::APIS {
        let theirs = theirs::ApiKey::try_from(spec.key.code()).expect("known");
        assert_eq!(
            format!("{theirs:?}").trim_end_matches("Key").trim_end_matches("Api"),
            spec.name
        );
        for version in spec.min_version..=spec.max_version {
            let flexible = theirs.request_header_version(version) == 2;
            assert_eq!(spec.key.is_flexible(version), flexible, "{} {version}", spec.name);
            let tags = theirs.response_header_version(version) == 1;
            assert_eq!(
                spec.key.has_flexible_response_header(version),
                tags,
                "{} {version}",
                spec.name
            );
        }
    }
}

#[test]
fn request_headers_agree() {
    use kafka_protocol::protocol::encode_request_header_into_buffer;
    for spec in millpond_wire::api::APIS {
        for version in spec.min_version..=spec.max_version {
            for client_id in [None, Some("edge-7")] {
                let header = theirs::RequestHeader::default()
                    .with_request_api_key(spec.key.code())
                    .with_request_api_version(version)
                    .with_correlation_id(77)
                    .with_client_id(client_id.map(Into::into));
                let mut bytes = BytesMut::new();
                encode_request_header_into_buffer(&mut bytes, &header).expect("encodes");
                let mut reader = Reader::new(bytes.freeze());
                let read = frame::decode_request_header(&mut reader).expect("decodes");
                assert!(reader.is_empty(), "{} {version}", spec.name);
                assert_eq!((read.api, read.version, read.correlation_id), (spec.key, version, 77));
                assert_eq!(read.client_id.as_deref(), client_id);
            }
        }
    }
}

#[test]
fn request_and_response_frames_agree() {
    use kafka_protocol::protocol::decode_request_header_from_buffer;
    for version in 0..=4 {
        let request = ours::HeartbeatRequest::sample(&mut Dice::new(1), version);
        let rope =
            frame::encode_request(version, 5, Some("edge"), &request.clone().into()).expect("fits");
        let mut bytes = ours::Records::from_iter(rope).to_bytes();
        assert_eq!(bytes.split_to(4)[..], (bytes.len() as i32).to_be_bytes());
        let header = decode_request_header_from_buffer(&mut bytes).expect("decodes");
        assert_eq!((header.request_api_version, header.correlation_id), (version, 5));
        assert_eq!(bytes, encoded(&request, version));

        let response = ours::HeartbeatResponse::sample(&mut Dice::new(2), version);
        let rope = frame::encode_response(version, 6, &response.clone().into()).expect("fits");
        let mut bytes = ours::Records::from_iter(rope).to_bytes().slice(4..);
        let header_version = theirs::ApiKey::Heartbeat.response_header_version(version);
        let header = theirs::ResponseHeader::decode(&mut bytes, header_version).expect("decodes");
        assert_eq!(header.correlation_id, 6);
        assert_eq!(bytes, encoded(&response, version));
    }
}
