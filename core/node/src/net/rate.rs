//! How fast connections may come from one address (as KIP-612 has it for brokers): a bucket of tokens for each.
//! Pure: the time is handed in. Must never grow past its cap, whatever addresses come; those beyond it share one
//! bucket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use millpond_wire::limits::{CONNECTION_BURST_SECONDS, RATED_ADDRESSES_MAX};

/// A token in thousandths, so that a bucket that is asked every millisecond fills, too.
const TOKEN: u64 = 1000;
/// Bits of an IPv6 address that stand for one site (RFC 6177): whoever has one has all below it.
const SITE_BITS: u32 = 64;

/// The buckets.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u64,
    buckets: HashMap<Source, Bucket>,
    /// For addresses that found no room.
    shared: Bucket,
    /// When buckets that are full again are next looked for.
    sweep_at_ms: u64,
}

/// Where a connection comes from. One that has not shown that it is there has a bucket of its own: who
/// forges its address must not spend its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source {
    address: IpAddr,
    is_proved: bool,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    thousandths: u64,
    at_ms: u64,
}

impl Bucket {
    /// Takes a token, if there is one.
    fn take(&mut self, per_second: u64, now_ms: u64) -> bool {
        self.fill(per_second, now_ms);
        let has = self.thousandths >= TOKEN;
        self.thousandths -= if has { TOKEN } else { 0 };
        has
    }

    fn fill(&mut self, per_second: u64, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        let more = passed_ms.saturating_mul(per_second);
        self.thousandths = self.thousandths.saturating_add(more).min(full(per_second));
        self.at_ms = self.at_ms.max(now_ms);
    }
}

fn full(per_second: u64) -> u64 {
    per_second.saturating_mul(u64::from(CONNECTION_BURST_SECONDS) * TOKEN)
}

impl Rate {
    /// `per_second`: 0 is no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second);
        let shared = Bucket { thousandths: full(per_second), at_ms: 0 };
        Self { per_second, buckets: HashMap::new(), shared, sweep_at_ms: 0 }
    }

    /// Whether a connection may come from `address` now.
    pub(crate) fn take(&mut self, address: IpAddr, is_proved: bool, now_ms: u64) -> bool {
        let per_second = self.per_second;
        if per_second == 0 {
            return true;
        }
        let source = Source { address: site(address), is_proved };
        if self.buckets.len() >= RATED_ADDRESSES_MAX && !self.buckets.contains_key(&source) {
            self.sweep(now_ms);
        }
        if self.buckets.len() >= RATED_ADDRESSES_MAX && !self.buckets.contains_key(&source) {
            return self.shared.take(per_second, now_ms);
        }
        let new = Bucket { thousandths: full(per_second), at_ms: now_ms };
        self.buckets.entry(source).or_insert(new).take(per_second, now_ms)
    }

    /// Forgets those that are full again: they say nothing. At most once a second, since it looks at all.
    fn sweep(&mut self, now_ms: u64) {
        if now_ms < self.sweep_at_ms {
            return;
        }
        self.sweep_at_ms = now_ms + 1000;
        let per_second = self.per_second;
        self.buckets.retain(|_, bucket| {
            bucket.fill(per_second, now_ms);
            bucket.thousandths < full(per_second)
        });
    }
}

/// The address, or of IPv6 what one site has.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (128 - SITE_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many of `tries` connections may come at once.
    fn of(rate: &mut Rate, address: &str, now_ms: u64, tries: usize) -> usize {
        let address = self::address(address);
        (0..tries).filter(|_| rate.take(address, true, now_ms)).count()
    }

    #[test]
    fn a_burst_is_taken_and_then_so_many_a_second() {
        let mut rate = Rate::new(5);
        let burst = 5 * CONNECTION_BURST_SECONDS as usize;
        assert_eq!(of(&mut rate, "10.0.0.1", 0, 1000), burst);
        assert_eq!(of(&mut rate, "10.0.0.1", 199, 1000), 0);
        assert_eq!(of(&mut rate, "10.0.0.1", 1000, 1000), 5);
        assert_eq!(of(&mut rate, "10.0.0.2", 1000, 1000), burst, "another address");
        assert_eq!(of(&mut rate, "10.0.0.1", 500, 1000), 0, "a clock that went back");
        assert_eq!(of(&mut rate, "10.0.0.1", 1 << 40, 1000), burst, "after a long silence");
    }

    #[test]
    fn who_forges_an_address_spends_nothing_of_its_owner() {
        let mut rate = Rate::new(1);
        let victim = address("10.0.0.1");
        while rate.take(victim, false, 0) {}
        assert!(rate.take(victim, true, 0));
    }

    #[test]
    fn addresses_of_one_site_are_one() {
        let mut rate = Rate::new(1);
        let burst = CONNECTION_BURST_SECONDS as usize;
        assert_eq!(of(&mut rate, "2001:db8::1", 0, 100), burst);
        assert_eq!(of(&mut rate, "2001:db8::ffff:1", 0, 100), 0);
        assert_eq!(of(&mut rate, "2001:db8:0:1::1", 0, 100), burst);
        assert_eq!(of(&mut rate, "10.0.0.1", 0, 100), burst);
        assert_eq!(of(&mut rate, "::ffff:10.0.0.1", 0, 100), 0, "the same address, written longer");
    }

    #[test]
    fn beyond_the_cap_addresses_share_a_bucket_until_others_are_forgotten() {
        let mut rate = Rate::new(1);
        for n in 0..u32::try_from(RATED_ADDRESSES_MAX).unwrap() {
            assert!(rate.take(IpAddr::V4(n.into()), true, 0));
        }
        let burst = CONNECTION_BURST_SECONDS as usize;
        assert_eq!(of(&mut rate, "200.0.0.1", 1, 6) + of(&mut rate, "200.0.0.2", 1, 100), burst);
        assert_eq!(rate.buckets.len(), RATED_ADDRESSES_MAX);
        assert_eq!(of(&mut rate, "200.0.0.1", 2000, 100), burst, "it has found room");
        assert_eq!(rate.buckets.len(), 1);
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut rate = Rate::new(0);
        assert_eq!(of(&mut rate, "10.0.0.1", 0, 1000), 1000);
        assert!(rate.buckets.is_empty());
    }
}
