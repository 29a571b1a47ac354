//! Settings by name and text, as C gives them, and what they make. Believes no text.

use millpond_client::{
    ClientConfig, Codec, Login, Mechanism, Producer, ProducerBuilder, Spill, SpillBuilder, Trust,
    WhenFull,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Every name that there is.
const NAMES: [&str; 18] = [
    "bootstrap",
    "fingerprint",
    "ca_pem",
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
}

impl Settings {
    /// False: there is no such name.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> bool {
        let Some(name) = NAMES.into_iter().find(|known| *known == name) else { return false };
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

    /// Makes of them what they mean; the error says which one does not make sense.
    pub(crate) fn make(&self) -> Result<Made, String> {
        let bootstrap = self.get("bootstrap").ok_or("bootstrap: it must be set")?;
        let mut client = ClientConfig::new(bootstrap).map_err(|error| error.to_string())?;
        client.trust = self.trust()?;
        client.login = self.login()?;
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
        Ok(Made { client, producer, spill: self.spill(codec)?, buffer_bytes })
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
