//! What a client keeps of the brokers that it has reached over QUIC, so that a device that slept delivers with its
//! first packets (0-RTT): the TLS session, the address, the versions. One session is used once, for one dial.
//!
//! A broker may refuse such packets (it was restarted, it has forgotten the session); then it has seen nothing of
//! them, and they are sent again on the same connection, in their order, before anything else. Must never show a
//! session to another broker, nor send early what is more than asking or delivering.

use crate::connection::Versions;
use crate::url::BrokerUrl;
use bytes::{Bytes, BytesMut};
use millpond_wire::limits::{CLIENT_EARLY_BYTES_MAX, CLIENT_RESUMED_BROKERS_MAX};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, RecvStream, SendStream, TransportConfig, VarInt, ZeroRttAccepted};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::timeout;

/// Sessions kept of one broker; it gives one at a time.
const SESSIONS: usize = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Resumption {
    tls: Arc<rustls::ClientConfig>,
    transport: Arc<TransportConfig>,
    /// For a broker that found no room, and where no early data is wished: nothing is resumed early.
    plain: quinn::ClientConfig,
    is_wished: bool,
    known: Mutex<HashMap<BrokerUrl, Known>>,
}

#[derive(Debug)]
struct Known {
    config: quinn::ClientConfig,
    /// Where the broker answered last: only there something is sent before it answers.
    address: Option<SocketAddr>,
    /// What it spoke when its session began.
    versions: Option<Arc<Versions>>,
}

impl Resumption {
    /// `is_wished`: early data may be sent.
    pub(crate) fn new(
        tls: Arc<rustls::ClientConfig>,
        transport: TransportConfig,
        is_wished: bool,
    ) -> Result<Self, String> {
        let transport = Arc::new(transport);
        let plain = over(Arc::clone(&tls), &transport)?;
        Ok(Self { tls, transport, plain, is_wished, known: Mutex::default() })
    }

    /// How to dial a broker, and whether something may be sent before it answers.
    pub(crate) fn dial(
        &self,
        broker: &BrokerUrl,
        address: SocketAddr,
    ) -> (quinn::ClientConfig, bool) {
        let mut known = self.known();
        if !self.is_wished
            || (known.len() >= CLIENT_RESUMED_BROKERS_MAX && !known.contains_key(broker))
        {
            return (self.plain.clone(), false);
        }
        if let Some(known) = known.get(broker) {
            return (known.config.clone(), known.address == Some(address));
        }
        let mut tls = (*self.tls).clone();
        tls.enable_early_data = true;
        tls.resumption = rustls::client::Resumption::in_memory_sessions(SESSIONS);
        let Ok(config) = over(Arc::new(tls), &self.transport) else {
            return (self.plain.clone(), false);
        };
        let new = Known { config: config.clone(), address: None, versions: None };
        known.insert(broker.clone(), new);
        (config, false)
    }

    /// A broker answered, and makes a new session: what it spoke before may be outdated.
    pub(crate) fn began(&self, broker: &BrokerUrl, address: SocketAddr) {
        if let Some(known) = self.known().get_mut(broker) {
            (known.address, known.versions) = (Some(address), None);
        }
    }

    /// What a broker speaks.
    pub(crate) fn learned(&self, broker: &BrokerUrl, versions: &Arc<Versions>) {
        if let Some(known) = self.known().get_mut(broker) {
            known.versions = Some(Arc::clone(versions));
        }
    }

    /// What a broker spoke when the session that it has taken up began.
    pub(crate) fn versions(&self, broker: &BrokerUrl) -> Option<Arc<Versions>> {
        self.known().get(broker)?.versions.clone()
    }

    /// The broker knows nothing of the session.
    fn was_refused(&self, broker: &BrokerUrl) {
        if let Some(known) = self.known().get_mut(broker) {
            known.versions = None;
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<BrokerUrl, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over(
    tls: Arc<rustls::ClientConfig>,
    transport: &Arc<TransportConfig>,
) -> Result<quinn::ClientConfig, String> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| error.to_string())?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::clone(transport));
    Ok(config)
}

/// Whether the broker takes what was sent before its answer; `None`: it has not answered.
#[derive(Clone, Debug)]
pub(crate) struct Gate(watch::Receiver<Option<bool>>);

