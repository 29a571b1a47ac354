//! What a QUIC listener remembers of TLS sessions, so that a device that slept comes back in one flight (0-RTT).
//!
//! Each session is taken out when it is used: a recorded first flight finds nothing to resume, and after a restart
//! nothing is there at all. Must never grow past its caps, and never outlive the certificates and authorities that
//! it was made under: a reloaded configuration begins with an empty one.

use millpond_wire::limits::{QUIC_SESSION_BYTES_MAX, QUIC_SESSIONS_BYTES_MAX};
use rustls::ServerConfig;
use rustls::server::{ProducesTickets, StoresServerSessions};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The same TLS for QUIC, with early data: up to `sessions_max` sessions are remembered; above that, and above
/// their bytes, the oldest go. Whoever comes with one that is not known makes a full handshake.
#[must_use]
pub fn with_early_data(tls: &ServerConfig, sessions_max: usize) -> ServerConfig {
    let mut tls = tls.clone();
    tls.session_storage = Arc::new(Sessions::new(sessions_max, QUIC_SESSIONS_BYTES_MAX));
    // A ticket that holds its session cannot be used up, so rustls takes no early data with it.
    tls.ticketer = Arc::new(NoTickets);
    // The one value that QUIC knows (RFC 9001, section 4.6.1); streams and windows bound what comes.
    tls.max_early_data_size = u32::MAX;
    tls
}

/// A store that forgets the oldest first, in constant time.
struct Sessions {
    sessions_max: usize,
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_id: HashMap<Arc<[u8]>, Vec<u8>>,
    /// Oldest first; those that were taken are passed over.
    order: VecDeque<Arc<[u8]>>,
    bytes: usize,
}

impl Sessions {
    fn new(sessions_max: usize, bytes_max: usize) -> Self {
        Self { sessions_max, bytes_max, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, id: &[u8]) -> Option<Vec<u8>> {
        let session = self.by_id.remove(id)?;
        self.bytes -= session.len();
        Some(session)
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.order.pop_front() else { return false };
        self.take(&oldest);
        true
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        if self.sessions_max == 0 || session.len() > QUIC_SESSION_BYTES_MAX {
            return false;
        }
        let mut kept = self.kept();
        let id: Arc<[u8]> = id.into();
        kept.take(&id);
        kept.bytes += session.len();
        kept.by_id.insert(Arc::clone(&id), session);
        kept.order.push_back(id);
        while (kept.by_id.len() > self.sessions_max || kept.bytes > self.bytes_max)
            && kept.forget_oldest()
        {}
        if kept.order.len() > self.sessions_max.saturating_mul(2) {
            let Kept { by_id, order, .. } = &mut *kept;
            order.retain(|id| by_id.contains_key(id));
        }
        true
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.kept().by_id.get(id).cloned()
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.kept().take(id)
    }

    fn can_cache(&self) -> bool {
        self.sessions_max > 0
    }
}

/// Says how many, never which.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} TLS sessions", self.kept().by_id.len())
    }
}

#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{development_certificate, server_tls};

    fn id(n: u32) -> Vec<u8> {
        n.to_be_bytes().to_vec()
    }

    #[test]
    fn a_session_is_used_once() {
        let sessions = Sessions::new(8, 1 << 20);
        assert!(sessions.put(id(1), vec![1; 100]));
        assert_eq!(sessions.take(&id(1)), Some(vec![1; 100]));
        assert_eq!((sessions.take(&id(1)), sessions.get(&id(1))), (None, None));
        assert_eq!(sessions.kept().bytes, 0);
    }

    #[test]
    fn beyond_the_caps_the_oldest_go() {
        let sessions = Sessions::new(8, 1000);
        (0..9).for_each(|n| assert!(sessions.put(id(n), vec![0; 100])));
        assert_eq!((sessions.get(&id(0)), sessions.kept().by_id.len()), (None, 8));
        assert!(sessions.put(id(9), vec![0; 500]));
        let kept = sessions.kept();
        assert!(kept.bytes <= 1000 && kept.by_id.contains_key(&id(9)[..]), "{}", kept.bytes);
        drop(kept);
        assert!(
            !sessions.put(id(10), vec![0; QUIC_SESSION_BYTES_MAX + 1]),
            "one that is too large"
        );
    }

    #[test]
    fn devices_that_come_and_go_leave_nothing_behind() {
        let sessions = Sessions::new(8, 1 << 20);
        for n in 0..1000 {
            sessions.put(id(n), vec![0; 100]);
            sessions.take(&id(n));
        }
        assert!(sessions.kept().order.len() <= 16);
    }

    #[test]
    fn early_data_comes_with_sessions_that_are_used_up() {
        let directory = tempfile::tempdir().unwrap();
        let made = development_certificate(directory.path(), &[]).unwrap();
        let tls = with_early_data(&server_tls(&made.identity, None).unwrap(), 8);
        assert_eq!(tls.max_early_data_size, u32::MAX);
        assert!(!tls.ticketer.enabled() && tls.session_storage.can_cache());
    }
}
