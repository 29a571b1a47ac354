//! ApiVersions: what is served, from the one table of APIs. Announces no feature that is not there.

use millpond_wire::api::{APIS, ApiKey};
use millpond_wire::error_code::ErrorCode;
use millpond_wire::messages::ApiVersionsResponse;
use millpond_wire::messages::api_versions_response::ApiVersion;

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
        ..ApiVersionsResponse::default()
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
