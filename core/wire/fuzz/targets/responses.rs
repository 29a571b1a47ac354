//! Any bytes as a response frame; the first two choose the API and the version.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millpond_wire::api::APIS;
use millpond_wire::frame;

fuzz_target!(|data: &[u8]| {
    let [api, version, body @ ..] = data else {
        return;
    };
    let spec = APIS[usize::from(*api) % APIS.len()];
    let versions = spec.max_version - spec.min_version + 1;
    let version = spec.min_version + i16::from(*version) % versions;
    let body = Bytes::copy_from_slice(body);
    let Ok((correlation_id, response)) = frame::decode_response(spec.key, version, body) else {
        return;
    };
    let rope = frame::encode_response(version, correlation_id, &response);
    let frame = Bytes::from(rope.expect("fits a frame").concat()).slice(4..);
    assert_eq!(frame::decode_response(spec.key, version, frame), Ok((correlation_id, response)));
});
