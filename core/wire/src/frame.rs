//! Frames: a 4-byte length, then a header, then a message. Splits a stream of bytes into them and puts them
//! together. Must never touch a socket, and never allocate from a declared length.

use bytes::{Buf, Bytes, BytesMut};

use crate::api::{APIS, ApiKey};
use crate::error_code::ErrorCode;
use crate::limits;
use crate::message::Message;
use crate::messages::{ApiVersionsResponse, Request, Response, api_versions_response::ApiVersion};
use crate::reader::{DecodeError, Reader};
use crate::writer::{EncodeError, Writer};

/// Why a stream cannot be split into frames. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A TLS ClientHello where plain frames are spoken.
    #[error(
        "the peer speaks TLS to a plain port: use the TLS listener, or set the client to PLAINTEXT"
    )]
    TlsOnPlainPort,
    /// An HTTP request.
    #[error("the peer speaks HTTP to the Kafka port: the HTTP address is another one")]
    HttpOnKafkaPort,
    /// A length below zero.
    #[error("a frame declares a length of {length}: the peer does not speak Kafka")]
    NegativeLength {
        /// What was declared.
        length: i32,
    },
    /// A frame over the cap.
    #[error("a frame declares {length} bytes, {cap} are allowed: send smaller batches")]
    TooLarge {
        /// What was declared, in bytes.
        length: usize,
        /// What is allowed at this point, in bytes.
        cap: usize,
    },
}

/// Splits a stream of bytes into frames. Hands out slices of its buffer; grows only with bytes that were received.
///
/// Take all frames with [`FrameDecoder::next_frame`] before giving more bytes: then the buffer never holds more than
/// one unfinished frame and one read. A frame keeps the buffer alive that it was received in, with its neighbours:
/// who keeps a small part of one for long copies it.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    cap: usize,
    cap_established: usize,
    /// Whether a frame was handed out: only before is the stream asked whether it is TLS or HTTP.
    started: bool,
    /// Frames begin with the number of an API, which has a cap of its own.
    has_apis: bool,
    /// The largest frame that came whole, its length prefix included.
    whole_bytes_max: usize,
}

impl FrameDecoder {
    /// For the side of the broker: frames up to [`limits::FRAME_BYTES_BEFORE_FIRST_REQUEST`] until
    /// [`FrameDecoder::establish`] is called, then up to [`limits::FRAME_BYTES_MAX`]; and never more than their API
    /// allows ([`crate::ApiSpec::request_bytes_max`]).
    #[must_use]
    pub fn for_requests() -> Self {
        Self::for_requests_up_to(limits::FRAME_BYTES_MAX)
    }

    /// The same with a cap of one's own after [`FrameDecoder::establish`], in bytes.
    #[must_use]
    pub fn for_requests_up_to(cap_established: usize) -> Self {
        let cap_before = limits::FRAME_BYTES_BEFORE_FIRST_REQUEST;
        Self { has_apis: true, ..Self::with_caps(cap_before, cap_established) }
    }

    /// The same where peers prove who they are before anything else: frames up to
    /// [`limits::FRAME_BYTES_BEFORE_AUTH`] until [`FrameDecoder::establish`] is called.
    #[must_use]
    pub fn for_logins_up_to(cap_established: usize) -> Self {
        let cap_before = limits::FRAME_BYTES_BEFORE_AUTH;
        Self { has_apis: true, ..Self::with_caps(cap_before, cap_established) }
    }

    /// For the side of the client: frames up to [`limits::CLIENT_FRAME_BYTES_MAX`].
    #[must_use]
    pub fn for_responses() -> Self {
        Self::with_caps(limits::CLIENT_FRAME_BYTES_MAX, limits::CLIENT_FRAME_BYTES_MAX)
    }

    /// For frames of any kind, with caps of one's own, in bytes: before and after [`FrameDecoder::establish`].
    #[must_use]
    pub fn with_caps(cap_before: usize, cap_established: usize) -> Self {
        let buffer = BytesMut::with_capacity(limits::FRAME_BUFFER_START_BYTES);
        Self {
            buffer,
            cap: cap_before,
            cap_established,
            started: false,
            has_apis: false,
            whole_bytes_max: 0,
        }
    }

