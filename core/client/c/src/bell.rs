//! A descriptor that is readable while there is news, for the event loop of a C program. Never blocks.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// See the module. Who rings and who silences must agree by a lock, or be the same thread.
pub(crate) struct Bell {
    ear: UnixStream,
    rope: UnixStream,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let (ear, rope) = UnixStream::pair()?;
        for end in [&ear, &rope] {
            end.set_nonblocking(true)?;
        }
        Ok(Self { ear, rope })
    }

    pub(crate) fn ring(&self) {
        // A bell that is full is rung already.
        let _ = (&self.rope).write(&[1]);
    }

    pub(crate) fn silence(&self) {
        let mut rung = [0; 64];
        while matches!((&self.ear).read(&mut rung), Ok(count) if count > 0) {}
    }

    /// What is readable while it rings.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.ear.as_raw_fd()
    }
}
