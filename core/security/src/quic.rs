//! What a QUIC endpoint must remember across a restart: the key of its stateless resets.
//!
//! A broker that is killed and started again knows nothing of its connections. With a key that
//! follows from its identity it can still tell its old peers so (RFC 9000, section 10.3): they dial
//! anew at once instead of waiting for their idle timeout. It never puts secret bytes on the wire:
//! tokens are HMACs, and connection ids are random.

use crate::identity::{Identity, provider};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use rustls::crypto::SecureRandom;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a connection id: enough that none is ever met twice.
const CONNECTION_ID_BYTES: usize = 8;
/// Block of SHA-256 (FIPS 180-4), for HMAC.
const BLOCK_BYTES: usize = 64;
const DIGEST_BYTES: usize = 32;
/// What makes this key another one than any other that is derived from an identity.
const LABEL: &[u8] = b"millpond quic stateless reset";

/// The endpoint configuration of a QUIC listener with `identity`: after a restart with the same
/// identity, peers of the run before are told that their connections are gone.
pub fn quic_endpoint_config(identity: &Identity) -> EndpointConfig {
    let secret = hmac(identity.key().secret_der(), LABEL);
    let mut config = EndpointConfig::new(Arc::new(ResetKey(secret)));
    config.cid_generator(|| Box::new(RandomIds(provider().secure_random)));
    config
}

/// HMAC-SHA256 (RFC 2104).
struct ResetKey([u8; DIGEST_BYTES]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let signature = hmac(&self.0, data);
        for (out, byte) in signature_out.iter_mut().zip(signature) {
            *out = byte;
        }
    }

    fn signature_len(&self) -> usize {
        DIGEST_BYTES
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = hmac(&self.0, data);
        let differing = expected.iter().zip(signature).fold(0, |all, (a, b)| all | (a ^ b));
        match differing == 0 && signature.len() == DIGEST_BYTES {
            true => Ok(()),
            false => Err(CryptoError),
        }
    }
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut block = [0_u8; BLOCK_BYTES];
    match key.len() <= BLOCK_BYTES {
        true => block.iter_mut().zip(key).for_each(|(b, k)| *b = *k),
        false => block.iter_mut().zip(Sha256::digest(key)).for_each(|(b, k)| *b = k),
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(data).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

/// Random connection ids, none of which is refused as foreign: one of the run before is to be
/// answered with a reset.
struct RandomIds(&'static dyn SecureRandom);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        if self.0.fill(&mut id).is_err() {
            // Never seen on Linux; a repeated id only costs the connection that has it.
            tracing::error!("the system has no randomness for a QUIC connection id");
        }
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{development_certificate, server_tls};
    use quinn::crypto::rustls::QuicServerConfig;
    use quinn::{ConnectionError, Endpoint, ServerConfig, TokioRuntime};
    use rustls::RootCertStore;
    use std::net::UdpSocket;

    /// RFC 4231, test cases 1 and 6.
    #[test]
    fn hmac_gives_the_published_answers() {
        let hex = |bytes: [u8; 32]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(hmac(&[0x0b; 20], b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hex(hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    fn serve(identity: &Identity, socket: UdpSocket) -> Endpoint {
        let crypto = QuicServerConfig::try_from(server_tls(identity, None).unwrap()).unwrap();
        let config = ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = quic_endpoint_config(identity);
        Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime)).unwrap()
    }

    fn client(identity: &Identity) -> Endpoint {
        let mut roots = RootCertStore::empty();
        roots.add(identity.chain()[0].clone()).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![crate::ALPN_KAFKA.to_vec()];
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let mut client = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        client.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        client
    }

    /// The broker is killed: its socket stays, so that the second run gets the same address, and
    /// its first endpoint is cut off from it without a word to anybody.
    #[tokio::test]
    async fn peers_of_a_killed_broker_are_told_by_the_next_run() {
        let directory = tempfile::tempdir().unwrap();
        let identity = development_certificate(directory.path(), &[]).unwrap().identity;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let first = serve(&identity, socket.try_clone().unwrap());
        let accepting = {
            let first = first.clone();
            tokio::spawn(async move { first.accept().await.unwrap().await.unwrap() })
        };
        let client = client(&identity);
        let line = client.connect(address, "localhost").unwrap().await.unwrap();
        let _kept_open = accepting.await.unwrap();
        first.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();

        let second = serve(&identity, socket);
        let (mut write, _read) = line.open_bi().await.unwrap();
        write.write_all(&[0; 1_000]).await.unwrap();
        assert_eq!(line.closed().await, ConnectionError::Reset);
        drop(second);
    }
}
