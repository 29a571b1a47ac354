//! What administrators set on the node itself, as it stands in the journal: quotas of clients and
//! settings of the broker. Never checks a value; who sets it has done so.
//!
//! ```text
//! tag body
//!  47 QuotaSet          entity | quota | more, if there is more than bytes
//!  48 QuotaSet          entity | quota
//!  49 BrokerConfigured  scope u8 (0: all brokers, 1: this one) | configs, all of them
//!
//! entity  user name | client id name
//!   name  u8 (0: does not matter, 1: default, 2: by name) | [str]
//! quota   2 x (has rate u8 | [bytes a second u64]): of producers, of consumers
//! more    2 x (has rate u8 | [rate u64]): microseconds of the engine a second, thousandths of a partition
//!         made or deleted a second
//! ```

use crate::codec::{Take, put_strings};
use crate::entry::EntryError;
use crate::quota::{ClientQuota, QuotaEntity};
use bytes::BufMut;
use std::collections::BTreeMap;

/// One thing that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingFact {
    /// Somebody has a quota, or none any more if it says nothing.
    QuotaSet {
        /// Who.
        entity: QuotaEntity,
        /// All of it.
        quota: ClientQuota,
    },
    /// Settings of the broker were replaced.
    BrokerConfigured {
        /// Whose.
        scope: BrokerScope,
        /// Only what differs from the configuration file and the defaults.
        configs: BTreeMap<String, String>,
    },
}

/// Whom a broker setting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrokerScope {
    /// Every broker that does not say otherwise.
    All,
    /// This one.
    Own,
}

impl SettingFact {
    pub(crate) fn tag(&self) -> u8 {
        match self {
            SettingFact::QuotaSet { quota, .. } if quota.says_more() => QUOTA_MORE_TAG,
            SettingFact::QuotaSet { .. } => QUOTA_TAG,
            SettingFact::BrokerConfigured { .. } => BROKER_TAG,
        }
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        match self {
            SettingFact::QuotaSet { entity, quota } => {
                entity.put(out);
                quota.put(out);
                if quota.says_more() {
                    quota.put_more(out);
                }
            }
            SettingFact::BrokerConfigured { scope, configs } => {
                out.put_u8(u8::from(*scope == BrokerScope::Own));
                put_strings(out, configs);
            }
        }
    }

    /// `None`: the tag is of no setting.
    pub(crate) fn take(tag: u8, take: &mut Take) -> Result<Option<SettingFact>, EntryError> {
        Ok(Some(match tag {
            QUOTA_TAG | QUOTA_MORE_TAG => {
                let (entity, mut quota) = (QuotaEntity::take(take)?, ClientQuota::take(take)?);
                if tag == QUOTA_MORE_TAG {
                    quota.take_more(take)?;
                }
                SettingFact::QuotaSet { entity, quota }
            }
            BROKER_TAG => {
                let is_own = take.bool("broker scope")?;
                let scope = if is_own { BrokerScope::Own } else { BrokerScope::All };
                SettingFact::BrokerConfigured { scope, configs: take.strings("broker configs")? }
            }
            _ => return Ok(None),
        }))
    }
}

const QUOTA_MORE_TAG: u8 = 47;
const QUOTA_TAG: u8 = 48;
const BROKER_TAG: u8 = 49;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::QuotaName;
    use bytes::{Bytes, BytesMut};

    #[test]
    fn settings_stand_in_the_journal_as_drawn() {
        let entity =
            QuotaEntity { user: QuotaName::Default, client_id: QuotaName::Named("c".to_owned()) };
        let mut quota = ClientQuota { producer_byte_rate: Some(258), ..ClientQuota::default() };
        let set = SettingFact::QuotaSet { entity: entity.clone(), quota };
        let drawn: &[u8] = &[1, 2, 1, 0, 0, 0, b'c', 1, 2, 1, 0, 0, 0, 0, 0, 0, 0];
        check(&set, 48, drawn);
        quota.request_us_rate = Some(3);
        let more = [drawn, &[1, 3, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        check(&SettingFact::QuotaSet { entity, quota }, 47, &more);
        let configs = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let configured = SettingFact::BrokerConfigured { scope: BrokerScope::Own, configs };
        check(&configured, 49, &[1, 1, 0, 0, 0, 1, 0, 0, 0, b'k', 1, 0, 0, 0, b'v']);
    }

    fn check(fact: &SettingFact, tag: u8, drawn: &[u8]) {
        let mut out = BytesMut::new();
        fact.put(&mut out);
        assert_eq!((fact.tag(), &out[..]), (tag, drawn));
        let take =
            |bytes: &[u8]| SettingFact::take(tag, &mut Take::new(Bytes::copy_from_slice(bytes)));
        assert_eq!(take(drawn), Ok(Some(fact.clone())));
        for end in 0..drawn.len() {
            assert!(take(&drawn[..end]).is_err(), "cut at byte {end}");
        }
        let other = SettingFact::take(50, &mut Take::new(Bytes::new()));
        assert_eq!(other, Ok(None), "not a setting");
    }
}
