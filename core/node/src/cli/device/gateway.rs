//! The way from a device to its gateway: HTTPS whose server must show the authority that the device was told of, or HTTP,
//! where nothing is secret and what is answered is checked. One request a connection, small and bounded in
//! time. Must never believe an authority that was not pinned.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use millpond_client::Trust;
use millpond_security::Fingerprint;
use millpond_wire::limits::HTTP_BODY_BYTES_MAX;
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::HttpClient;
use super::CliError;

const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway's address.
pub(super) enum Gateway {
    Http(HttpClient),
    Https { host: String, port: u16, pinned: Fingerprint },
}

impl Gateway {
    pub(super) fn new(url: &str, pinned: Fingerprint) -> Result<Self, CliError> {
        let wrong = || CliError::usage("--gateway: write https://HOST:PORT or http://HOST:PORT");
        if url.starts_with("http://") {
            return Ok(Self::Http(HttpClient::new(url)));
        }
        let place = url.strip_prefix("https://").ok_or_else(wrong)?.trim_end_matches('/');
        let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self::Https { host, port: port.parse().map_err(|_| wrong())?, pinned })
    }

    /// Sends JSON and reads JSON.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::failed(e.to_string()))?;
        match self {
            Self::Http(http) => http.post_bytes(path, ("content-type", "application/json"), &body),
            Self::Https { host, port, pinned } => {
                let answer = exchange(host, *port, *pinned, path, &body);
                let answer = answer.map_err(|e| {
                    CliError::failed(format!("https://{host}:{port}: {e}"))
                        .hint(
                            "is it the address of [devices], and a name in the node's server.pem?",
                        )
                        .for_now()
                })?;
                read(&answer)
            }
        }
    }
}

fn exchange(
    host: &str,
    port: u16,
    pinned: Fingerprint,
    path: &str,
    body: &[u8],
) -> io::Result<Vec<u8>> {
    let mut places = (host, port).to_socket_addrs()?;
    let place = places.next().ok_or_else(|| io::Error::other("the name has no address"))?;
    let stream = TcpStream::connect_timeout(&place, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let trust = Trust::Authority(millpond_client::Fingerprint(pinned.to_bytes()));
    let mut config = (*trust.tls(None).map_err(io::Error::other)?).clone();
    config.alpn_protocols.clear();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut line = StreamOwned::new(tls, stream);
    write!(
        line,
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    line.write_all(body)?;
    line.flush()?;
    let mut answer = Vec::new();
    match line.take(HTTP_BODY_BYTES_MAX as u64).read_to_end(&mut answer) {
        // Whether all is there, its length says.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(answer),
    }
}

/// Status, headers and body of a whole answer.
fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, CliError> {
    let torn = || CliError::failed("the gateway's answer is not whole").for_now();
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").ok_or_else(torn)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| torn())?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()).ok_or_else(torn)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = &answer[end + 4..];
    if length != Some(body.len()) {
        return Err(torn());
    }
    if status == 200 {
        return serde_json::from_slice(body)
            .map_err(|e| CliError::failed(format!("the gateway answered something else: {e}")));
    }
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = said.as_ref().and_then(|v| v.get("error")?.as_str()).unwrap_or("no reason given");
    let error = CliError::failed(format!("the gateway answered {status}: {said}"));
    Err(if matches!(status, 429 | 503) { error.for_now() } else { error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_or_none_and_say_what_the_gateway_said() {
        let good = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\"a\"";
        assert_eq!(read::<String>(good).unwrap(), "a");
        for cut in 0..good.len() {
            assert!(read::<String>(&good[..cut]).is_err(), "{cut}");
        }
        let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 13\r\n\r\n{\"error\":\"x\"}";
        let error = read::<String>(refused).unwrap_err();
        assert!(error.to_string().contains("403: x") && !error.is_for_now(), "{error}");
    }

    #[test]
    fn a_gateway_is_named_by_its_url() {
        let pinned = Fingerprint::from_bytes([0; 32]);
        let gateway = |url: &str| Gateway::new(url, pinned);
        assert!(
            matches!(gateway("https://[::1]:9645/"), Ok(Gateway::Https { host, port: 9645, .. }) if host == "::1")
        );
        assert!(matches!(gateway("http://gw:9644"), Ok(Gateway::Http(_))));
        for wrong in ["gw:9645", "https://gw", "ftp://gw:1", "https://gw:x"] {
            assert!(gateway(wrong).is_err(), "{wrong}");
        }
    }
}
