//! Files of certificates, taken anew while the node runs: when they change (their time, size or number), and on
//! SIGHUP. New connections get what is new, those that are there stay, unless their certificate does not
//! count any more. What cannot be used leaves everything as it was, and that is said: in the log once,
//! in the metrics as long as it lasts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_wire::limits::{CERTIFICATE_EXPIRY_CHECK_MS, CERTIFICATE_POLL_MS};
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::clock::FloorKeeper;
use super::credentials::{Loaded, Source, Stamps, token_rules};
use crate::metrics::{CertificateState, Counters};
use crate::net::{InForce, TokenKeys};

/// What is kept up to date for one listener.
pub(super) struct Kept {
    /// The listener's name.
    name: String,
    files: Vec<PathBuf>,
    /// Of the files that were last tried, good or not.
    stamps: Stamps,
    taken: Taken,
}

enum Taken {
    Tls { source: Source, force: watch::Sender<Arc<InForce>>, state: CertificateState, warned: Age },
    Tokens { settings: [String; 4], keys: Arc<TokenKeys> },
}

/// How near a certificate is to its end; each is said once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    #[default]
    Fresh,
    Month,
    Week,
    Day,
    Ended,
}

impl Age {
    fn of(not_after_s: u64, now_s: u64) -> Self {
        match not_after_s.checked_sub(now_s).filter(|left| *left > 0).map(|left_s| left_s / 86_400)
        {
            None => Self::Ended,
            Some(0) => Self::Day,
            Some(1..7) => Self::Week,
            Some(7..30) => Self::Month,
            Some(_) => Self::Fresh,
        }
    }
}

impl Kept {
    /// A listener's certificates, as they were just read.
    pub(super) fn tls(
        name: &str,
        source: Source,
        stamps: Stamps,
        loaded: Loaded,
    ) -> (Self, watch::Receiver<Arc<InForce>>) {
        let (force, receiver) = watch::channel(Arc::new(loaded.in_force));
        let (files, state) = (source.files(), loaded.state);
        let taken = Taken::Tls { source, force, state, warned: Age::Fresh };
        (Self { name: name.to_owned(), files, stamps, taken }, receiver)
    }

    /// The keys of signed tokens, as they were just read.
    pub(super) fn tokens(
        name: &str,
        settings: [String; 4],
        stamps: Stamps,
        keys: Arc<TokenKeys>,
    ) -> Self {
        let files = vec![PathBuf::from(&settings[0])];
        // Told apart from its certificates: one may be damaged and the other not.
        let name = format!("{name} oauth_keys");
        Self { name, files, stamps, taken: Taken::Tokens { settings, keys } }
    }

    /// Reads the files anew where they changed, or in any case. True: they are in force.
    fn refresh(&mut self, in_any_case: bool) -> Option<Result<(), String>> {
        let stamps = Stamps::of(&self.files);
        if self.files.is_empty() || (stamps == self.stamps && !in_any_case) {
            return None;
        }
        self.stamps = stamps;
        Some(match &mut self.taken {
            Taken::Tls { source, force, state, warned } => source.load().map(|loaded| {
                (*state, *warned) = (loaded.state, Age::Fresh);
                force.send_replace(Arc::new(loaded.in_force));
            }),
            Taken::Tokens { settings, keys } => {
                token_rules(settings).map(|rules| keys.replace(rules))
            }
        })
    }

    /// Says once for each step that a certificate is near its end.
    fn warn(&mut self, now_s: u64) {
        let Taken::Tls { state, warned, .. } = &mut self.taken else { return };
        let first = state.not_after_s.iter().min_by_key(|(_, not_after_s)| *not_after_s);
        let Some((kind, not_after_s)) = first else { return };
        let age = Age::of(*not_after_s, now_s);
        if age <= *warned {
            return;
        }
        *warned = age;
        let (name, days) = (&self.name, not_after_s.saturating_sub(now_s) / 86_400);
        match age {
            Age::Ended => tracing::error!(
                "listener {name:?}: the {kind} certificate has ended; nobody who looks at dates connects"
            ),
            _ => tracing::warn!("listener {name:?}: the {kind} certificate ends in {days} days"),
        }
    }

    /// Lets all connections ask again whether they still count.
    fn ask_again(&self) {
        if let Taken::Tls { force, .. } = &self.taken {
            force.send_modify(|_| {});
        }
    }
}

/// Looks after all of them.
pub(super) struct Keeper {
    pub(super) kept: Vec<Kept>,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Arc<millpond_security::HeldClock>,
    pub(super) floor: FloorKeeper,
    /// SIGHUP, where it is ours.
    pub(super) hangup: Option<Signal>,
}

impl Keeper {
    /// Runs until the node stops.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(Duration::from_millis(CERTIFICATE_POLL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = Instant::now();
        self.show();
        loop {
            let is_told = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = hangup(&mut self.hangup) => true,
                _ = ticks.tick() => false,
            };
            self.refresh(is_told);
            self.floor.look();
            if asked.elapsed() >= Duration::from_millis(CERTIFICATE_EXPIRY_CHECK_MS) {
                asked = Instant::now();
                self.kept.iter().for_each(Kept::ask_again);
            }
        }
    }

    fn refresh(&mut self, is_told: bool) {
        for kept in &mut self.kept {
            let name = kept.name.clone();
            match kept.refresh(is_told) {
                Some(Ok(())) => {
                    tracing::info!("listener {name:?}: certificates and keys are read anew");
                    self.counters.certificates.reloaded(&name, true);
                }
                Some(Err(why)) => {
                    tracing::error!("listener {name:?}: the files of before stay in force: {why}");
                    self.counters.certificates.reloaded(&name, false);
                }
                None => {}
            }
            kept.warn(self.clock.now_s());
        }
        self.show();
    }

    fn show(&self) {
        let board = &self.counters.certificates;
        board.set_clock(self.clock.is_set());
        for kept in &self.kept {
            if let Taken::Tls { state, .. } = &kept.taken {
                board.set(&kept.name, state);
            }
        }
    }
}

