//! ApiVersions: what is served, from the one table of APIs, and the features that clients wait for
//! before they use them. Announces no feature that is not there.

use millpond_wire::api::{APIS, ApiKey};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::ApiVersionsResponse;
use millpond_wire::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};

/// The answer to a request of a served version.
#[must_use]
pub fn served() -> ApiVersionsResponse {
    let row = |spec: &&millpond_wire::api::ApiSpec| ApiVersion {
        api_key: spec.key.code(),
        min_version: spec.advertised_min_version,
        max_version: spec.max_version,
    };
    ApiVersionsResponse {
        error_code: ErrorCode::None.code(),
        api_keys: APIS.iter().map(row).collect(),
        supported_features: FEATURES.iter().map(supported).collect(),
        finalized_features_epoch: FEATURES_EPOCH,
        finalized_features: FEATURES.iter().map(finalized).collect(),
        ..ApiVersionsResponse::default()
    }
}

/// A feature by Kafka's name, at its level here. All are in force from the first start on.
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    pub(crate) level: i16,
}

/// Level 25 of the metadata is that of Kafka 4.0: consoles tell from it which release they talk to.
/// Level 1 of groups is KIP-848: clients may leave the assignment to the node. Level 2 of
/// transactions is KIP-890: produce requests join by themselves, every end of a transaction moves
/// the producer's epoch on.
pub(crate) const FEATURES: &[Feature] = &[
    Feature { name: "group.version", level: 1 },
    Feature { name: "metadata.version", level: 25 },
    Feature { name: "transaction.version", level: 2 },
];
/// Counts the changes of the features: there was none.
const FEATURES_EPOCH: i64 = 0;

fn supported(feature: &Feature) -> SupportedFeatureKey {
    // Version 3 of the answer cannot say 0 (KAFKA-17011).
    SupportedFeatureKey {
        name: feature.name.to_owned(),
        min_version: 1,
        max_version: feature.level,
    }
}

fn finalized(feature: &Feature) -> FinalizedFeatureKey {
    FinalizedFeatureKey {
        name: feature.name.to_owned(),
        max_version_level: feature.level,
        min_version_level: feature.level,
    }
}

/// The answer, to be encoded in version 0, to an ApiVersions request of a version that is not
/// served: the client asks again with one that is (KIP-511).
#[must_use]
pub fn unsupported() -> ApiVersionsResponse {
    let spec = ApiKey::ApiVersions.spec();
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: vec![ApiVersion {
            api_key: spec.key.code(),
            min_version: spec.advertised_min_version,
            max_version: spec.max_version,
        }],
        ..ApiVersionsResponse::default()
    }
}
