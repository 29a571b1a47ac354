//! The brokers as clients see them: for each listener the address under which a client of that
//! listener finds each node (Kafka's advertised listeners). What Metadata, FindCoordinator and
//! DescribeCluster answer from.

use std::fmt;
use std::str::FromStr;

use crate::identity::NodeId;

/// Longest host name of DNS (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// A host name or address with a port, as in `gateway.local:9092` or `[::1]:9092`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Without brackets, also for IPv6.
    pub host: String,
    /// The port; never 0 once it is advertised.
    pub port: u16,
}

/// Why a text is no `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not HOST:PORT ({reason}); write for example \"gateway.local:9092\" or \
     \"[::1]:9092\""
)]
pub struct HostPortError {
    text: String,
    reason: &'static str,
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| HostPortError { text: text.to_owned(), reason };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| error("no port"))?;
        let port = port.parse().map_err(|_| error("the port is not a number up to 65535"))?;
        let host = match host.strip_prefix('[') {
            Some(inner) => {
                inner.strip_suffix(']').ok_or_else(|| error("an opening bracket is not closed"))?
            }
            None if host.contains(':') => return Err(error("an IPv6 address needs brackets")),
            None => host,
        };
        if host.is_empty() || host.len() > HOST_BYTES_MAX {
            return Err(error("the host is empty or too long"));
        }
        if host.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
            return Err(error("the host holds a character that no host name has"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One node as one listener's clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Which node.
    pub id: NodeId,
    /// Where clients of the listener reach it.
    pub address: HostPort,
}

/// All brokers, per listener. The order of listeners is the configuration's and is their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brokers {
    own: NodeId,
    per_listener: Vec<Vec<Broker>>,
}

impl Brokers {
    /// A cluster of this node alone, with one advertised address for each listener.
    pub fn alone(own: NodeId, advertised: impl IntoIterator<Item = HostPort>) -> Self {
        let per_listener =
            advertised.into_iter().map(|address| vec![Broker { id: own, address }]).collect();
        Self { own, per_listener }
    }

    /// This node.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// The node that coordinates the cluster; alone, this one.
    pub fn controller(&self) -> NodeId {
        self.own
    }

    /// How many listeners there are.
    pub fn listeners(&self) -> usize {
        self.per_listener.len()
    }

    /// The brokers as clients of a listener see them; empty for a listener that does not exist.
    pub fn of_listener(&self, listener: usize) -> &[Broker] {
        self.per_listener.get(listener).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_round_trip_also_for_ipv6() {
        for text in ["127.0.0.1:9092", "gateway.local:1", "[::1]:9092", "[fe80::1]:65535"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:9092".parse::<HostPort>().unwrap().host, "::1");
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        for (text, reason) in [
            ("localhost", "no port"),
            ("localhost:99999", "not a number"),
            ("::1:9092", "needs brackets"),
            ("[::1:9092", "not closed"),
            (":9092", "empty"),
            ("a b:9092", "character"),
        ] {
            let error = text.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn each_listener_sees_its_own_address() {
        let inside: HostPort = "10.0.0.2:9092".parse().unwrap();
        let outside: HostPort = "gw.example:19092".parse().unwrap();
        let brokers = Brokers::alone(NodeId(1), [inside.clone(), outside.clone()]);
        assert_eq!(brokers.of_listener(0)[0].address, inside);
        assert_eq!(brokers.of_listener(1)[0].address, outside);
        assert!(brokers.of_listener(2).is_empty());
        assert_eq!(brokers.controller(), NodeId(1));
    }
}
