//! A translator of addresses as at the edge of a home or a mobile network, and its forgetting: after
//! [`Nat::rebind`] the same flows go on under another address and other ports. Pure.
//!
//! What comes for an address or port that it has forgotten is dropped, as is everything that is
//! neither TCP nor UDP. Never holds more than [`FLOWS_MAX`] flows.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::packet::{End, Packet};

/// Flows at a time; more get no port.
const FLOWS_MAX: usize = 4_096;
const PORT_FIRST: u16 = 20_000;
/// Addresses are taken in turn from so many after [`Nat::BASE`].
const ADDRESSES: u32 = 60_000;

type Inner = (u8, SocketAddrV4);

/// The translator.
#[derive(Debug)]
pub struct Nat {
    times: u32,
    next_port: u16,
    out: HashMap<Inner, u16>,
    back: HashMap<(u8, u16), SocketAddrV4>,
}

impl Default for Nat {
    fn default() -> Nat {
        Nat { times: 0, next_port: PORT_FIRST, out: HashMap::new(), back: HashMap::new() }
    }
}

impl Nat {
    /// Its addresses come after this one.
    pub const BASE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 0);

    /// The address that the world sees.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(Self::BASE.to_bits() + 1 + self.times % ADDRESSES)
    }

    /// Forgets every flow and takes the next address.
    pub fn rebind(&mut self) {
        self.times = self.times.wrapping_add(1);
        self.out.clear();
        self.back.clear();
    }

    /// A packet of the device on its way out; false: it goes nowhere.
    pub fn outgoing(&mut self, bytes: &mut [u8]) -> bool {
        let Some(mut packet) = Packet::parse(bytes) else { return false };
        let Some(port) = self.port((packet.protocol(), packet.end(End::Source))) else {
            return false;
        };
        packet.set_end(End::Source, SocketAddrV4::new(self.address(), port));
        true
    }

    /// A packet on its way to the device; false: nobody knows whose it is.
    pub fn incoming(&mut self, bytes: &mut [u8]) -> bool {
        let Some(mut packet) = Packet::parse(bytes) else { return false };
        let to = packet.end(End::Destination);
        let inner = self.back.get(&(packet.protocol(), to.port()));
        match inner.filter(|_| *to.ip() == self.address()) {
            Some(inner) => packet.set_end(End::Destination, *inner),
            None => return false,
        }
        true
    }

    fn port(&mut self, inner: Inner) -> Option<u16> {
        if let Some(port) = self.out.get(&inner) {
            return Some(*port);
        }
        if self.out.len() >= FLOWS_MAX {
            return None;
        }
        // Never more flows than ports, so one is free.
        while self.back.contains_key(&(inner.0, self.next_port)) {
            self.next_port = self.next_port.checked_add(1).unwrap_or(PORT_FIRST);
        }
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(PORT_FIRST);
        self.out.insert(inner, port);
        self.back.insert((inner.0, port), inner.1);
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::made::packet;
    use super::super::packet::{TCP, UDP};
    use super::*;

    const DEVICE: &str = "10.77.0.2:5000";
    const GATEWAY: &str = "10.77.1.1:9092";

    /// Where the gateway sees a packet of the device come from.
    fn seen(nat: &mut Nat, protocol: u8, from: &str) -> String {
        let mut bytes = packet(protocol, from, GATEWAY, b"x");
        assert!(nat.outgoing(&mut bytes));
        Packet::parse(&mut bytes).unwrap().end(End::Source).to_string()
    }

    #[test]
    fn an_answer_finds_its_way_back() {
        let mut nat = Nat::default();
        let outside = seen(&mut nat, UDP, DEVICE);
        let mut answer = packet(UDP, GATEWAY, &outside, b"y");
        assert!(nat.incoming(&mut answer));
        assert_eq!(answer, packet(UDP, GATEWAY, DEVICE, b"y"));
    }

    #[test]
    fn a_flow_keeps_its_port_and_shares_it_with_no_other() {
        let mut nat = Nat::default();
        let first = seen(&mut nat, UDP, DEVICE);
        let other = seen(&mut nat, UDP, "10.77.0.2:5001");
        let tcp = seen(&mut nat, TCP, DEVICE);
        assert_eq!(seen(&mut nat, UDP, DEVICE), first);
        assert!(first != other && other != tcp && tcp != first);
    }

    #[test]
    fn after_rebinding_a_flow_has_another_address_and_port_and_the_old_ones_lead_nowhere() {
        let mut nat = Nat::default();
        let before = seen(&mut nat, UDP, DEVICE);
        nat.rebind();
        assert!(!nat.incoming(&mut packet(UDP, GATEWAY, &before, b"late")));
        let after = seen(&mut nat, UDP, DEVICE);
        let split = |text: &str| text.parse::<SocketAddrV4>().unwrap();
        assert_ne!(split(&before).ip(), split(&after).ip());
        assert_ne!(split(&before).port(), split(&after).port());
        assert!(nat.incoming(&mut packet(UDP, GATEWAY, &after, b"new")));
        assert!(!nat.incoming(&mut packet(UDP, GATEWAY, &before, b"later still")));
    }

    #[test]
    fn flows_have_an_end() {
        let mut nat = Nat::default();
        for n in 0..FLOWS_MAX {
            seen(&mut nat, UDP, &format!("10.77.{}.{}:7", n / 250, n % 250));
        }
        assert!(!nat.outgoing(&mut packet(UDP, DEVICE, GATEWAY, b"one too many")));
    }
}
