//! The configuration: a TOML file, command-line options above it, defaults below it. Unknown keys
//! are errors that name the nearest known one. Never reads the environment (but for the log level),
//! never guesses.

mod check;
mod nearest;
mod reference;
pub(crate) mod section;
mod sections;
pub(crate) mod units;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use check::{CheckedListener, ClientAuth, is_loopback};
pub(crate) use reference::reference;
pub(crate) use sections::{
    Access, Backend, ClientAuthMode, CongestionChoice, Devices, Groups, Http, Journal, Limits,
    Listener, Log, Node, Storage, TcpMode, Topics, Transactions, Transforms,
};
pub(crate) use units::ByteSize;

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) node: Node,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) access: Access,
    pub(crate) devices: Devices,
    pub(crate) http: Http,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) transactions: Transactions,
    pub(crate) journal: Journal,
    pub(crate) storage: Storage,
    pub(crate) transforms: Transforms,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
}

/// All sections, in the order in which they are printed.
pub(crate) const SECTIONS: [&section::Section; 13] = [
    &Node::SECTION,
    &Listener::SECTION,
    &Access::SECTION,
    &Devices::SECTION,
    &Http::SECTION,
    &Topics::SECTION,
    &Groups::SECTION,
    &Transactions::SECTION,
    &Journal::SECTION,
    &Storage::SECTION,
    &Transforms::SECTION,
    &Limits::SECTION,
    &Log::SECTION,
];

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML, or a value has the wrong type.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// With line and column.
        message: String,
    },
    /// A key that does not exist.
    #[error("{path}: unknown key `{key}`{hint}; `millpond config` prints every key")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// In full, with its section.
        key: String,
        /// The nearest known key, or nothing.
        hint: String,
    },
    /// A value that cannot be.
    #[error("{key}: {problem}")]
    Value {
        /// In full, with its section.
        key: String,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// What the command line may override.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) data_dir: Option<String>,
    pub(crate) listen: Option<String>,
    pub(crate) advertise: Option<String>,
    pub(crate) http: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: Node::default(),
            listeners: vec![Listener::default()],
            access: Access::default(),
            devices: Devices::default(),
            http: Http::default(),
            topics: Topics::default(),
            groups: Groups::default(),
            transactions: Transactions::default(),
            journal: Journal::default(),
            storage: Storage::default(),
            transforms: Transforms::default(),
            limits: Limits::default(),
            log: Log::default(),
        }
    }
}

impl Config {
    /// What `millpond serve` uses without a file: the defaults, with topics created on first use.
    pub(crate) fn development() -> Self {
        let mut config = Self::default();
        config.topics.auto_create = true;
        config
    }

