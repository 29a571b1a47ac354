//! Any bytes as a stream of frames, cut in two at any place: the cut must not matter.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millpond_wire::frame::{FrameDecoder, FrameError};

fn split(pieces: &[&[u8]]) -> (Vec<Bytes>, Option<FrameError>) {
    let mut decoder = FrameDecoder::for_requests();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.extend(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fuzz_target!(|data: &[u8]| {
    let [cut, stream @ ..] = data else {
        return;
    };
    let cut = usize::from(*cut).min(stream.len());
    assert_eq!(split(&[stream]), split(&[&stream[..cut], &stream[cut..]]));
});
