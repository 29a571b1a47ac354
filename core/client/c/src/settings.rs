//! Settings by name and text, as C gives them, and what they make. Believes no text.

use millpond_client::{
    ClientCertificate, ClientConfig, Codec, Consumer, ConsumerBuilder, GroupProtocol, Login,
    Mechanism, OffsetReset, Producer, ProducerBuilder, Spill, SpillBuilder, Trust, WhenFull,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Every name that there is.
const NAMES: &[&str] = &[
    "bootstrap",
    "fingerprint",
    "ca_pem",
    "certificate_pem",
    "private_key_pem",
    "client_id",
    "mechanism",
    "user",
    "password",
    "compression",
    "linger_ms",
    "batch_bytes",
    "buffer_bytes",
    "delivery_timeout_ms",
    "connect_timeout_ms",
    "congestion",
    "keep_alive_ms",
    "spill_dir",
    "spill_bytes",
    "spill_full",
    "transactional_id",
    "transaction_timeout_ms",
    "group",
    "group_protocol",
    "offset_reset",
    "read_committed",
    "auto_commit_ms",
    "max_poll_records",
    "fetch_wait_ms",
    "rebalance_timeout_ms",
];

/// What was set.
#[derive(Default)]
pub(crate) struct Settings {
    given: BTreeMap<&'static str, String>,
}

/// What settings mean.
pub(crate) struct Made {
    pub(crate) client: ClientConfig,
    pub(crate) producer: ProducerBuilder,
    pub(crate) spill: Option<SpillBuilder>,
    pub(crate) buffer_bytes: usize,
    pub(crate) is_transactional: bool,
}

/// What settings mean for a consumer.
pub(crate) struct Reading {
    pub(crate) client: ClientConfig,
    /// Without a group and without anything to read.
    pub(crate) consumer: ConsumerBuilder,
    pub(crate) group: Option<String>,
}

impl Settings {
    /// False: there is no such name.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> bool {
        let Some(name) = NAMES.iter().copied().find(|known| *known == name) else { return false };
        self.given.insert(name, value.to_owned());
        true
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("{name}: it is not a number"));
        self.get(name).map(parse).transpose()
    }

    fn client(&self) -> Result<ClientConfig, String> {
        let bootstrap = self.get("bootstrap").ok_or("bootstrap: it must be set")?;
        let mut client = ClientConfig::new(bootstrap).map_err(|error| error.to_string())?;
        client.trust = self.trust()?;
        client.login = self.login()?;
        client.certificate = match (self.get("certificate_pem"), self.get("private_key_pem")) {
            (Some(chain), Some(key)) => Some(ClientCertificate::new(chain.into(), key.into())),
            (None, None) => None,
            _ => return Err("certificate_pem and private_key_pem: set both or none".to_owned()),
        };
        if let Some(id) = self.get("client_id") {
            id.clone_into(&mut client.client_id);
        }
        if let Some(ms) = self.number("connect_timeout_ms")? {
            client.connect_timeout = Duration::from_millis(ms);
        }
        if let Some(name) = self.get("congestion") {
            client.quic_congestion =
                name.parse().map_err(|error| format!("congestion: {error}"))?;
        }
        if let Some(ms) = self.number("keep_alive_ms")? {
            client.quic_keep_alive = (ms > 0).then(|| Duration::from_millis(ms));
        }
        Ok(client)
    }

    /// Makes of them what they mean to a consumer; the error says which one does not make sense.
    pub(crate) fn reading(&self) -> Result<Reading, String> {
        let reset = match self.get("offset_reset") {
            None | Some("latest") => OffsetReset::Latest,
            Some("earliest") => OffsetReset::Earliest,
            Some("fail") => OffsetReset::Fail,
            Some(_) => return Err("offset_reset: it is earliest, latest or fail".to_owned()),
        };
        let protocol = match self.get("group_protocol") {
            None | Some("auto") => GroupProtocol::Auto,
            Some("consumer") => GroupProtocol::Consumer,
            Some("classic") => GroupProtocol::Classic,
            Some(_) => return Err("group_protocol: it is auto, consumer or classic".to_owned()),
        };
        let is_committed = match self.get("read_committed") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err("read_committed: it is true or false".to_owned()),
        };
        let mut consumer = Consumer::builder().offset_reset(reset).group_protocol(protocol);
        consumer = consumer.read_committed(is_committed);
        if let Some(ms) = self.number("auto_commit_ms")? {
            consumer = consumer.auto_commit(Duration::from_millis(ms));
        }
        if let Some(records) = self.number("max_poll_records")? {
            consumer = consumer.max_poll_records(usize::try_from(records).unwrap_or(usize::MAX));
        }
        if let Some(ms) = self.number("fetch_wait_ms")? {
            consumer = consumer.fetch_wait(Duration::from_millis(ms));
        }
        if let Some(ms) = self.number("rebalance_timeout_ms")? {
            consumer = consumer.rebalance_timeout(Duration::from_millis(ms));
        }
        let group = self.get("group").map(str::to_owned);
        Ok(Reading { client: self.client()?, consumer, group })
    }

    /// Makes of them what they mean to a producer; the error says which one does not make sense.
    pub(crate) fn make(&self) -> Result<Made, String> {
        let client = self.client()?;
        let codec = self.codec()?;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let buffer = self.number("buffer_bytes")?.unwrap_or(4 * 1024 * 1024);
        let buffer_bytes = size(buffer).min(1 << 30);
        let mut producer = Producer::builder().compression(codec).buffer_bytes(buffer_bytes);
        if let Some(ms) = self.number("linger_ms")? {
            producer = producer.linger(Duration::from_millis(ms));
        }
        if let Some(bytes) = self.number("batch_bytes")? {
            producer = producer.batch_bytes(size(bytes));
        }
        if let Some(ms) = self.number("delivery_timeout_ms")? {
            producer = producer.delivery_timeout(Duration::from_millis(ms));
        }
        let spill = self.spill(codec)?;
        let id = self.get("transactional_id");
        if let Some(id) = id {
            if spill.is_some() {
                return Err("transactional_id: a spill sends without transactions".to_owned());
            }
            producer = producer.transactional_id(id);
        }
        if let Some(ms) = self.number("transaction_timeout_ms")? {
            producer = producer.transaction_timeout(Duration::from_millis(ms));
        }
        Ok(Made { client, producer, spill, buffer_bytes, is_transactional: id.is_some() })
    }

    fn trust(&self) -> Result<Trust, String> {
        match (self.get("fingerprint"), self.get("ca_pem")) {
            (Some(_), Some(_)) => Err("fingerprint and ca_pem: set one of them".to_owned()),
            (Some(text), None) => Trust::fingerprint(text).map_err(|error| error.to_string()),
            (None, Some(pem)) => Ok(Trust::CaPem(pem.as_bytes().to_vec())),
            (None, None) => Ok(Trust::Nothing),
        }
    }

    fn login(&self) -> Result<Option<Login>, String> {
        let mechanism = match self.get("mechanism") {
            Some(name) => name.parse::<Mechanism>().map_err(|error| error.to_string())?,
            None => Mechanism::ScramSha256,
        };
        match (self.get("user"), self.get("password")) {
            (Some(user), Some(password)) => Ok(Some(Login::new(mechanism, user, password))),
            (None, None) => Ok(None),
            _ => Err("user and password: set both or none".to_owned()),
        }
    }

    fn codec(&self) -> Result<Codec, String> {
        let name = self.get("compression").unwrap_or("none");
        Codec::from_name(name).ok_or_else(|| "compression: it is not known".to_owned())
    }

    fn spill(&self, codec: Codec) -> Result<Option<SpillBuilder>, String> {
        let when_full = match self.get("spill_full") {
            None | Some("refuse") => WhenFull::RefuseNewest,
            Some("drop_oldest") => WhenFull::DropOldest,
            Some(_) => return Err("spill_full: it is refuse or drop_oldest".to_owned()),
        };
        let Some(dir) = self.get("spill_dir") else { return Ok(None) };
        let mut spill = Spill::builder(dir).when_full(when_full).compression(codec);
        if let Some(bytes) = self.number("spill_bytes")? {
            spill = spill.max_bytes(bytes);
        }
        Ok(Some(spill))
    }
}
