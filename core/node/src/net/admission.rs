//! Who may connect at all: a cap on all connections and on those from one address. Never waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections against the caps.
#[derive(Debug)]
pub(crate) struct Admission {
    max: usize,
    per_ip_max: usize,
    /// Addresses with a connection; at most `max` of them, since each holds one at least.
    open: Mutex<Open>,
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
}

/// A connection that was admitted; its place is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    ip: IpAddr,
}

impl Admission {
    pub(crate) fn new(max: usize, per_ip_max: usize) -> Arc<Self> {
        Arc::new(Self { max, per_ip_max, open: Mutex::default() })
    }

    /// Takes a place for a peer at `ip`; an IPv4 address written as IPv6 counts as the IPv4 one.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<Place, Refused> {
        let ip = ip.to_canonical();
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
        let admission = Admission::new(3, 2);
        let a: IpAddr = "10.0.0.1".parse().unwrap();
        let a_as_v6: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let b: IpAddr = "10.0.0.2".parse().unwrap();
        let first = admission.admit(a).unwrap();
        let _second = admission.admit(a_as_v6).unwrap();
        assert_eq!(admission.admit(a).unwrap_err(), Refused::PerIp(2));
        let third = admission.admit(b).unwrap();
        assert_eq!(admission.admit(b).unwrap_err(), Refused::Total(3));
        drop((first, third));
        let _fourth = admission.admit(a).unwrap();
        assert_eq!(admission.lock().by_ip.len(), 1);
    }
}
