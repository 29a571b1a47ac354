//! DescribeClientQuotas and AlterClientQuotas (KIP-546): quotas of users and of client ids. A quota
//! that would not be held to is refused: none is inert.

use crate::engine::Engine;
use crate::entry::Fact;
use crate::quota::{ClientQuota, QuotaEntity, QuotaName};
use crate::setting::SettingFact;
use crate::units::RequestId;
use millpond_wire::error_code::ErrorCode;
use millpond_wire::limits;
use millpond_wire::messages::describe_client_quotas_request::ComponentData;
use millpond_wire::messages::describe_client_quotas_response as described;
use millpond_wire::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse, F64, Response, alter_client_quotas_request as wanted,
    alter_client_quotas_response as altered,
};

/// Why a quota is not changed or not shown.
type Refused = (ErrorCode, String);

/// Which entities are asked for, in one dimension.
enum Filter {
    Exact(String),
    Default,
    Any,
}

impl Engine {
    pub(crate) fn on_describe_client_quotas(
        &mut self,
        id: RequestId,
        request: &DescribeClientQuotasRequest,
    ) {
        let mut response = DescribeClientQuotasResponse::default();
        match filters(&request.components) {
            Ok((user, client_id, is_impossible)) => {
                let matches = |entity: &QuotaEntity| {
                    !is_impossible
                        && is_matched(&user, &entity.user, request.strict)
                        && is_matched(&client_id, &entity.client_id, request.strict)
                };
                let found = self.state.quotas.iter().filter(|(entity, _)| matches(entity));
                response.entries = Some(found.map(|(entity, quota)| row(entity, quota)).collect());
            }
            Err((code, message)) => {
                response.error_code = code.code();
                response.error_message = Some(message);
            }
        }
        self.reply_after(self.settings_seq, id, Response::DescribeClientQuotas(response));
    }

    pub(crate) fn on_alter_client_quotas(
        &mut self,
        id: RequestId,
        request: &AlterClientQuotasRequest,
    ) {
        let mut response = AlterClientQuotasResponse::default();
        for entry in &request.entries {
            let (code, error_message) = match self.plan_quota(entry) {
                Ok((entity, quota)) => {
                    if !request.validate_only && self.state.quotas.get(&entity) != quota {
                        self.commit(Fact::Setting(SettingFact::QuotaSet { entity, quota }));
                        self.seal_if_large();
                    }
                    (ErrorCode::None, None)
                }
                Err((code, message)) => (code, Some(message)),
            };
            let named = |part: &wanted::EntityData| altered::EntityData {
                entity_type: part.entity_type.clone(),
                entity_name: part.entity_name.clone(),
            };
            response.entries.push(altered::EntryData {
                error_code: code.code(),
                error_message,
                entity: entry.entity.iter().map(named).collect(),
            });
        }
        self.reply_after(self.settings_seq, id, Response::AlterClientQuotas(response));
    }

    /// What an entity's quota becomes.
    fn plan_quota(&self, entry: &wanted::EntryData) -> Result<(QuotaEntity, ClientQuota), Refused> {
        let entity = entity_of(&entry.entity)?;
        let mut quota = self.state.quotas.get(&entity);
        let is_new = quota.is_empty();
        for op in &entry.ops {
            let rate = if op.remove { None } else { Some(checked_rate(&op.key, op.value)?) };
            match op.key.as_str() {
                PRODUCER_RATE => quota.producer_byte_rate = rate,
                CONSUMER_RATE => quota.consumer_byte_rate = rate,
                REQUEST_PERCENTAGE => quota.request_us_rate = rate,
                MUTATION_RATE => quota.mutation_milli_rate = rate,
                // Nothing of the kind was ever set.
                key if op.remove && UNENFORCED.contains(&key) => {}
                key => return Err(unknown_key(key)),
            }
        }
        if is_new && self.state.quotas.len() >= limits::QUOTA_ENTITIES_MAX {
            let message = "this node holds as many quotas as it can".to_owned();
            return Err((ErrorCode::PolicyViolation, message));
        }
        Ok((entity, quota))
    }
}

fn invalid<T>(message: String) -> Result<T, Refused> {
    Err((ErrorCode::InvalidRequest, message))
}

fn unknown_key(key: &str) -> Refused {
    let message = if UNENFORCED.contains(&key) {
        format!("Quota {key} is not enforced by this broker, so it cannot be set")
    } else {
        format!("Invalid configuration key {key}")
    };
    (ErrorCode::InvalidRequest, message)
}

fn checked_rate(key: &str, value: F64) -> Result<u64, Refused> {
    let value = value.get();
    if value.is_nan() || value <= 0.0 {
        return invalid(format!("Quota {key} must be greater than 0"));
    }
    let parts = match key {
        PRODUCER_RATE | CONSUMER_RATE => 1.0,
        REQUEST_PERCENTAGE => US_PER_PERCENT,
        MUTATION_RATE => MILLI,
        _ => return Err(unknown_key(key)),
    };
    if parts > 1.0 {
        let value = (value * parts).round();
        return if (1.0..MOST).contains(&value) {
            Ok(value as u64)
        } else {
            invalid(format!("Quota {key} must be between {} and {}", 1.0 / parts, MOST / parts))
        };
    }
    if value.fract() != 0.0 || value >= i64::MAX as f64 {
        return invalid(format!("{key} must be a Long value"));
    }
    Ok(value as u64)
}

