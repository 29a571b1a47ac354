//! The rule for listeners: beyond loopback needs real TLS, or an explicit `insecure = true`.
//!
//! A pure function over what the configuration says; it never resolves a name.

use std::net::IpAddr;

/// What protects the bytes of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerLine {
    /// Plain TCP.
    Plaintext,
    /// TLS or QUIC with the certificate that Millpond made for itself at its first start.
    DevelopmentCertificate,
    /// TLS or QUIC with a certificate that the operator gave.
    OperatorCertificate,
}

/// Why a listener may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerStanding {
    /// Only processes of this machine can reach it.
    Loopback,
    /// Reachable from outside, with an operator's certificate.
    Protected,
    /// Reachable from outside without one, because `insecure = true` says so: warn in the log.
    InsecureByWish,
}

/// A listener that must not open as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "listener `{listener}` on {address} can be reached from other machines {lack}; \
     give it `tls.certificate` and `tls.key`, or listen on 127.0.0.1, or accept the risk with \
     `insecure = true`"
)]
pub struct ListenerRefused {
    listener: String,
    address: IpAddr,
    lack: &'static str,
}

/// Decides whether `listener` may open on `address`.
///
/// # Errors
/// [`ListenerRefused`] if the address is reachable from other machines, the line is not
/// protected by an operator's certificate and `insecure` is false.
pub fn check_listener(
    listener: &str,
    address: IpAddr,
    line: ListenerLine,
    insecure: bool,
) -> Result<ListenerStanding, ListenerRefused> {
    let lack = match line {
        _ if address.to_canonical().is_loopback() => return Ok(ListenerStanding::Loopback),
        ListenerLine::OperatorCertificate => return Ok(ListenerStanding::Protected),
        _ if insecure => return Ok(ListenerStanding::InsecureByWish),
        ListenerLine::Plaintext => "in plaintext",
        ListenerLine::DevelopmentCertificate => {
            "with the development certificate, which proves nothing to them"
        }
    };
    Err(ListenerRefused { listener: listener.to_owned(), address, lack })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ListenerLine::{DevelopmentCertificate, OperatorCertificate, Plaintext};

    fn check(
        address: &str,
        line: ListenerLine,
        insecure: bool,
    ) -> Result<ListenerStanding, ListenerRefused> {
        check_listener("kafka", address.parse().unwrap(), line, insecure)
    }

    #[test]
    fn loopback_opens_with_anything() {
        for address in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
            for line in [Plaintext, DevelopmentCertificate, OperatorCertificate] {
                assert_eq!(check(address, line, false), Ok(ListenerStanding::Loopback));
            }
        }
    }

    #[test]
    fn every_other_address_needs_an_operators_certificate() {
        for address in ["0.0.0.0", "::", "192.168.1.5", "10.0.0.1", "fe80::1", "::ffff:10.0.0.1"] {
            assert!(check(address, Plaintext, false).is_err(), "{address}");
            assert!(check(address, DevelopmentCertificate, false).is_err(), "{address}");
            assert_eq!(check(address, OperatorCertificate, false), Ok(ListenerStanding::Protected));
        }
    }

    #[test]
    fn insecure_must_be_said_and_is_reported() {
        assert_eq!(check("0.0.0.0", Plaintext, true), Ok(ListenerStanding::InsecureByWish));
        assert_eq!(check("0.0.0.0", OperatorCertificate, true), Ok(ListenerStanding::Protected));
    }

    #[test]
    fn the_refusal_says_what_to_do() {
        let text = check("0.0.0.0", Plaintext, false).unwrap_err().to_string();
        for part in ["kafka", "0.0.0.0", "tls.certificate", "insecure = true"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
