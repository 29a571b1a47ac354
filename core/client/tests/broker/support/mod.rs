//! A broker of a few hundred lines that speaks the real messages over TCP, TLS and QUIC, keeps
//! records in memory, checks sequence numbers, and misbehaves on demand.
//!
//! It knows one broker (itself), and consumer groups of one member. Tests share this file; each
//! uses the part that it needs.

pub(crate) mod answers;
pub(crate) mod serve;

use millpond_client::{ClientConfig, Fingerprint, Scheme, Trust};
use millpond_wire::ErrorCode;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

pub(crate) const NODE_ID: i32 = 7;

/// What happens to one produce request, in the order in which they come.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is served.
    Serve,
    /// The connection is closed before the request is looked at.
    LoseRequest,
    /// It is served, and the connection closed before the answer.
    LoseAnswer,
    /// It is not served; each partition is answered with this.
    Answer(ErrorCode),
    /// It is served, but each partition is answered with this.
    ServeAndAnswer(ErrorCode),
    /// It is served and never answered; the connection stays.
    NeverAnswer,
    /// It is served and answered once somebody says so; later requests of the connection wait.
    Hold(Arc<Notify>),
    /// It is accepted without an offset, as where a transform changes the batch.
    NoOffset,
    /// All producer state is forgotten first.
    Forget,
}

/// One stored record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

/// One batch that was asked to be produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
    pub(crate) records: i32,
}

#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) batches: Vec<(i64, bytes::Bytes)>,
    pub(crate) next_offset: i64,
}

#[derive(Default)]
pub(crate) struct ProducerState {
    pub(crate) epoch: i16,
    pub(crate) batches: VecDeque<(i32, i32, i64)>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) topics: BTreeMap<String, Vec<Partition>>,
    pub(crate) producers: HashMap<(String, i32, i64), ProducerState>,
    pub(crate) next_producer_id: i64,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) connections: usize,
    pub(crate) metadata_requests: usize,
    pub(crate) committed: BTreeMap<(String, String, i32), i64>,
    pub(crate) groups: HashMap<String, GroupState>,
    /// Answer ApiVersions as a broker that knows only the first versions of it.
    pub(crate) is_old: bool,
}

#[derive(Default)]
pub(crate) struct GroupState {
    pub(crate) generation_id: i32,
    pub(crate) member_id: String,
    pub(crate) assignment: bytes::Bytes,
    pub(crate) must_rejoin: bool,
    pub(crate) joins: usize,
    /// Another member leads, and has made `assignment`.
    pub(crate) is_led_by_another: bool,
    pub(crate) left: bool,
}

/// The broker; it ends when it is dropped.
pub(crate) struct FakeBroker {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) address: SocketAddr,
    pub(crate) scheme: Scheme,
    pub(crate) certificate_pem: String,
    pub(crate) fingerprint: Fingerprint,
    accepting: AbortHandle,
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl FakeBroker {
    pub(crate) async fn start(scheme: Scheme) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ])
        .unwrap();
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let fingerprint = Fingerprint(Sha256::digest(certificate.as_ref()).into());
        let state = Arc::new(Mutex::new(State::default()));
        let tls = serve::tls(certificate, key);
        let (address, accepting) = serve::listen(scheme, tls, Arc::clone(&state)).await;
        state.lock().unwrap().address = Some(address);
        Self { state, address, scheme, certificate_pem: made.cert.pem(), fingerprint, accepting }
    }

    pub(crate) async fn with_topic(scheme: Scheme, topic: &str, partitions: usize) -> Self {
        let broker = Self::start(scheme).await;
        broker.add_topic(topic, partitions);
        broker
    }

    pub(crate) fn add_topic(&self, topic: &str, partitions: usize) {
        let empty = (0..partitions).map(|_| Partition::default()).collect();
        self.state().topics.insert(topic.to_owned(), empty);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// The settings with which a client trusts this broker.
    pub(crate) fn config(&self) -> ClientConfig {
        let config = ClientConfig::new(&format!("{}://{}", self.scheme, self.address)).unwrap();
        config.trust(Trust::Fingerprint(self.fingerprint)).connect_timeout(Duration::from_secs(5))
    }

    /// Everything stored in a partition, in order.
    pub(crate) fn stored(&self, topic: &str, partition: usize) -> Vec<Stored> {
        let state = self.state();
        let batches = &state.topics[topic][partition].batches;
        batches.iter().flat_map(|(_, raw)| answers::records(raw)).collect()
    }

    /// The values stored in a partition, as text.
    pub(crate) fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        let stored = self.stored(topic, partition).into_iter();
        stored.map(|record| String::from_utf8(record.value.unwrap()).unwrap()).collect()
    }
}