fn entity_of(parts: &[wanted::EntityData]) -> Result<QuotaEntity, Refused> {
    if parts.is_empty() {
        return invalid("Invalid empty client quota entity".to_owned());
    }
    let mut entity = QuotaEntity::default();
    for part in parts {
        let place = match part.entity_type.as_str() {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            IP => return invalid("Quotas of addresses are not enforced by this broker".to_owned()),
            other => return invalid(format!("Unhandled client quota entity type: {other}")),
        };
        if *place != QuotaName::Absent {
            let kind = &part.entity_type;
            return invalid(format!("Client quota entity names the type {kind} twice"));
        }
        *place = match &part.entity_name {
            None => QuotaName::Default,
            Some(name) if name.is_empty() => {
                return invalid(format!("Empty {} not supported", part.entity_type));
            }
            Some(name) if name.len() > limits::QUOTA_NAME_BYTES_MAX => {
                return invalid(format!("The name of the {} is too long", part.entity_type));
            }
            Some(name) => QuotaName::Named(name.clone()),
        };
    }
    Ok(entity)
}

/// The filters of users and of client ids, and whether nothing can match.
type Filters = (Option<Filter>, Option<Filter>, bool);

fn filters(components: &[ComponentData]) -> Result<Filters, Refused> {
    let (mut user, mut client_id, mut ip) = (None, None, false);
    for component in components {
        let kind = component.entity_type.as_str();
        let filter = match (component.match_type, &component.match_) {
            (0, Some(name)) => Filter::Exact(name.clone()),
            (0, None) => {
                return invalid(format!(
                    "Request specifies MATCH_TYPE_EXACT, but not the name of the {kind}"
                ));
            }
            (1, None) => Filter::Default,
            (2, None) => Filter::Any,
            (1 | 2, Some(_)) => {
                return invalid(format!(
                    "Request specifies the name of a {kind} and a match type that takes none"
                ));
            }
            (other, _) => return invalid(format!("Unknown match type {other}")),
        };
        let is_repeated = match kind {
            USER => user.replace(filter).is_some(),
            CLIENT_ID => client_id.replace(filter).is_some(),
            IP => std::mem::replace(&mut ip, true),
            "" => return invalid("Unexpected empty filter component entity type".to_owned()),
            other => {
                let message = format!("Custom entity type '{other}' not supported");
                return Err((ErrorCode::UnsupportedVersion, message));
            }
        };
        if is_repeated {
            return invalid(format!("Duplicate filter component entity type {kind}"));
        }
    }
    if ip && (user.is_some() || client_id.is_some()) {
        return invalid("Addresses cannot be asked for together with users or clients".to_owned());
    }
    Ok((user, client_id, ip))
}

fn is_matched(filter: &Option<Filter>, name: &QuotaName, strict: bool) -> bool {
    match (filter, name) {
        (None, QuotaName::Absent) => true,
        (None, _) => !strict,
        (Some(_), QuotaName::Absent) => false,
        (Some(Filter::Any), _) => true,
        (Some(Filter::Default), name) => *name == QuotaName::Default,
        (Some(Filter::Exact(wanted)), QuotaName::Named(name)) => wanted == name,
        (Some(Filter::Exact(_)), QuotaName::Default) => false,
    }
}

fn row(entity: &QuotaEntity, quota: &ClientQuota) -> described::EntryData {
    let mut parts = Vec::new();
    for (kind, name) in [(USER, &entity.user), (CLIENT_ID, &entity.client_id)] {
        let entity_name = match name {
            QuotaName::Absent => continue,
            QuotaName::Default => None,
            QuotaName::Named(name) => Some(name.clone()),
        };
        parts.push(described::EntityData { entity_type: kind.to_owned(), entity_name });
    }
    let rates = [
        (CONSUMER_RATE, quota.consumer_byte_rate, 1.0),
        (PRODUCER_RATE, quota.producer_byte_rate, 1.0),
        (REQUEST_PERCENTAGE, quota.request_us_rate, US_PER_PERCENT),
        (MUTATION_RATE, quota.mutation_milli_rate, MILLI),
    ];
    let values = rates.into_iter().filter_map(|(key, rate, parts)| {
        let value = F64::from(rate? as f64 / parts);
        Some(described::ValueData { key: key.to_owned(), value })
    });
    described::EntryData { entity: parts, values: values.collect() }
}

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";
const PRODUCER_RATE: &str = "producer_byte_rate";
const CONSUMER_RATE: &str = "consumer_byte_rate";
const REQUEST_PERCENTAGE: &str = "request_percentage";
const MUTATION_RATE: &str = "controller_mutation_rate";
const UNENFORCED: &[&str] = &["connection_creation_rate"];
/// One percent of a thread.
const US_PER_PERCENT: f64 = 10_000.0;
const MILLI: f64 = 1_000.0;
/// Far beyond what can be, and exact in a double.
const MOST: f64 = 1e15;
