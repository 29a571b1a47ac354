//! Settings of the broker that are changed while it runs (Kafka's dynamic configurations): what
//! topics get that do not say themselves. For all brokers or for this one; the latter wins. Durable.
//! Never holds what only the configuration file can say.

use crate::codec::{CodecError, Take, put_strings};
use crate::setting::BrokerScope;
use crate::topic_config::{self, TOPIC_CONFIGS, TopicConfig};
use bytes::BufMut;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What topics get that do not say themselves, by the topic's own names.
pub(crate) type TopicDefaults = Arc<BTreeMap<&'static str, String>>;

/// The settings in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct BrokerConfigs {
    all: BTreeMap<String, String>,
    own: BTreeMap<String, String>,
    defaults: TopicDefaults,
}

impl BrokerConfigs {
    pub(crate) fn of(&self, scope: BrokerScope) -> &BTreeMap<String, String> {
        match scope {
            BrokerScope::All => &self.all,
            BrokerScope::Own => &self.own,
        }
    }

    /// The values of a name, the one that counts first.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = (BrokerScope, &str)> {
        [BrokerScope::Own, BrokerScope::All]
            .into_iter()
            .filter_map(move |scope| Some((scope, self.of(scope).get(name)?.as_str())))
    }

    pub(crate) fn replace(&mut self, scope: BrokerScope, configs: BTreeMap<String, String>) {
        match scope {
            BrokerScope::All => self.all = configs,
            BrokerScope::Own => self.own = configs,
        }
        let value = |config: &TopicConfig| {
            let name = topic_config::broker_name(config)?;
            let (_, value) = self.values(name).next()?;
            Some((config.name, value.to_owned()))
        };
        self.defaults = Arc::new(TOPIC_CONFIGS.iter().filter_map(value).collect());
    }

    pub(crate) fn topic_defaults(&self) -> TopicDefaults {
        Arc::clone(&self.defaults)
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_strings(out, &self.all);
        put_strings(out, &self.own);
    }

    pub(crate) fn take(take: &mut Take) -> Result<BrokerConfigs, CodecError> {
        let mut configs = BrokerConfigs::default();
        configs.replace(BrokerScope::All, take.strings("broker configs")?);
        configs.replace(BrokerScope::Own, take.strings("broker configs")?);
        Ok(configs)
    }
}