    /// The peer has sent a request that makes sense: from here on frames may have the full size.
    pub fn establish(&mut self) {
        self.cap = self.cap_established;
    }

    /// Adds bytes that were received.
    pub fn extend(&mut self, received: &[u8]) {
        let lacking = self.lacking();
        let more = received.len();
        if more > self.spare()
            && more <= lacking
            && lacking <= self.buffer.len().saturating_add(more)
        {
            self.fit_exactly(lacking);
        }
        self.buffer.extend_from_slice(received);
    }

    /// The buffer to read into (`AsyncReadExt::read_buf`), with room for a read. The room of an unfinished frame
    /// doubles with what was received of it; from the half on it is what the frame lacks. A peer that has sent a
    /// whole frame of its size before gets that at once, within a cap, and its bytes stay where they arrive.
    pub fn space(&mut self) -> &mut BytesMut {
        let lacking = self.lacking();
        let received = self.buffer.len();
        let enough = match lacking {
            0 => limits::FRAME_BUFFER_START_BYTES / 4,
            some => some.min(limits::FRAME_BUFFER_START_BYTES / 4),
        };
        if self.spare() < enough {
            let trusted_bytes = self.whole_bytes_max.min(limits::FRAME_ROOM_AT_ONCE_BYTES_MAX);
            let is_trusted = received.saturating_add(lacking) <= trusted_bytes;
            if lacking > limits::FRAME_BUFFER_START_BYTES && (lacking <= received || is_trusted) {
                self.fit_exactly(lacking);
            } else if received == 0 && !self.buffer.try_reclaim(limits::FRAME_BUFFER_START_BYTES) {
                // `reserve` would take as much as a large frame before took, only to be moved when the next one is
                // larger still.
                self.buffer = BytesMut::with_capacity(limits::FRAME_BUFFER_START_BYTES);
            } else {
                self.buffer.reserve(received.min(lacking).max(limits::FRAME_BUFFER_START_BYTES));
            }
        }
        &mut self.buffer
    }

    fn spare(&self) -> usize {
        self.buffer.capacity().saturating_sub(self.buffer.len())
    }

    /// Bytes that the frame at the front still needs; 0 if that is not known or if it is complete.
    fn lacking(&self) -> usize {
        let whole = self
            .declared()
            .filter(|length| *length <= self.cap)
            .map_or(0, |length| length.saturating_add(4));
        whole.saturating_sub(self.buffer.len())
    }

    /// Moves what was received into a buffer of just the size of the frame. Never more than twice what was received,
    /// or than a frame that came whole.
    fn fit_exactly(&mut self, lacking: usize) {
        let mut whole = BytesMut::with_capacity(self.buffer.len().saturating_add(lacking));
        whole.extend_from_slice(&self.buffer);
        self.buffer = whole;
    }

    /// Bytes received that are not handed out yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Memory that the buffer holds, in bytes; frames that were handed out may share it.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Whether a frame has begun and is not complete: a peer may not take for ever to finish it.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The declared length of the frame at the front, unchecked but for its sign.
    fn declared(&self) -> Option<usize> {
        let prefix = self.buffer.first_chunk::<4>()?;
        usize::try_from(i32::from_be_bytes(*prefix)).ok()
    }

    /// What the API of the frame at the front allows, as soon as it can be told.
    fn api_cap(&self) -> usize {
        let api = match self.buffer.get(4..6) {
            Some(&[high, low]) if self.has_apis => {
                ApiKey::from_code(i16::from_be_bytes([high, low]))
            }
            _ => None,
        };
        api.map_or(usize::MAX, |api| api.spec().request_bytes_max)
    }

