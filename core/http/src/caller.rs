//! What the head of a request says of who asks. Must never decide whether that is true.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Name and password (RFC 7617) as SASL PLAIN sends them; none, where nobody wants to be somebody.
#[must_use]
pub fn credentials(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?;
    let value = value.to_str().unwrap_or_default();
    let encoded = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    // A header that says nothing that is known is a name that is not known.
    let decoded = encoded.and_then(|(_, encoded)| BASE64.decode(encoded.trim()).ok());
    let decoded = decoded.unwrap_or_default();
    let colon = decoded.iter().position(|byte| *byte == b':').unwrap_or(decoded.len());
    let (user, password) = decoded.split_at(colon);
    Some([b"\0", user, b"\0", password.get(1..).unwrap_or_default()].concat())
}

/// Whether a Host header is one that a local client writes. Protects from DNS rebinding.
#[must_use]
pub fn names_local_host(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host else { return true };
    let Ok(host) = host.to_str() else { return false };
    let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    if let Ok(address) = host.parse::<SocketAddr>() {
        return is_loopback(address.ip());
    }
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.trim_end_matches(']'),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gives_a_name_and_a_password_in_the_form_of_plain() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
            credentials(&headers)
        };
        assert_eq!(credentials(&HeaderMap::new()), None);
        let token = BASE64.encode("ann:a:b");
        assert_eq!(of(format!("basic {token}").as_bytes()).unwrap(), b"\0ann\0a:b");
        for nothing in [&b"Bearer x"[..], b"Basic", b"Basic !!", b"Basic \xff"] {
            assert_eq!(of(nothing).unwrap(), b"\0\0", "{nothing:?}: somebody who is not known");
        }
    }

    #[test]
    fn only_local_host_names_are_let_through() {
        for host in
            ["localhost", "LOCALHOST:9644", "127.0.0.1:9644", "127.0.0.1", "[::1]:9644", "[::1]"]
        {
            assert!(names_local_host(Some(&HeaderValue::from_static(host))), "{host}");
        }
        for host in ["evil.example", "evil.example:9644", "10.0.0.1:9644", "localhost.evil.example"]
        {
            assert!(!names_local_host(Some(&HeaderValue::from_static(host))), "{host}");
        }
        assert!(names_local_host(None));
    }
}
