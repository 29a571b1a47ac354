//! For tests: an engine that answers at will, and a client's end of a connection.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use millpond_engine::{ListenerId, LoginRefused, SessionId};
use millpond_wire::frame::encode_request;
use millpond_wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, HeartbeatRequest, Request, Response,
};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::connection::Ending;
use super::{Call, EngineGone, Gateway, Logins, Offer, Shown, Wiring, serve_connection};
use crate::config::Limits;
use crate::metrics::{ConnectionKind, Counters};

/// Passes calls to the test.
#[derive(Clone)]
pub(super) struct TestEngine {
    calls: mpsc::UnboundedSender<Call>,
    closed: Arc<Mutex<Vec<SessionId>>>,
}

impl Gateway for TestEngine {
    async fn submit(&self, call: Call) -> Result<(), EngineGone> {
        self.calls.send(call).map_err(|_| EngineGone)
    }

    async fn close(&self, session: SessionId) {
        self.closed.lock().unwrap().push(session);
    }

    async fn refused(&self, _: LoginRefused) {}
}

/// A connection under test: the peer's end of the line, and what reaches the engine.
pub(super) struct Rig {
    pub(super) line: DuplexStream,
    pub(super) calls: mpsc::UnboundedReceiver<Call>,
    pub(super) closed: Arc<Mutex<Vec<SessionId>>>,
    pub(super) served: JoinHandle<Ending>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) wiring: Arc<Wiring>,
}

/// Serves one connection with these limits.
pub(super) fn rig(limits: &Limits) -> Rig {
    rig_with(limits, None)
}

/// The same at a listener that asks who is there.
pub(super) fn rig_with(limits: &Limits, offer: Option<Offer>) -> Rig {
    rig_shown(limits, offer, Shown::default())
}

/// The same of a peer of which something is known.
pub(super) fn rig_shown(limits: &Limits, offer: Option<Offer>, shown: Shown) -> Rig {
    static PORT: AtomicU64 = AtomicU64::new(0);
    let (calls, received) = mpsc::unbounded_channel();
    let engine = TestEngine { calls, closed: Arc::default() };
    let closed = Arc::clone(&engine.closed);
    let (stop, stopped) = watch::channel(false);
    let logins = Logins::new(vec![offer]).unwrap();
    let wiring = Arc::new(Wiring::new(limits, logins, Arc::new(Counters::default()), stopped));
    let port = u16::try_from(PORT.fetch_add(1, Relaxed) % 60_000).unwrap();
    let who = wiring.who(ListenerId(0), ([127, 0, 0, 1], port).into(), ConnectionKind::Tcp);
    let (line, ours) = tokio::io::duplex(1 << 20);
    let (reader, writer) = tokio::io::split(ours);
    let served =
        tokio::spawn(serve_connection(reader, writer, who, shown, engine, Arc::clone(&wiring)));
    Rig { line, calls: received, closed, served, stop, wiring }
}

/// An ApiVersions request as bytes.
pub(super) fn api_versions(correlation_id: i32) -> Vec<u8> {
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    flatten(
        &encode_request(3, correlation_id, Some("test"), &Request::ApiVersions(request)).unwrap(),
    )
}

/// A request with a body as large as wished.
pub(super) fn large(correlation_id: i32, bytes: usize) -> Vec<u8> {
    let request =
        HeartbeatRequest { group_id: "g".repeat(bytes.min(30_000)), ..Default::default() };
    let mut frame =
        flatten(&encode_request(0, correlation_id, None, &Request::Heartbeat(request)).unwrap());
    // Bytes after the body are ignored, as Kafka does.
    let padding = (bytes + 4).saturating_sub(frame.len());
    frame.resize(frame.len() + padding, 0);
    let length = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// The answer to an ApiVersions request.
pub(super) fn answer() -> Option<Response> {
    Some(Response::ApiVersions(ApiVersionsResponse::default()))
}

/// Reads one frame and gives its correlation id and the rest.
pub(super) async fn read_frame(line: &mut DuplexStream) -> std::io::Result<(i32, Vec<u8>)> {
    let length = line.read_i32().await?;
    let correlation_id = line.read_i32().await?;
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    line.read_exact(&mut body).await?;
    Ok((correlation_id, body))
}

pub(super) fn flatten(frame: &[Bytes]) -> Vec<u8> {
    frame.iter().flatten().copied().collect()
}
