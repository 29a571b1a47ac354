//! The one table of the APIs that are served: key, name, versions, how large a request may be, what one must be
//! allowed to do. Must never be repeated elsewhere: what is advertised, accepted and decoded follows from it. The
//! table itself is generated from `schema/*.txt`; an API without an entry does not compile.

use crate::limits;
use crate::permission::{Need, Operation, Resource};

/// What is served of one API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiSpec {
    /// Which API.
    pub key: ApiKey,
    /// Kafka's name of it.
    pub name: &'static str,
    /// The first version that is decoded and served.
    pub min_version: i16,
    /// The last version that is decoded and served.
    pub max_version: i16,
    /// The first version named in an ApiVersions response. Lower than `min_version` only for Produce (KAFKA-18659).
    pub advertised_min_version: i16,
    /// The first version with compact lengths and tagged fields (KIP-482); `None`: no served version has them.
    pub flexible_from: Option<i16>,
    /// What a client must be allowed to do: all of one of these. Each is asked of all resources of its kind that the
    /// request names. Empty: nothing.
    pub needs: &'static [&'static [Need]],
    /// The largest request, in bytes.
    pub request_bytes_max: usize,
}

include!(concat!(env!("OUT_DIR"), "/api.rs"));

impl ApiKey {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name of it, such as `Produce`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// Whether this version is decoded and served.
    #[must_use]
    pub const fn serves(self, version: i16) -> bool {
        let spec = self.spec();
        spec.min_version <= version && version <= spec.max_version
    }

    /// Whether this version has compact lengths and tagged fields (KIP-482).
    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        match self.spec().flexible_from {
            Some(from) => version >= from,
            None => false,
        }
    }

    /// Whether a response in this version has tagged fields in its header. An ApiVersions response never has, so
    /// that a client of any age can read it (KIP-511).
    #[must_use]
    pub const fn has_flexible_response_header(self, version: i16) -> bool {
        !matches!(self, Self::ApiVersions) && self.is_flexible(version)
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_is_found_by_its_number_and_no_number_is_taken_twice() {
        for (index, spec) in APIS.iter().enumerate() {
            assert_eq!(ApiKey::from_code(spec.key.code()), Some(spec.key));
            assert_eq!(spec.key.spec(), *spec);
            assert!(
                APIS[..index].iter().all(|other| other.key.code() < spec.key.code()),
                "sorted: {}",
                spec.name
            );
            assert!(
                spec.advertised_min_version <= spec.min_version
                    && spec.min_version <= spec.max_version
            );
        }
        assert_eq!(ApiKey::from_code(-1), None);
        assert_eq!(ApiKey::from_code(4), None);
    }

    #[test]
    fn every_api_but_those_before_a_login_needs_something_and_its_requests_have_an_end() {
        let before_login = [ApiKey::ApiVersions, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate];
        for spec in APIS {
            assert_eq!(spec.needs.is_empty(), before_login.contains(&spec.key), "{}", spec.name);
            assert!(spec.needs.iter().all(|all| !all.is_empty()), "{}", spec.name);
            assert!(spec.request_bytes_max <= limits::FRAME_BYTES_MAX, "{}", spec.name);
        }
        let write = |resource| Need { operation: Operation::Write, resource };
        let produce = [write(Resource::TransactionalId), write(Resource::Topic)];
        assert_eq!(ApiKey::Produce.spec().needs, [&produce]);
        assert_eq!(ApiKey::Heartbeat.spec().request_bytes_max, limits::REQUEST_BYTES_SMALL_MAX);
    }

    #[test]
    fn produce_is_advertised_from_version_0_but_served_from_3() {
        let spec = ApiKey::Produce.spec();
        assert_eq!((spec.advertised_min_version, spec.min_version), (0, 3));
        assert!(!ApiKey::Produce.serves(2));
        assert!(ApiKey::Produce.serves(3));
    }

    #[test]
    fn an_api_versions_response_never_has_tags_in_its_header() {
        assert!(ApiKey::ApiVersions.is_flexible(3));
        assert!(!ApiKey::ApiVersions.has_flexible_response_header(3));
        assert!(ApiKey::Metadata.has_flexible_response_header(9));
        assert!(!ApiKey::Metadata.has_flexible_response_header(8));
    }
}
