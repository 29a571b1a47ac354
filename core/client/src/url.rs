//! Where a broker is and how to reach it: `millpond://host:port`, `quic://host:port`,
//! `tls://host:port`, `tcp://host:port`, or `host:port` (which means TCP, as in every Kafka client).
//!
//! Parsing only; it never resolves a name.

use std::fmt;
use std::str::FromStr;

/// The port of Kafka, and of Millpond over QUIC.
pub const DEFAULT_PORT: u16 = 9092;

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// The Kafka protocol over plain TCP.
    Tcp,
    /// The Kafka protocol over TLS 1.3 over TCP.
    Tls,
    /// The Kafka protocol over QUIC (RFC 9000), ALPN `kafka`.
    Quic,
    /// QUIC where UDP passes, else TLS over TCP, at the same port.
    Either,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Either => "millpond",
        })
    }
}

/// One broker's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    /// How to reach it.
    pub scheme: Scheme,
    /// A DNS name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]:{}", self.scheme, self.host, self.port)
        } else {
            write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
        }
    }
}

/// A text that is no broker address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a broker address ({reason}); write quic://host:port, tls://host:port, \
     tcp://host:port, or millpond://host:port for QUIC where UDP passes and TLS where it does not"
)]
pub struct UrlError {
    text: String,
    reason: &'static str,
}

impl FromStr for BrokerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        parse(text.trim())
            .map_err(|reason| UrlError { text: text.chars().take(200).collect(), reason })
    }
}

/// Parses a comma-separated list of brokers, as Kafka's `bootstrap.servers`.
///
/// # Errors
/// If it is empty, or one of its parts is no address, or the schemes are mixed.
pub fn parse_bootstrap(text: &str) -> Result<Vec<BrokerUrl>, UrlError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let urls: Vec<BrokerUrl> = parts.map(str::parse).collect::<Result<_, _>>()?;
    let fault = |reason| UrlError { text: text.chars().take(200).collect(), reason };
    let scheme = urls.first().ok_or_else(|| fault("it is empty"))?.scheme;
    if urls.iter().any(|url| url.scheme != scheme) {
        return Err(fault("all brokers of a list must use the same scheme"));
    }
    Ok(urls)
}

fn parse(text: &str) -> Result<BrokerUrl, &'static str> {
    let (scheme, rest) = match text.split_once("://") {
        None => (Scheme::Tcp, text),
        Some(("tcp" | "kafka", rest)) => (Scheme::Tcp, rest),
        Some(("tls" | "ssl", rest)) => (Scheme::Tls, rest),
        Some(("quic", rest)) => (Scheme::Quic, rest),
        Some(("millpond", rest)) => (Scheme::Either, rest),
        Some(_) => return Err("the scheme is unknown"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = split_port(rest)?;
    if host.is_empty() || host.contains(['/', '@', '[', ']', ' ']) {
        return Err("the host is missing or has characters that no host has");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err("the port is not a number from 1 to 65535"),
            Ok(port) => port,
        },
    };
    Ok(BrokerUrl { scheme, host: host.to_owned(), port })
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(inside) = text.strip_prefix('[') {
        let (host, after) = inside.split_once(']').ok_or("a bracket is not closed")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("something other than a port follows the bracket"),
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((_, port)) if port.contains(':') => Err("an IPv6 address needs [brackets]"),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_address_is_read() {
        let cases = [
            ("quic://127.0.0.1:9093", "quic://127.0.0.1:9093"),
            ("tls://gateway.local", "tls://gateway.local:9092"),
            ("tcp://[::1]:1", "tcp://[::1]:1"),
            ("localhost:9092", "tcp://localhost:9092"),
            ("millpond://gateway.local:9094", "millpond://gateway.local:9094"),
            ("[fe80::1]", "tcp://[fe80::1]:9092"),
            ("quic://host:9092/", "quic://host:9092"),
        ];
        for (text, meaning) in cases {
            assert_eq!(text.parse::<BrokerUrl>().unwrap().to_string(), meaning);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for text in ["", "http://a:1", "quic://", "a:0", "a:65536", "a:b", "::1", "[::1", "[::1]x"]
        {
            let error = text.parse::<BrokerUrl>().unwrap_err().to_string();
            assert!(error.contains("write quic://"), "{error}");
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_one_scheme() {
        let urls = parse_bootstrap("quic://a:1, quic://b:2,").unwrap();
        assert_eq!(urls.len(), 2);
        assert_eq!(urls[1].host, "b");
        assert!(parse_bootstrap("quic://a:1,b:2").is_err());
        assert!(parse_bootstrap(" , ").is_err());
    }
}
