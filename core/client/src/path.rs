//! Which way to a broker of `millpond://`: QUIC where UDP passes, TLS over TCP where it does not, and
//! back again when it does.
//!
//! Pure: time and chance are handed in. It never chooses a line without TLS, and never gives QUIC up
//! for good.

use crate::url::BrokerUrl;
use std::collections::HashMap;
use std::time::Duration;

/// Doublings of the pause between two probes.
const DOUBLINGS_MAX: u32 = 5;

/// How patient the choice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// How long QUIC is tried alone.
    pub(crate) head_start: Duration,
    /// The first pause before QUIC is tried again while TLS over TCP serves; it doubles up to 32 times
    /// that.
    pub(crate) probe: Duration,
}

/// One of the two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Quic,
    Tls,
}

/// What to try, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) first: Way,
    /// After this the other way is tried too; at once if the first one fails.
    pub(crate) head_start: Duration,
}

/// What is known of each broker's ways.
#[derive(Debug)]
pub(crate) struct Paths {
    patience: Patience,
    /// Brokers that are reached over TLS, with the number of probes that failed. The others: QUIC.
    over_tls: HashMap<BrokerUrl, u32>,
}

impl Paths {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, over_tls: HashMap::new() }
    }

    /// How the next line to `broker` is opened.
    pub(crate) fn plan(&self, broker: &BrokerUrl) -> Plan {
        match self.over_tls.contains_key(broker) {
            // Probes look after QUIC; waiting for it at every line would be felt.
            true => Plan { first: Way::Tls, head_start: self.patience.probe },
            false => Plan { first: Way::Quic, head_start: self.patience.head_start },
        }
    }

    /// A line came about. True: from now on QUIC is to be probed.
    pub(crate) fn took(&mut self, broker: &BrokerUrl, way: Way) -> bool {
        match way {
            Way::Quic => {
                self.over_tls.remove(broker);
                false
            }
            Way::Tls if self.over_tls.contains_key(broker) => false,
            Way::Tls => {
                self.over_tls.insert(broker.clone(), 0);
                true
            }
        }
    }

    /// The pause before the next probe; `None`: there is nothing to probe any more. `chance`: any
    /// number, so that devices that lost UDP together do not come back together.
    pub(crate) fn next_probe(&self, broker: &BrokerUrl, chance: u64) -> Option<Duration> {
        let failed = *self.over_tls.get(broker)?;
        let pause = self.patience.probe.saturating_mul(1 << failed.min(DOUBLINGS_MAX));
        Some(jittered(pause, chance))
    }

    /// A probe failed.
    pub(crate) fn probe_failed(&mut self, broker: &BrokerUrl) {
        if let Some(failed) = self.over_tls.get_mut(broker) {
            *failed = failed.saturating_add(1);
        }
    }
}

/// Between three quarters and five quarters of `pause`, as `chance` has it.
pub(crate) fn jittered(pause: Duration, chance: u64) -> Duration {
    let part = u32::try_from(chance % 512).unwrap_or(0);
    pause * 3 / 4 + pause * part / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { head_start: Duration::from_millis(500), probe: Duration::from_secs(30) };

    fn broker(host: &str) -> BrokerUrl {
        format!("millpond://{host}").parse().unwrap()
    }

    #[test]
    fn quic_is_first_until_it_is_seen_not_to_pass() {
        let (mut paths, here, there) = (Paths::new(PATIENCE), broker("here"), broker("there"));
        assert_eq!(paths.plan(&here), Plan { first: Way::Quic, head_start: PATIENCE.head_start });
        assert!(!paths.took(&here, Way::Quic));
        assert!(paths.took(&here, Way::Tls), "the first time it is probed from then on");
        assert!(!paths.took(&here, Way::Tls), "by one prober");
        assert_eq!(paths.plan(&here).first, Way::Tls);
        assert_eq!(paths.plan(&there).first, Way::Quic, "brokers do not answer for each other");
    }

    #[test]
    fn probes_come_ever_later_and_end_when_quic_is_back() {
        let (mut paths, here) = (Paths::new(PATIENCE), broker("here"));
        assert_eq!(paths.next_probe(&here, 0), None);
        paths.took(&here, Way::Tls);
        let mut last = Duration::ZERO;
        for _ in 0..=DOUBLINGS_MAX {
            let next = paths.next_probe(&here, 256).unwrap();
            assert!(next > last);
            last = next;
            paths.probe_failed(&here);
        }
        paths.probe_failed(&here);
        assert_eq!(paths.next_probe(&here, 256), Some(last), "but not without an end");
        paths.took(&here, Way::Quic);
        assert_eq!(paths.next_probe(&here, 256), None);
        assert_eq!(paths.plan(&here).first, Way::Quic);
    }

    #[test]
    fn chance_moves_a_pause_by_a_quarter_at_most() {
        let pause = Duration::from_secs(8);
        for chance in [0, 1, 511, 512, u64::MAX] {
            let moved = jittered(pause, chance);
            assert!(moved >= Duration::from_secs(6) && moved < Duration::from_secs(10));
        }
        assert_ne!(jittered(pause, 0), jittered(pause, 300));
    }
}
