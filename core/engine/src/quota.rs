//! Client quotas: which rate holds for whom, with Kafka's precedence (KIP-13, KIP-546). Durable: what
//! an administrator sets is journalled. Never measures anything; `throttle` does.

use crate::codec::{CodecError, Take, put_count, put_string};
use bytes::BufMut;
use std::collections::BTreeMap;

/// Who a quota is for, in one dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaName {
    /// The dimension does not matter.
    #[default]
    Absent,
    /// Everybody who has no quota by name.
    Default,
    /// One of that name.
    Named(String),
}

/// Who a quota is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity {
    /// The user who is logged in.
    pub user: QuotaName,
    /// The client id of the request.
    pub client_id: QuotaName,
}

/// What is held to in a second; `None`: not said here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientQuota {
    /// `producer_byte_rate`: bytes of records.
    pub producer_byte_rate: Option<u64>,
    /// `consumer_byte_rate`: bytes of records.
    pub consumer_byte_rate: Option<u64>,
    /// `request_percentage` (KIP-124): microseconds of the engine's thread, 10,000 for one percent of it.
    pub request_us_rate: Option<u64>,
    /// `controller_mutation_rate` (KIP-599): partitions made or deleted, in thousandths.
    pub mutation_milli_rate: Option<u64>,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum QuotaKind {
    Produce,
    Fetch,
    /// Of the engine's time.
    Request,
    Mutation,
}

/// Whose bytes are counted together, and how many a second they may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) user: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) rate: u64,
}

/// All quotas of the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct QuotaTable {
    by_entity: BTreeMap<QuotaEntity, ClientQuota>,
}

impl ClientQuota {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == ClientQuota::default()
    }

    fn rate(&self, kind: QuotaKind) -> Option<u64> {
        match kind {
            QuotaKind::Produce => self.producer_byte_rate,
            QuotaKind::Fetch => self.consumer_byte_rate,
            QuotaKind::Request => self.request_us_rate,
            QuotaKind::Mutation => self.mutation_milli_rate,
        }
    }

    /// Whether it says more than bytes: that has a place of its own in the journal and in snapshots.
    pub(crate) fn says_more(&self) -> bool {
        self.request_us_rate.is_some() || self.mutation_milli_rate.is_some()
    }

    /// The rates of bytes.
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_rates(out, [self.producer_byte_rate, self.consumer_byte_rate]);
    }

    pub(crate) fn take(take: &mut Take) -> Result<ClientQuota, CodecError> {
        let [producer_byte_rate, consumer_byte_rate] = take_rates(take)?;
        Ok(ClientQuota { producer_byte_rate, consumer_byte_rate, ..ClientQuota::default() })
    }

    /// The other rates.
    pub(crate) fn put_more(&self, out: &mut impl BufMut) {
        put_rates(out, [self.request_us_rate, self.mutation_milli_rate]);
    }

    /// Adds the other rates.
    pub(crate) fn take_more(&mut self, take: &mut Take) -> Result<(), CodecError> {
        [self.request_us_rate, self.mutation_milli_rate] = take_rates(take)?;
        Ok(())
    }
}

fn put_rates(out: &mut impl BufMut, rates: [Option<u64>; 2]) {
    for rate in rates {
        out.put_u8(u8::from(rate.is_some()));
        if let Some(rate) = rate {
            out.put_u64_le(rate);
        }
    }
}

fn take_rates(take: &mut Take) -> Result<[Option<u64>; 2], CodecError> {
    let mut rate = || {
        let has_rate = take.bool("has rate")?;
        has_rate.then(|| take.u64("rate")).transpose()
    };
    Ok([rate()?, rate()?])
}

impl QuotaEntity {
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        for name in [&self.user, &self.client_id] {
            match name {
                QuotaName::Absent => out.put_u8(0),
                QuotaName::Default => out.put_u8(1),
                QuotaName::Named(name) => {
                    out.put_u8(2);
                    put_string(out, name);
                }
            }
        }
    }

    pub(crate) fn take(take: &mut Take) -> Result<QuotaEntity, CodecError> {
        let mut name = || {
            Ok(match take.u8("kind of quota name")? {
                0 => QuotaName::Absent,
                1 => QuotaName::Default,
                2 => QuotaName::Named(take.string("quota name")?),
                value => {
                    return Err(CodecError::Impossible {
                        what: "kind of quota name",
                        value: value.into(),
                    });
                }
            })
        };
        Ok(QuotaEntity { user: name()?, client_id: name()? })
    }
}