    /// The next frame, without its length; `None` if it is not complete yet.
    ///
    /// # Errors
    /// [`FrameError`]: the stream is of no use any more.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if !self.started {
            detect_foreign(&self.buffer)?;
        }
        let Some(prefix) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let declared = i32::from_be_bytes(*prefix);
        let length = usize::try_from(declared)
            .map_err(|_| FrameError::NegativeLength { length: declared })?;
        let cap = self.cap.min(self.api_cap());
        if length > cap {
            return Err(FrameError::TooLarge { length, cap });
        }
        if self.buffer.len() - 4 < length {
            return Ok(None);
        }
        self.started = true;
        self.whole_bytes_max = self.whole_bytes_max.max(length.saturating_add(4));
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// Tells the first bytes of TLS and HTTP from a Kafka frame. Every one of them would be a length far over any cap.
fn detect_foreign(start: &[u8]) -> Result<(), FrameError> {
    // RFC 8446 5.1: a handshake record (22) of the legacy major version 3.
    if start.starts_with(&[0x16, 0x03]) {
        return Err(FrameError::TlsOnPlainPort);
    }
    const METHODS: [&[u8]; 8] =
        [b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"PRI "];
    if METHODS.iter().any(|method| start.starts_with(method)) {
        return Err(FrameError::HttpOnKafkaPort);
    }
    Ok(())
}

/// The header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api: ApiKey,
    /// In which version; served.
    pub version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<String>,
}

/// Why a frame is not a request that can be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The header cannot be read.
    #[error("the header of a request cannot be read: {0}")]
    Header(DecodeError),
    /// An API that is not served.
    #[error("API key {key} (version {version}) is not served")]
    UnknownApi {
        /// Its number.
        key: i16,
        /// The version that was asked for.
        version: i16,
        /// Of the request.
        correlation_id: i32,
    },
    /// A version that is not served. For ApiVersions answer with [`unsupported_api_versions_response`] and go on.
    #[error("version {version} of {api} is not served")]
    UnsupportedVersion {
        /// Which API.
        api: ApiKey,
        /// The version that was asked for.
        version: i16,
        /// Of the request.
        correlation_id: i32,
    },
    /// The body cannot be read.
    #[error("a {api} request (version {version}) cannot be read: {error}")]
    Body {
        /// Which API.
        api: ApiKey,
        /// In which version.
        version: i16,
        /// Of the request.
        correlation_id: i32,
        /// What is wrong.
        error: DecodeError,
    },
}

/// Reads a request frame: header and body. Bytes after the body are ignored, as Kafka does.
///
/// # Errors
/// [`RequestError`].
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), RequestError> {
    let mut reader = Reader::new(frame);
    let header = decode_request_header(&mut reader)?;
    let RequestHeader { api, version, correlation_id, .. } = header;
    let body = Request::decode(api, version, &mut reader);
    let body = body.map_err(|error| RequestError::Body { api, version, correlation_id, error })?;
    Ok((header, body))
}

/// Reads the header of a request and leaves the reader at its body.
///
/// # Errors
/// [`RequestError`], without `Body`.
pub fn decode_request_header(reader: &mut Reader) -> Result<RequestHeader, RequestError> {
    let key = reader.i16().map_err(RequestError::Header)?;
    let version = reader.i16().map_err(RequestError::Header)?;
    let correlation_id = reader.i32().map_err(RequestError::Header)?;
    let Some(api) = ApiKey::from_code(key) else {
        return Err(RequestError::UnknownApi { key, version, correlation_id });
    };
    if !api.serves(version) {
        return Err(RequestError::UnsupportedVersion { api, version, correlation_id });
    }
    // The client id keeps its 16-bit length in every header version.
    let client_id = reader.nullable_string(false).map_err(RequestError::Header)?;
    let client_id = client_id.map(|mut client_id| {
        client_id.truncate(client_id.floor_char_boundary(limits::CLIENT_ID_BYTES_MAX));
        client_id.shrink_to_fit();
        client_id
    });
    if api.is_flexible(version) {
        reader.skip_tagged_fields().map_err(RequestError::Header)?;
    }
    Ok(RequestHeader { api, version, correlation_id, client_id })
}

/// A request as a frame, its length included.
///
/// # Errors
/// [`EncodeError`].
pub fn encode_request(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &Request,
) -> Result<Vec<Bytes>, EncodeError> {
    let api = request.api_key();
    let mut writer = Writer::framed();
    writer.i16(api.code());
    writer.i16(version);
    writer.i32(correlation_id);
    writer.nullable_string(false, client_id);
    if api.is_flexible(version) {
        writer.no_tagged_fields();
    }
    request.encode(&mut writer, version);
    writer.finish_frame()
}