impl Gate {
    /// Watches over a connection; gives it up if the broker does not answer `within` some time.
    pub(crate) fn watch(
        resumption: &Arc<Resumption>,
        broker: &BrokerUrl,
        connection: &Connection,
        accepted: ZeroRttAccepted,
        within: Duration,
    ) -> Self {
        let (decide, decided) = watch::channel(None);
        let (resumption, broker) = (Arc::downgrade(resumption), broker.clone());
        let connection = connection.clone();
        tokio::spawn(async move {
            let accepted = timeout(within, accepted).await.unwrap_or_else(|_| {
                connection.close(VarInt::from_u32(0), b"no answer");
                false
            });
            if !accepted && let Some(resumption) = resumption.upgrade() {
                resumption.was_refused(&broker);
            }
            tracing::debug!(%broker, accepted, "early data");
            decide.send_replace(Some(accepted));
        });
        Self(decided)
    }

    fn decided(&self) -> Option<bool> {
        *self.0.borrow()
    }

    /// Waits for the answer.
    pub(crate) async fn answer(&mut self) -> bool {
        // Who watches always decides, unless the runtime ends.
        self.0.wait_for(Option::is_some).await.is_ok_and(|accepted| *accepted == Some(true))
    }
}

/// The writing side of a lane that was opened before the broker answered.
#[derive(Debug)]
pub(crate) struct EarlyWrite {
    gate: Gate,
    sending: Arc<tokio::sync::Mutex<Sending>>,
}

/// The reading side; it is also the one that sends again what was refused.
#[derive(Debug)]
pub(crate) struct EarlyRead {
    stream: RecvStream,
    /// Until the answer is known.
    undecided: Option<(Gate, Connection)>,
    sending: Arc<tokio::sync::Mutex<Sending>>,
}

#[derive(Debug)]
struct Sending {
    stream: SendStream,
    /// What was sent before the answer; nothing once that is known.
    sent: Vec<Bytes>,
    sent_bytes: usize,
    is_decided: bool,
}

impl Sending {
    fn decided(&mut self) {
        (self.sent, self.sent_bytes, self.is_decided) = (Vec::new(), 0, true);
    }
}

/// A lane over a stream that was opened before the broker answered.
pub(crate) fn early_lane(
    connection: Connection,
    gate: Gate,
    (write, read): (SendStream, RecvStream),
) -> (EarlyRead, EarlyWrite) {
    let sending = Sending { stream: write, sent: Vec::new(), sent_bytes: 0, is_decided: false };
    let sending = Arc::new(tokio::sync::Mutex::new(sending));
    let undecided = Some((gate.clone(), connection));
    let reader = EarlyRead { stream: read, undecided, sending: Arc::clone(&sending) };
    (reader, EarlyWrite { gate, sending })
}

impl EarlyWrite {
    /// Waits until the broker has answered.
    pub(crate) async fn confirmed(&mut self) {
        self.gate.answer().await;
    }

    /// Writes all of `chunks`, or keeps them for the reading side to send.
    pub(crate) async fn write_all(&mut self, chunks: &mut [Bytes]) -> io::Result<()> {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        if self.gate.decided().is_none() {
            let sent_bytes = self.sending.lock().await.sent_bytes;
            if sent_bytes.saturating_add(bytes) > CLIENT_EARLY_BYTES_MAX {
                self.confirmed().await;
            }
        }
        let mut sending = self.sending.lock().await;
        let decided = self.gate.decided();
        if decided == Some(true) && !sending.is_decided {
            sending.decided();
        }
        if sending.is_decided {
            return Ok(sending.stream.write_all_chunks(chunks).await?);
        }
        sending.sent.extend_from_slice(chunks);
        sending.sent_bytes = sending.sent_bytes.saturating_add(bytes);
        if decided.is_some() {
            return Ok(());
        }
        match sending.stream.write_all_chunks(chunks).await {
            Ok(()) | Err(quinn::WriteError::ZeroRttRejected) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl EarlyRead {
    /// Reads what is there into `buffer`; 0 means the end.
    pub(crate) async fn read_into(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        while let Some((gate, connection)) = &mut self.undecided {
            let accepted = tokio::select! {
                biased;
                accepted = gate.answer() => accepted,
                read = self.stream.read_buf(buffer) => match read {
                    Ok(bytes) => return Ok(bytes),
                    // It was refused, most likely: the answer says so.
                    Err(_) => gate.answer().await,
                },
            };
            if !accepted {
                self.stream = send_again(connection, &self.sending).await?;
            }
            self.undecided = None;
        }
        self.stream.read_buf(buffer).await
    }
}

/// Sends what was refused on a stream of its own, before anything else.
async fn send_again(
    connection: &Connection,
    sending: &tokio::sync::Mutex<Sending>,
) -> io::Result<RecvStream> {
    let mut sending = sending.lock().await;
    let (write, read) = connection.open_bi().await?;
    sending.stream = write;
    let mut sent = std::mem::take(&mut sending.sent);
    sending.decided();
    sending.stream.write_all_chunks(&mut sent).await?;
    Ok(read)
}
