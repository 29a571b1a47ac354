//! Frames that a client sends: the first four bytes choose nothing, the header is the peer's too.

use bytes::Bytes;
use millpond_wire::frame::{FrameDecoder, decode_request, encode_request};

/// As a connection does: first frames from a stream of bytes, then a request from each.
pub fn run(data: &[u8]) {
    let mut frames = FrameDecoder::for_requests();
    frames.establish();
    for piece in data.chunks(97) {
        frames.extend(piece);
        while let Ok(Some(frame)) = frames.next_frame() {
            request(frame);
        }
    }
    request(Bytes::copy_from_slice(data));
}

/// What was understood is written so that it is understood the same.
fn request(frame: Bytes) {
    let Ok((header, request)) = decode_request(frame) else { return };
    let id = header.client_id.as_deref();
    let Ok(again) = encode_request(header.version, header.correlation_id, id, &request) else {
        return;
    };
    let whole: Vec<u8> = again.iter().flat_map(|piece| piece.iter().copied()).collect();
    let body = Bytes::from(whole).slice(4..);
    let (_, same) = decode_request(body).expect("what we wrote");
    let versions = (header.version, header.api);
    assert_eq!(format!("{request:?}"), format!("{same:?}"), "{versions:?}");
}