/// The next SIGHUP; never, where it is not ours.
async fn hangup(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::super::credentials::Own;
    use super::*;
    use crate::config::ClientAuth;
    use millpond_security::device_ca::{DeviceCa, DeviceKey};
    use millpond_security::{CertificateNames, HeldClock};
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    use std::fs;
    use std::path::Path;

    const NOW_S: u64 = millpond_security::clock::BUILT_S;

    fn source(dir: &Path) -> Source {
        let file = |name: &str| dir.join(name).display().to_string();
        let names = CertificateNames::new(&["uri".to_owned()], &["DEFAULT".to_owned()]).unwrap();
        let (ca, crl, names) = (file("ca.pem"), Some(file("ca.crl")), Arc::new(names));
        let own = Own::Files(dir.join("server.pem"), dir.join("server.pem"));
        let asked = Some(ClientAuth { is_required: true, ca, crl, names });
        Source { own, asked, clock: Arc::new(HeldClock::new(|| NOW_S, 0)) }
    }

    fn kept(dir: &Path) -> (Kept, watch::Receiver<Arc<InForce>>) {
        let source = source(dir);
        let (stamps, loaded) = (Stamps::of(&source.files()), source.load().unwrap());
        Kept::tls("plant", source, stamps, loaded)
    }

    #[test]
    fn files_that_break_leave_what_was_and_a_revoked_chain_falls_with_the_next_list() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("ca");
        let ca = DeviceCa::init(&dir, &[], NOW_S).unwrap();
        let token = ca.invite(&"pump-7".parse().unwrap(), 60, NOW_S).unwrap();
        let request = DeviceKey::generate().unwrap().request(token.name()).unwrap();
        let granted = ca.enrol(token.name(), &request, &token.proof(&request), NOW_S, 1).unwrap();
        let chain = [CertificateDer::from_pem_slice(granted.certificate.as_bytes()).unwrap()];
        let stands = |force: &watch::Receiver<Arc<InForce>>| {
            force.borrow().clients.as_ref().unwrap().stands(&chain).is_ok()
        };
        let (mut kept, mut force) = kept(&dir);
        assert!(kept.refresh(false).is_none() && stands(&force));
        let of_before = Arc::clone(&force.borrow_and_update().tls);

        for name in ["server.pem", "ca.pem", "ca.crl"] {
            let path = dir.join(name);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..whole.len() / 3]).unwrap();
            let refused = kept.refresh(false).unwrap().unwrap_err();
            assert!(refused.contains(name), "{refused}");
            assert!(kept.refresh(false).is_none(), "it is said once");
            assert!(!force.has_changed().unwrap() && stands(&force));
            fs::write(&path, &whole).unwrap();
            kept.refresh(true).unwrap().unwrap();
            assert!(stands(&force));
            force.mark_unchanged();
        }
        assert!(!Arc::ptr_eq(&of_before, &force.borrow().tls), "nothing of before is resumed");
        ca.revoke(token.name(), NOW_S).unwrap();
        kept.refresh(false).unwrap().unwrap();
        assert!(force.has_changed().unwrap() && !stands(&force));
    }

    #[test]
    fn keys_of_tokens_are_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.json");
        let set = |x: &str| format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#);
        fs::write(&file, set(&"A".repeat(43))).unwrap();
        let path = file.display().to_string();
        let settings = [path, "audience".to_owned(), String::new(), "sub".to_owned()];
        let stamps = Stamps::of(std::slice::from_ref(&file));
        let keys = Arc::new(TokenKeys::new(token_rules(&settings).unwrap()));
        let before = keys.now();
        let mut kept = Kept::tokens("plant", settings, stamps, Arc::clone(&keys));
        fs::write(&file, "{").unwrap();
        assert!(kept.refresh(false).unwrap().is_err() && Arc::ptr_eq(&before, &keys.now()));
        fs::write(&file, set(&"B".repeat(42)) + " ").unwrap();
        assert!(kept.refresh(false).unwrap().is_err(), "a key that is none");
        fs::write(&file, set(&format!("{}A", "B".repeat(42)))).unwrap();
        kept.refresh(false).unwrap().unwrap();
        assert!(!Arc::ptr_eq(&before, &keys.now()));
    }

    #[test]
    fn each_step_towards_the_end_is_one_of_its_own() {
        let day = 86_400;
        for (left, age) in [
            (31 * day, Age::Fresh),
            (30 * day, Age::Fresh),
            (30 * day - 1, Age::Month),
            (7 * day - 1, Age::Week),
            (day - 1, Age::Day),
            (1, Age::Day),
            (0, Age::Ended),
        ] {
            assert_eq!(Age::of(1_000_000_000 + left, 1_000_000_000), age, "{left}");
        }
        assert_eq!(Age::of(5, 1_000), Age::Ended);
    }
}
