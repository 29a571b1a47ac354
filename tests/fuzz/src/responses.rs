//! Frames that a broker sends to our client, which trusts it no more than the broker trusts clients.

use bytes::Bytes;
use millpond_wire::ApiKey;
use millpond_wire::frame::decode_response;

/// The first three bytes say what was asked for: API key and version.
pub fn run(data: &[u8]) {
    let Some((asked, frame)) = data.split_first_chunk::<3>() else { return };
    let Some(api) = ApiKey::from_code(i16::from_be_bytes([asked[0], asked[1]])) else { return };
    let version = i16::from(asked[2]);
    if api.serves(version) {
        let _ = decode_response(api, version, Bytes::copy_from_slice(frame));
    }
}
