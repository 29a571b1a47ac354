//! What a translator of addresses needs to know of an IPv4 packet, and how to change it: addresses,
//! ports, and the checksums that cover them (RFC 1624). Believes no length that a packet states.

use std::net::SocketAddrV4;

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

const SOURCE_AT: usize = 12;
const DESTINATION_AT: usize = 16;
const HEADER_CHECKSUM_AT: usize = 10;

/// A whole TCP segment or UDP datagram over IPv4.
#[derive(Debug)]
pub struct Packet<'a> {
    bytes: &'a mut [u8],
    /// Where the ports stand.
    ports_at: usize,
    /// Where the checksum of TCP or UDP stands.
    checksum_at: usize,
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

impl<'a> Packet<'a> {
    /// None for everything else: other protocols, fragments, what is cut off.
    pub fn parse(bytes: &'a mut [u8]) -> Option<Packet<'a>> {
        let version_and_length = *bytes.first()?;
        let ports_at = usize::from(version_and_length & 0x0f) * 4;
        let is_fragment = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]) & 0x3fff != 0;
        let (checksum_at, header_bytes) = match *bytes.get(9)? {
            TCP => (ports_at + 16, 20),
            UDP => (ports_at + 6, 8),
            _ => return None,
        };
        let is_whole = ports_at >= 20 && bytes.len() >= ports_at + header_bytes;
        if version_and_length >> 4 != 4 || is_fragment || !is_whole {
            return None;
        }
        Some(Packet { bytes, ports_at, checksum_at })
    }

    /// [`TCP`] or [`UDP`].
    pub fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    /// Address and port of an end.
    pub fn end(&self, end: End) -> SocketAddrV4 {
        let (address_at, port_at) = self.places(end);
        let address: [u8; 4] = std::array::from_fn(|n| self.bytes[address_at + n]);
        SocketAddrV4::new(address.into(), self.word(port_at))
    }

    /// Puts another address and port at an end.
    pub fn set_end(&mut self, end: End, to: SocketAddrV4) {
        let (address_at, port_at) = self.places(end);
        let [a, b, c, d] = to.ip().octets();
        let words = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        for (at, word) in [(address_at, words[0]), (address_at + 2, words[1])] {
            self.replace(at, word, &[HEADER_CHECKSUM_AT, self.checksum_at]);
        }
        self.replace(port_at, to.port(), &[self.checksum_at]);
    }

    fn places(&self, end: End) -> (usize, usize) {
        match end {
            End::Source => (SOURCE_AT, self.ports_at),
            End::Destination => (DESTINATION_AT, self.ports_at + 2),
        }
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn put(&mut self, at: usize, word: u16) {
        self.bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
    }

    /// Changes a word and the checksums that cover it.
    fn replace(&mut self, at: usize, word: u16, covered_by: &[usize]) {
        let before = self.word(at);
        self.put(at, word);
        for checksum_at in covered_by {
            let is_udp = *checksum_at == self.checksum_at && self.protocol() == UDP;
            let checksum = self.word(*checksum_at);
            if is_udp && checksum == 0 {
                continue; // Without a checksum (RFC 768).
            }
            let sum = u32::from(!checksum) + u32::from(!before) + u32::from(word);
            let folded = (sum & 0xffff) + (sum >> 16);
            let folded = (folded & 0xffff) + (folded >> 16);
            let adjusted = !u16::try_from(folded).unwrap_or(u16::MAX);
            self.put(*checksum_at, if is_udp && adjusted == 0 { 0xffff } else { adjusted });
        }
    }
}

#[cfg(test)]
pub(super) mod made {
    //! Packets for tests, with checksums reckoned in full.

    use super::*;

    fn sum(bytes: &[u8]) -> u32 {
        bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b))).sum()
    }

    fn checksum(mut sum: u32) -> u16 {
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// A packet from one place to another.
    pub(in crate::path) fn packet(protocol: u8, from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
        let (from, to): (SocketAddrV4, SocketAddrV4) = (from.parse().unwrap(), to.parse().unwrap());
        let (length, checksum_at) = if protocol == TCP { (20, 36) } else { (8, 26) };
        let mut bytes = vec![0; 20 + length];
        bytes.extend(payload);
        let whole = bytes.len() as u16;
        (bytes[0], bytes[8], bytes[9]) = (0x45, 64, protocol);
        bytes[2..4].copy_from_slice(&whole.to_be_bytes());
        bytes[12..16].copy_from_slice(&from.ip().octets());
        bytes[16..20].copy_from_slice(&to.ip().octets());
        bytes[20..22].copy_from_slice(&from.port().to_be_bytes());
        bytes[22..24].copy_from_slice(&to.port().to_be_bytes());
        if protocol == UDP {
            bytes[24..26].copy_from_slice(&(whole - 20).to_be_bytes());
        }
        let header = checksum(sum(&bytes[..20]));
        bytes[10..12].copy_from_slice(&header.to_be_bytes());
        let pseudo = sum(&bytes[12..20]) + u32::from(protocol) + u32::from(whole - 20);
        let inner = match checksum(pseudo + sum(&bytes[20..])) {
            0 if protocol == UDP => 0xffff,
            inner => inner,
        };
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&inner.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::made::packet;
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn a_changed_end_has_the_checksums_of_a_packet_made_so() {
        let mut dice = Dice::new(11);
        for round in 0..500 {
            let protocol = if round % 2 == 0 { TCP } else { UDP };
            let count = dice.within(0, 40) as usize;
            let payload = dice.bytes(count);
            let mut end = || {
                let [_, a, b, c] = (dice.bits() as u32).to_be_bytes();
                format!("10.{a}.{b}.{c}:{}", dice.within(1, 65_536))
            };
            let (from, to, other) = (end(), end(), end());
            let mut changed = packet(protocol, &from, &to, &payload);
            let mut view = Packet::parse(&mut changed).unwrap();
            assert_eq!(view.end(End::Source).to_string(), from);
            view.set_end(End::Source, other.parse().unwrap());
            assert_eq!(changed, packet(protocol, &other, &to, &payload), "round {round}");
            let mut view = Packet::parse(&mut changed).unwrap();
            view.set_end(End::Destination, from.parse().unwrap());
            assert_eq!(changed, packet(protocol, &other, &from, &payload), "round {round}");
        }
    }

    #[test]
    fn what_is_no_whole_packet_of_tcp_or_udp_is_told_apart() {
        let whole = packet(UDP, "10.0.0.1:1", "10.0.0.2:2", b"");
        for length in 0..whole.len() {
            assert!(Packet::parse(&mut whole[..length].to_vec()).is_none(), "{length} bytes");
        }
        let changed = |at: usize, to: u8| {
            let mut bytes = whole.clone();
            bytes[at] = to;
            Packet::parse(&mut bytes).is_none()
        };
        assert!(changed(0, 0x65) && changed(0, 0x44) && changed(0, 0x4f), "version and length");
        assert!(changed(6, 0x20) && changed(7, 1) && changed(9, 1), "fragments and ICMP");
        assert!(!changed(6, 0x40), "do not fragment");
    }
}