impl QuotaTable {
    pub(crate) fn len(&self) -> usize {
        self.by_entity.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&QuotaEntity, &ClientQuota)> {
        self.by_entity.iter()
    }

    pub(crate) fn get(&self, entity: &QuotaEntity) -> ClientQuota {
        self.by_entity.get(entity).copied().unwrap_or_default()
    }

    /// A quota that says nothing is none.
    pub(crate) fn set(&mut self, entity: &QuotaEntity, quota: ClientQuota) {
        if quota.is_empty() {
            self.by_entity.remove(entity);
        } else {
            self.by_entity.insert(entity.clone(), quota);
        }
    }

    /// The rate that holds for a user's client: the most exact entity that has one, users first.
    pub(crate) fn allowance(
        &self,
        kind: QuotaKind,
        user: &str,
        client_id: &str,
    ) -> Option<Allowance> {
        if self.by_entity.is_empty() {
            return None;
        }
        let names = |name: &str| [QuotaName::Named(name.to_owned()), QuotaName::Default];
        for of_user in names(user).into_iter().chain([QuotaName::Absent]) {
            for of_client in names(client_id).into_iter().chain([QuotaName::Absent]) {
                let entity = QuotaEntity { user: of_user.clone(), client_id: of_client };
                if let Some(rate) = self.get(&entity).rate(kind) {
                    // A default is a quota for each of those it is for, not for all together.
                    let has = |name: &QuotaName| *name != QuotaName::Absent;
                    return Some(Allowance {
                        user: has(&entity.user).then(|| user.to_owned()),
                        client_id: has(&entity.client_id).then(|| client_id.to_owned()),
                        rate,
                    });
                }
            }
        }
        None
    }

    pub(crate) fn put(&self, out: &mut impl BufMut) {
        put_count(out, self.by_entity.len());
        for (entity, quota) in &self.by_entity {
            entity.put(out);
            quota.put(out);
        }
    }

    pub(crate) fn take(take: &mut Take) -> Result<QuotaTable, CodecError> {
        let mut table = QuotaTable::default();
        for _ in 0..take.count("quotas", 4)? {
            let entity = QuotaEntity::take(take)?;
            // One that says nothing of bytes says something else: that follows in `take_more`.
            table.by_entity.insert(entity, ClientQuota::take(take)?);
        }
        Ok(table)
    }

    /// What is said beyond bytes, by those who say it.
    pub(crate) fn put_more(&self, out: &mut impl BufMut) {
        let more = || self.by_entity.iter().filter(|(_, quota)| quota.says_more());
        put_count(out, more().count());
        for (entity, quota) in more() {
            entity.put(out);
            quota.put_more(out);
        }
    }

    pub(crate) fn take_more(&mut self, take: &mut Take) -> Result<(), CodecError> {
        for _ in 0..take.count("further quotas", 4)? {
            let entity = QuotaEntity::take(take)?;
            self.by_entity.entry(entity).or_default().take_more(take)?;
        }
        self.by_entity.retain(|_, quota| !quota.is_empty());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_quota_holds_and_users_come_before_clients() {
        use QuotaName::{Absent, Default, Named};
        let name = |text: &str| Named(text.to_owned());
        // From the least to the most exact, as Kafka orders them.
        let ladder = [
            (Absent, Default),
            (Absent, name("c")),
            (Default, Absent),
            (Default, Default),
            (Default, name("c")),
            (name("u"), Absent),
            (name("u"), Default),
            (name("u"), name("c")),
        ];
        let mut table = QuotaTable::default();
        for (rate, (user, client_id)) in (1..).zip(ladder) {
            let entity = QuotaEntity { user: user.clone(), client_id: client_id.clone() };
            let quota = ClientQuota { producer_byte_rate: Some(rate), ..ClientQuota::default() };
            table.set(&entity, quota);
            let found = table.allowance(QuotaKind::Produce, "u", "c").expect("a quota");
            assert_eq!(found.rate, rate, "{entity:?}");
            assert_eq!(found.user.is_some(), user != Absent);
            assert_eq!(found.client_id.is_some(), client_id != Absent);
        }
        assert_eq!(table.allowance(QuotaKind::Fetch, "u", "c"), None);
        let other = table.allowance(QuotaKind::Produce, "v", "d").expect("the defaults");
        assert_eq!(other.rate, 4);
    }
}
