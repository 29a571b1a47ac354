//! Any bytes as a request frame: header and body. What is understood must be written so that it is understood the
//! same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millpond_wire::frame;

fuzz_target!(|data: &[u8]| {
    let Ok((header, request)) = frame::decode_request(Bytes::copy_from_slice(data)) else {
        return;
    };
    let client_id = header.client_id.as_deref();
    let rope = frame::encode_request(header.version, header.correlation_id, client_id, &request);
    let frame = Bytes::from(rope.expect("fits a frame").concat()).slice(4..);
    assert_eq!(frame::decode_request(frame), Ok((header, request)));
});
