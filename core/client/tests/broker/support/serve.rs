//! The lines of the fake broker: TCP, TLS, QUIC.

use super::State;
use super::answers::{Reply, answer};
use bytes::Bytes;
use millpond_client::Scheme;
use millpond_wire::frame::{
    FrameDecoder, RequestError, decode_request, encode_response, unsupported_api_versions_response,
};
use millpond_wire::{ApiKey, limits};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub(crate) fn tls(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"kafka".to_vec()];
    Arc::new(config)
}

pub(crate) async fn listen(
    scheme: Scheme,
    tls: Arc<rustls::ServerConfig>,
    state: Arc<Mutex<State>>,
) -> (SocketAddr, AbortHandle) {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    if scheme == Scheme::Quic {
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let endpoint = quinn::Endpoint::server(config, any).unwrap();
        let address = endpoint.local_addr().unwrap();
        return (address, tokio::spawn(accept_quic(endpoint, state)).abort_handle());
    }
    let listener = TcpListener::bind(any).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = (scheme == Scheme::Tls).then(|| tokio_rustls::TlsAcceptor::from(tls));
    (address, tokio::spawn(accept_tcp(listener, tls, state)).abort_handle())
}

async fn accept_tcp(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    state: Arc<Mutex<State>>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            match tls {
                None => serve(stream, state).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn accept_quic(endpoint: quinn::Endpoint, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let Ok(connection) = incoming.await else { return };
            let mut streams = tokio::task::JoinSet::new();
            while let Ok((write, read)) = connection.accept_bi().await {
                streams.spawn(serve(tokio::io::join(read, write), Arc::clone(&state)));
            }
        });
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, state: Arc<Mutex<State>>) {
    state.lock().unwrap().connections += 1;
    let mut frames = FrameDecoder::with_caps(limits::FRAME_BYTES_MAX, limits::FRAME_BYTES_MAX);
    loop {
        match stream.read_buf(frames.space()).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        while let Ok(Some(frame)) = frames.next_frame() {
            match respond(frame, &state).await {
                Some(Some(bytes)) => {
                    for chunk in bytes {
                        if stream.write_all(&chunk).await.is_err() {
                            return;
                        }
                    }
                    let _ = stream.flush().await;
                }
                Some(None) => {}
                None => return,
            }
        }
    }
}

/// The response; `Some(None)`: none is given; `None`: the connection ends.
async fn respond(frame: Bytes, state: &Arc<Mutex<State>>) -> Option<Option<Vec<Bytes>>> {
    let (header, request) = match decode_request(frame) {
        Ok(read) => read,
        Err(RequestError::UnsupportedVersion {
            api: ApiKey::ApiVersions, correlation_id, ..
        }) => {
            return Some(Some(unsupported_api_versions_response(correlation_id)));
        }
        Err(_) => return None,
    };
    if header.api == ApiKey::ApiVersions && header.version > 2 && state.lock().unwrap().is_old {
        return Some(Some(unsupported_api_versions_response(header.correlation_id)));
    }
    match answer(request, header.version, state).await {
        Reply::Response(response) => {
            Some(Some(encode_response(header.version, header.correlation_id, &response).unwrap()))
        }
        Reply::Nothing => Some(None),
        Reply::Close => None,
    }
}