    /// Reads a file if one is given, applies the overrides, and checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub(crate) fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut config = match file {
            Some(path) => Self::parse(path, &read(path)?)?,
            None => Self::development(),
        };
        config.apply(overrides)?;
        check::check(&config)?;
        Ok(config)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let syntax =
            |e: toml::de::Error| ConfigError::Syntax { path: path.into(), message: e.to_string() };
        let table: toml::Table = text.parse().map_err(syntax)?;
        if let Some((key, hint)) = nearest::first_unknown(&table) {
            return Err(ConfigError::UnknownKey { path: path.into(), key, hint });
        }
        toml::from_str(text).map_err(syntax)
    }

    fn apply(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        if let Some(dir) = &overrides.data_dir {
            self.node.data_dir.clone_from(dir);
        }
        if let Some(address) = &overrides.http {
            self.http.address.clone_from(address);
        }
        if overrides.listen.is_some() || overrides.advertise.is_some() {
            let [listener] = self.listeners.as_mut_slice() else {
                return Err(ConfigError::Value {
                    key: "listeners".into(),
                    problem:
                        "--listen and --advertise need a configuration with exactly one listener"
                            .into(),
                });
            };
            if let Some(address) = &overrides.listen {
                listener.address.clone_from(address);
            }
            if let Some(address) = &overrides.advertise {
                listener.advertised.clone_from(address);
            }
        }
        Ok(())
    }

    /// Each listener with its addresses parsed. Only for a configuration that was loaded, hence
    /// checked.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub(crate) fn checked_listeners(&self) -> Result<Vec<CheckedListener>, ConfigError> {
        self.listeners.iter().enumerate().map(|(i, l)| check::listener(i, l)).collect()
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read;
    let fail = |source| ConfigError::Read { path: path.into(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(millpond_wire::limits::CONFIG_FILE_BYTES_MAX as u64)
        .read_to_string(&mut text)
        .map_err(fail)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let config = Config::parse(Path::new("millpond.toml"), text)?;
        check::check(&config)?;
        Ok(config)
    }

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn without_a_file_topics_are_created_on_first_use_and_with_one_they_are_not() {
        assert!(Config::load(None, &Overrides::default()).unwrap().topics.auto_create);
        assert!(!parse("").unwrap().topics.auto_create);
        assert!(parse("[topics]\nauto_create = true").unwrap().topics.auto_create);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let text = error("[limits]\nconections_max = 5");
        assert!(text.contains("limits.conections_max"), "{text}");
        assert!(text.contains("did you mean `limits.connections_max`?"), "{text}");
        let text = error("[limit]\nidle_ms = 5");
        assert!(text.contains("did you mean `limits`?"), "{text}");
        let text = error("[[listeners]]\nadvertized = \"a:1\"");
        assert!(text.contains("did you mean `listeners.advertised`?"), "{text}");
    }

    #[test]
    fn a_key_that_is_like_none_gets_no_guess() {
        let text = error("[http]\nzzzzzzzzzzzz = 1");
        assert!(text.contains("http.zzzzzzzzzzzz") && !text.contains("did you mean"), "{text}");
    }

    #[test]
    fn a_wrong_type_names_the_line() {
        let text = error("[limits]\n\nidle_ms = \"soon\"");
        assert!(text.contains("line 3"), "{text}");
    }

    #[test]
    fn a_listener_names_the_congestion_controller_of_its_quic() {
        let chosen = |text: &str| parse(text).unwrap().checked_listeners().unwrap()[0].congestion;
        assert_eq!(chosen("[[listeners]]"), CongestionChoice::Bbr);
        assert_eq!(chosen("[[listeners]]\nquic_congestion = \"cubic\""), CongestionChoice::Cubic);
        let text = error("[[listeners]]\nquic_congestion = \"vegas\"");
        assert!(text.contains("newreno"), "{text}");
    }

    #[test]
    fn beyond_loopback_a_listener_needs_tls_or_an_explicit_word() {
        let open = "[[listeners]]\naddress = \"0.0.0.0:9092\"\nadvertised = \"gw:9092\"";
        assert!(error(open).contains("insecure = true"));
        parse(&format!("{open}\ninsecure = true")).unwrap();
        let tls =
            format!("{open}\ntcp = \"tls\"\ncertificate = \"c.pem\"\nprivate_key = \"k.pem\"");
        parse(&tls).unwrap();
        let no_certificate = format!("{open}\ntcp = \"tls\"");
        assert!(error(&no_certificate).contains("certificate"));
    }

    #[test]
    fn passwords_are_not_asked_for_in_the_open() {
        let open = "[[listeners]]\nsasl = [\"PLAIN\", \"SCRAM-SHA-256\"]";
        assert!(error(open).contains("listeners[0].sasl"), "{}", error(open));
        parse(&format!("{open}\ntcp = \"tls\"")).unwrap();
        parse(&format!("{open}\ninsecure = true")).unwrap();
        let scram = "[[listeners]]\nsasl = [\"SCRAM-SHA-512\", \"SCRAM-SHA-512\"]";
        let listener = &parse(scram).unwrap().checked_listeners().unwrap()[0];
        assert_eq!(listener.offer.as_ref().unwrap().mechanisms.len(), 1);
        let bearer = "[[listeners]]\nsasl = [\"OAUTHBEARER\"]\ntcp = \"tls\"";
        assert!(error(bearer).contains("oauth_keys"), "{}", error(bearer));
        parse(&format!("{bearer}\noauth_keys = \"k.json\"\noauth_audience = \"a\"")).unwrap();
        let text = error("[[listeners]]\nsasl = [\"GSSAPI\"]");
        assert!(text.contains("GSSAPI") && text.contains("SCRAM-SHA-256"), "{text}");
        assert!(Config::default().checked_listeners().unwrap()[0].offer.is_none());
    }

    #[test]
    fn a_revocation_list_needs_who_it_is_about_and_devices_need_an_authority() {
        let text = error("[[listeners]]\ntcp = \"tls\"\nclient_crl = \"ca.crl\"");
        assert!(text.contains("listeners[0].client_crl"), "{text}");
        parse(
            "[[listeners]]\nclient_auth = \"required\"\nclient_ca = \"ca.pem\"\n\
             client_crl = \"ca.crl\"",
        )
        .unwrap();
        assert!(error("[devices]\naddress = \"0.0.0.0:9645\"").contains("devices.ca_dir"));
        assert!(error("[devices]\ncertificate_days = 0").contains("devices.certificate_days"));
        parse("[devices]\nca_dir = \"ca\"\naddress = \"0.0.0.0:9645\"").unwrap();
    }

    #[test]
    fn binding_every_interface_needs_an_advertised_address() {
        let text = error("[[listeners]]\naddress = \"0.0.0.0:9092\"\ninsecure = true");
        assert!(text.contains("advertised"), "{text}");
    }

    #[test]
    fn http_beyond_loopback_needs_an_explicit_word() {
        assert!(error("[http]\naddress = \"0.0.0.0:9644\"").contains("insecure"));
        parse("[http]\naddress = \"0.0.0.0:9644\"\ninsecure = true").unwrap();
        parse("[http]\naddress = \"\"").unwrap();
    }

    #[test]
    fn two_listeners_cannot_share_a_port() {
        let text = error("[[listeners]]\nname = \"a\"\n[[listeners]]\nname = \"b\"");
        assert!(text.contains("127.0.0.1:9092"), "{text}");
    }

    #[test]
    fn overrides_stand_above_the_file() {
        let overrides = Overrides {
            data_dir: Some("/d".into()),
            listen: Some("127.0.0.1:1".into()),
            advertise: Some("gw:2".into()),
            http: Some("127.0.0.1:3".into()),
        };
        let config = Config::load(None, &overrides).unwrap();
        assert_eq!(config.node.data_dir, "/d");
        assert_eq!(config.http.address, "127.0.0.1:3");
        let listener = &config.checked_listeners().unwrap()[0];
        assert_eq!(listener.address.to_string(), "127.0.0.1:1");
        assert_eq!(listener.advertised.as_ref().unwrap().to_string(), "gw:2");
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let text = error(
            "[limits]\nrequest_bytes_max = \"16MiB\"\nrequest_bytes_in_flight_max = \"8MiB\"",
        );
        assert!(text.contains("request_bytes_in_flight_max"), "{text}");
        assert!(error("[journal]\nfile_bytes = 4096").contains("journal.file_bytes"));
        for (text, key) in [
            ("[storage]\ntail_bytes = \"61MiB\"", "storage.tail_bytes"),
            ("[storage]\nsegment_bytes = \"1GiB\"", "storage.segment_bytes"),
            ("[storage]\nmax_bytes = \"100MiB\"", "storage.max_bytes"),
            ("[journal]\nlinger_ms = 60000", "journal.linger_ms"),
            ("[groups]\nmembers_max = 1001", "groups.members_max"),
            ("[groups]\nsession_timeout_min_ms = 2000000", "groups.session_timeout_min_ms"),
            ("[groups]\nconsumer_session_timeout_ms = 5000", "groups.consumer_session_timeout_ms"),
            ("[transactions]\ntimeout_max_ms = 0", "transactions.timeout_max_ms"),
        ] {
            assert!(error(text).contains(key), "{}", error(text));
        }
        parse("[storage]\ncard_endurance = \"30 TB\"\nmax_bytes = \"8GB\"").unwrap();
    }
}