/// A response as a frame, its length included.
///
/// # Errors
/// [`EncodeError`].
pub fn encode_response(
    version: i16,
    correlation_id: i32,
    response: &Response,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut writer = Writer::framed();
    writer.i32(correlation_id);
    if response.api_key().has_flexible_response_header(version) {
        writer.no_tagged_fields();
    }
    response.encode(&mut writer, version);
    writer.finish_frame()
}

/// Reads a response frame to a request of this API and version: its correlation id and body.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_response(
    api: ApiKey,
    version: i16,
    frame: Bytes,
) -> Result<(i32, Response), DecodeError> {
    let mut reader = Reader::new(frame);
    let correlation_id = reader.i32()?;
    if api.has_flexible_response_header(version) {
        reader.skip_tagged_fields()?;
    }
    Ok((correlation_id, Response::decode(api, version, &mut reader)?))
}

/// What an ApiVersions response says is served.
#[must_use]
pub fn advertised_api_versions() -> Vec<ApiVersion> {
    let entry = |spec: &&crate::api::ApiSpec| ApiVersion {
        api_key: spec.key.code(),
        min_version: spec.advertised_min_version,
        max_version: spec.max_version,
    };
    APIS.iter().map(entry).collect()
}

/// The answer to an ApiVersions request in a version that is not served: version 0, error 35, and what is served of
/// ApiVersions, so that the client asks again on the same connection (KIP-511).
#[must_use]
pub fn unsupported_api_versions_response(correlation_id: i32) -> Vec<Bytes> {
    let mut api_keys = advertised_api_versions();
    api_keys.retain(|entry| entry.api_key == ApiKey::ApiVersions.code());
    let error_code = ErrorCode::UnsupportedVersion.code();
    let mut writer = Writer::framed();
    writer.i32(correlation_id);
    ApiVersionsResponse { error_code, api_keys, ..Default::default() }.encode(&mut writer, 0);
    // Twenty bytes always fit a frame.
    writer.finish_frame().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{HeartbeatRequest, MetadataRequest};

    fn frame(body: &[u8]) -> Vec<u8> {
        let length = i32::try_from(body.len()).expect("small");
        [&length.to_be_bytes(), body].concat()
    }

    #[test]
    fn frames_come_out_however_the_bytes_were_cut() {
        let bodies =
            [vec![], vec![1; 3], vec![2; 9_000], vec![3; 4_092], vec![4; 100_000], vec![5]];
        let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        for step in [1, 3, 4, 7, 4_096, 10_000, stream.len()] {
            let mut decoder = FrameDecoder::for_requests();
            let mut frames = Vec::new();
            for (index, piece) in stream.chunks(step).enumerate() {
                if index % 2 == 0 {
                    decoder.extend(piece);
                } else {
                    let mut piece = piece;
                    while !piece.is_empty() {
                        let space = decoder.space();
                        let (now, later) =
                            piece.split_at(piece.len().min(space.capacity() - space.len()));
                        assert!(!now.is_empty(), "there is always room");
                        space.extend_from_slice(now);
                        piece = later;
                    }
                }
                while let Some(one) = decoder.next_frame().expect("good frames") {
                    frames.push(one);
                }
            }
            assert_eq!(frames, bodies, "step {step}");
            assert!(!decoder.is_mid_frame());
        }
    }

    #[test]
    fn memory_follows_the_bytes_received_not_the_length_declared() {
        let mut decoder = FrameDecoder::with_caps(usize::MAX, usize::MAX);
        decoder.extend(&i32::MAX.to_be_bytes());
        let mut received = 4;
        while received < 1 << 20 {
            assert_eq!(decoder.next_frame(), Ok(None));
            let space = decoder.space();
            let room = space.capacity() - space.len();
            assert!(
                space.capacity() <= 3 * received + limits::FRAME_BUFFER_START_BYTES,
                "after {received}"
            );
            let now = room.min(1_400);
            space.extend_from_slice(&vec![0; now]);
            received += now;
        }
    }

    #[test]
    fn a_large_frame_gets_a_buffer_of_its_size() {
        let mut decoder = FrameDecoder::for_requests();
        let body = vec![7; 300_000];
        for piece in frame(&body).chunks(1_400) {
            decoder.space().extend_from_slice(piece);
        }
        assert_eq!(decoder.buffer.capacity(), 300_004);
        assert_eq!(decoder.next_frame(), Ok(Some(Bytes::from(body))));
    }

    #[test]
    fn a_frame_no_larger_than_one_before_gets_its_room_at_once_and_a_larger_one_does_not() {
        let mut decoder = FrameDecoder::for_requests();
        let large = frame(&vec![7; 300_000]);
        let start = |decoder: &mut FrameDecoder, bytes: &[u8]| {
            while decoder.buffered_bytes() < limits::FRAME_BUFFER_START_BYTES {
                let space = decoder.space();
                let room = space.capacity() - space.len();
                let from = space.len();
                space.extend_from_slice(&bytes[from..bytes.len().min(from + room)]);
            }
            decoder.space().capacity()
        };
        assert!(start(&mut decoder, &large) < 4 * limits::FRAME_BUFFER_START_BYTES);
        while decoder.buffered_bytes() < large.len() {
            let from = decoder.buffered_bytes();
            let space = decoder.space();
            let room = space.capacity() - space.len();
            space.extend_from_slice(&large[from..large.len().min(from + room)]);
        }
        // Held, so that the next one needs a buffer of its own.
        let first = decoder.next_frame().expect("good").expect("whole");
        assert_eq!(start(&mut decoder, &large), large.len());
        let mut other = FrameDecoder::for_requests();
        other.whole_bytes_max = large.len() - 1;
        assert!(start(&mut other, &large) < 4 * limits::FRAME_BUFFER_START_BYTES);
        drop(first);
    }

    #[test]
    fn a_request_is_no_larger_than_its_api_allows() {
        let length = limits::REQUEST_BYTES_SMALL_MAX + 1;
        for (api, is_refused) in [(ApiKey::Heartbeat, true), (ApiKey::Produce, false)] {
            let mut decoder = FrameDecoder::for_requests();
            decoder.establish();
            decoder.extend(&(length as i32).to_be_bytes());
            assert_eq!(decoder.next_frame(), Ok(None), "it is not known which one it is");
            decoder.extend(&api.code().to_be_bytes());
            let cap = limits::REQUEST_BYTES_SMALL_MAX;
            let expected =
                if is_refused { Err(FrameError::TooLarge { length, cap }) } else { Ok(None) };
            assert_eq!(decoder.next_frame(), expected, "{api}");
        }
    }

    #[test]
    fn a_frame_is_a_slice_of_the_buffer() {
        let mut decoder = FrameDecoder::for_requests();
        decoder.extend(&frame(b"abc"));
        let place = decoder.buffer.as_ptr();
        let frame = decoder.next_frame().expect("good").expect("complete");
        assert_eq!(frame.as_ptr(), place.wrapping_add(4));
    }

    #[test]
    fn caps_hold_before_and_after_the_first_request() {
        let length = limits::FRAME_BYTES_BEFORE_FIRST_REQUEST + 1;
        let prefix = (length as i32).to_be_bytes();
        let mut decoder = FrameDecoder::for_requests();
        decoder.extend(&prefix);
        let cap = limits::FRAME_BYTES_BEFORE_FIRST_REQUEST;
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLarge { length, cap }));
        decoder.establish();
        assert_eq!(decoder.next_frame(), Ok(None));

        let mut decoder = FrameDecoder::for_requests();
        decoder.establish();
        let length = limits::FRAME_BYTES_MAX + 1;
        decoder.extend(&(length as i32).to_be_bytes());
        let cap = limits::FRAME_BYTES_MAX;
        assert_eq!(decoder.next_frame(), Err(FrameError::TooLarge { length, cap }));
    }

    #[test]
    fn a_negative_length_is_refused() {
        let mut decoder = FrameDecoder::for_requests();
        decoder.extend(&(-2_i32).to_be_bytes());
        assert_eq!(decoder.next_frame(), Err(FrameError::NegativeLength { length: -2 }));
    }

    #[test]
    fn tls_and_http_are_told_from_kafka_at_the_first_bytes() {
        let mut decoder = FrameDecoder::for_requests();
        decoder.extend(&[0x16, 0x03]);
        assert_eq!(decoder.next_frame(), Err(FrameError::TlsOnPlainPort));
        for start in ["GET /metrics HTTP/1.1", "POST / HTTP/1.1", "PRI * HTTP/2.0"] {
            let mut decoder = FrameDecoder::for_requests();
            decoder.extend(start.as_bytes());
            assert_eq!(decoder.next_frame(), Err(FrameError::HttpOnKafkaPort), "{start}");
        }
    }

    #[test]
    fn of_a_long_client_id_the_start_is_kept() {
        let request = Request::from(MetadataRequest { topics: None, ..Default::default() });
        let long = format!("x{}", "é".repeat(limits::CLIENT_ID_BYTES_MAX));
        let rope = encode_request(12, 9, Some(&long), &request).expect("fits");
        let (header, back) = decode_request(rope[0].slice(4..)).expect("good");
        let kept = header.client_id.expect("a client id");
        assert_eq!(kept.len(), limits::CLIENT_ID_BYTES_MAX - 1, "no half of a letter");
        assert!(long.starts_with(&kept));
        assert_eq!(back, request);
    }

    #[test]
    fn a_request_comes_back_with_its_header() {
        let request = Request::from(MetadataRequest { topics: None, ..Default::default() });
        let rope = encode_request(12, 9, Some("edge"), &request).expect("fits");
        let frame = rope[0].slice(4..);
        let (header, back) = decode_request(frame).expect("good");
        let client_id = Some("edge".to_owned());
        assert_eq!(
            header,
            RequestHeader { api: ApiKey::Metadata, version: 12, correlation_id: 9, client_id }
        );
        assert_eq!(back, request);
    }

    #[test]
    fn a_response_comes_back_with_its_correlation_id() {
        for version in 0..=4 {
            let api_keys = advertised_api_versions();
            let response = Response::from(ApiVersionsResponse { api_keys, ..Default::default() });
            let rope = encode_response(version, -3, &response).expect("fits");
            let back = decode_response(ApiKey::ApiVersions, version, rope[0].slice(4..));
            assert_eq!(back, Ok((-3, response)));
        }
    }

    #[test]
    fn what_is_not_served_says_which_request_it_was() {
        let head = |key: i16, version: i16| {
            let bytes = [
                &key.to_be_bytes()[..],
                &version.to_be_bytes(),
                &5_i32.to_be_bytes(),
                &[0xff, 0xff],
            ];
            decode_request(Bytes::from(bytes.concat()))
        };
        assert_eq!(
            head(71, 0),
            Err(RequestError::UnknownApi { key: 71, version: 0, correlation_id: 5 })
        );
        let api = ApiKey::ApiVersions;
        assert_eq!(
            head(18, 99),
            Err(RequestError::UnsupportedVersion { api, version: 99, correlation_id: 5 })
        );
        let api = ApiKey::Produce;
        assert_eq!(
            head(0, 2),
            Err(RequestError::UnsupportedVersion { api, version: 2, correlation_id: 5 })
        );
        assert!(matches!(head(12, 0), Err(RequestError::Body { api: ApiKey::Heartbeat, .. })));
        assert!(matches!(decode_request(Bytes::from_static(&[0])), Err(RequestError::Header(_))));
    }

    #[test]
    fn an_unknown_api_versions_version_is_answered_in_version_0_with_error_35() {
        let rope = unsupported_api_versions_response(6);
        let max = ApiKey::ApiVersions.spec().max_version as u8;
        assert_eq!(
            rope.concat(),
            [0, 0, 0, 16, 0, 0, 0, 6, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, max]
        );
    }

    #[test]
    fn bytes_after_a_request_are_ignored() {
        let request = Request::from(HeartbeatRequest::default());
        let rope = encode_request(4, 1, None, &request).expect("fits");
        let longer = [&rope[0][4..], b"more"].concat();
        assert_eq!(decode_request(Bytes::from(longer)).map(|(_, request)| request), Ok(request));
    }
}
