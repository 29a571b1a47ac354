//! Who may connect at all: a cap on all connections, on those from one address, and on how fast those
//! come. Never waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::rate::Rate;
use crate::metrics::Refusal;

/// Counts connections against the caps.
#[derive(Debug)]
pub(crate) struct Admission {
    max: usize,
    per_ip_max: usize,
    /// Addresses with a connection; at most `max` of them, since each holds one at least.
    open: Mutex<Open>,
    per_second_max: u32,
    rate: Mutex<Rate>,
    /// What the rate counts its time from.
    started: Instant,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// Why a connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0} connections are open, which is the limit")]
    Total(usize),
    #[error("{0} connections from this address are open, which is the limit")]
    PerIp(usize),
    #[error("more than {0} connections a second come from this address, which is the limit")]
    Rate(u32),
    #[error("too many connections come from this address by those who may have forged it")]
    Unproved,
}

impl Refused {
    /// As what it is counted.
    pub(crate) fn kind(self) -> Refusal {
        match self {
            Self::Total(_) | Self::PerIp(_) => Refusal::Limit,
            Self::Rate(_) | Self::Unproved => Refusal::Rate,
        }
    }
}

/// A connection that was admitted; its place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    ip: IpAddr,
}

impl Admission {
    /// `per_second_max`: new connections of one address; 0 is no limit.
    pub(crate) fn new(max: usize, per_ip_max: usize, per_second_max: u32) -> Arc<Self> {
        let rate = Mutex::new(Rate::new(per_second_max));
        let (open, started) = (Mutex::default(), Instant::now());
        Arc::new(Self { max, per_ip_max, open, per_second_max, rate, started })
    }

    /// Takes a place for a peer at `ip`; an IPv4 address written as IPv6 counts as the IPv4 one.
    /// `is_proved`: the peer has shown that it is there.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr, is_proved: bool) -> Result<Place, Refused> {
        let ip = ip.to_canonical();
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if !rate.take(ip, is_proved, now_ms) {
            return Err(match is_proved {
                true => Refused::Rate(self.per_second_max),
                false => Refused::Unproved,
            });
        }
        drop(rate);
        let mut open = self.lock();
        if open.total >= self.max {
            return Err(Refused::Total(self.max));
        }
        let of_ip = open.by_ip.entry(ip).or_default();
        if *of_ip >= self.per_ip_max {
            return Err(Refused::PerIp(self.per_ip_max));
        }
        *of_ip += 1;
        open.total += 1;
        Ok(Place { admission: Arc::clone(self), ip })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        open.total = open.total.saturating_sub(1);
        if let Some(of_ip) = open.by_ip.get_mut(&self.ip) {
            *of_ip = of_ip.saturating_sub(1);
            if *of_ip == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_total_and_by_address_and_come_back() {
        let admission = Admission::new(3, 2, 0);
        let a: IpAddr = "10.0.0.1".parse().unwrap();
        let a_as_v6: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let b: IpAddr = "10.0.0.2".parse().unwrap();
        let first = admission.admit(a, true).unwrap();
        let _second = admission.admit(a_as_v6, true).unwrap();
        assert_eq!(admission.admit(a, true).unwrap_err(), Refused::PerIp(2));
        let third = admission.admit(b, true).unwrap();
        assert_eq!(admission.admit(b, true).unwrap_err(), Refused::Total(3));
        drop((first, third));
        let _fourth = admission.admit(a, true).unwrap();
        assert_eq!(admission.lock().by_ip.len(), 1);
    }

    #[test]
    fn who_comes_too_fast_is_refused_and_takes_no_place() {
        let admission = Admission::new(1 << 20, 1 << 20, 1);
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let refused = loop {
            if let Err(refused) = admission.admit(ip, true) {
                break refused;
            }
        };
        assert_eq!((refused, refused.kind()), (Refused::Rate(1), Refusal::Rate));
        assert_eq!(admission.lock().total, 0);
    }
}
