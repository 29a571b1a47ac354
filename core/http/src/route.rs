//! Every route that there is: where it stands, what is said of it, and what one must be allowed to do. The
//! index page, the OpenAPI document and the router are made from this table; who reads requests and
//! who answers them matches on [`Route`], so that a route without its entry, without a permission, or without
//! a handler does not compile.

use axum::routing::MethodFilter;
use millpond_wire::permission::{CLUSTER_NAME, MODULES_NAME, Operation, TRANSFORMS_NAME};

/// How a route is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// And HEAD, which is asked as GET is.
    Get,
    /// POST.
    Post,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// What one must be allowed to do, where rules are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it tells nothing of anybody, or the proof is in the request.
    Nothing,
    /// An operation on a name of the kind cluster.
    Cluster(Operation, &'static str),
}

/// What the table says of a route.
pub(crate) struct Entry {
    pub(crate) method: Method,
    /// `{name}` stands for the name of a transform.
    pub(crate) path: &'static str,
    pub(crate) what: &'static str,
    pub(crate) needs: Need,
    pub(crate) takes: Body,
    pub(crate) gives: Body,
    pub(crate) queries: &'static [Query],
}

/// What goes in or comes out; names are those of the schemas.
pub(crate) enum Body {
    Text,
    Nothing,
    /// A module, with a description in the header `Millpond-Transform`.
    Module,
    One(&'static str),
    Many(&'static str),
}

pub(crate) struct Query {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
}

/// Metrics name topics and groups.
const METRICS: Need = Need::Cluster(Operation::Describe, CLUSTER_NAME);
const LOOK: Need = Need::Cluster(Operation::Describe, TRANSFORMS_NAME);
const CHANGE: Need = Need::Cluster(Operation::Alter, TRANSFORMS_NAME);
const SET: Need = Need::Cluster(Operation::AlterConfigs, TRANSFORMS_NAME);
const UPLOAD: Need = Need::Cluster(Operation::Create, MODULES_NAME);
/// The invitation, or the certificate that is renewed, is what lets in; the authority is public.
const PROVED: Need = Need::Nothing;
const FREE: Need = Need::Nothing;

const LINES: Query = Query { name: "lines", what: "at most so many, the newest ones" };
const AFTER: Query = Query { name: "after", what: "only lines with higher numbers" };
const START: Query = Query {
    name: "start",
    what: "of the line that `after` is the number of: of another start all follow",
};
const CANARY: Query =
    Query { name: "canary_percent", what: "on this share of the partitions only, 1 to 99" };

const ALL: &str = "/v1/transforms";
const ONE: &str = "/v1/transforms/{name}";

/// The enumeration and its table in one.
macro_rules! routes {
    ($($(#[$doc:meta])* $name:ident: $method:ident $path:expr, $what:literal, $needs:expr,
        $takes:expr => $gives:expr, $queries:expr;)*) => {
        /// A route.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Route {
            $($(#[$doc])* $name,)*
        }

        impl Route {
            /// All of them, in the order in which they are told.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            pub(crate) const fn entry(self) -> Entry {
                match self {
                    $(Self::$name => Entry {
                        method: Method::$method,
                        path: $path,
                        what: $what,
                        needs: $needs,
                        takes: $takes,
                        gives: $gives,
                        queries: $queries,
                    },)*
                }
            }
        }
    };
}

routes! {
    /// The page for people.
    Index: Get "/", "this list", FREE, Body::Nothing => Body::Text, &[];
    /// Metrics.
    Metrics: Get "/metrics", "Prometheus", METRICS, Body::Nothing => Body::Text, &[];
    /// Liveness.
    Health: Get "/healthz", "200 while the engine answers", FREE, Body::Nothing => Body::Text, &[];
    /// Readiness.
    Readiness: Get "/readyz", "200 while clients are served", FREE, Body::Nothing => Body::Text, &[];
    /// The document for machines.
    Document: Get "/v1/openapi.json", "this list for machines, OpenAPI 3.1", FREE,
        Body::Nothing => Body::Text, &[];
    /// All transforms.
    List: Get ALL, "all transforms", LOOK, Body::Nothing => Body::Many("Transform"), &[];
    /// A transform, new or another version.
    Deploy: Post ALL, "deploy a module: JSON in the header Millpond-Transform", UPLOAD,
        Body::Module => Body::One("Transform"), &[CANARY];
    /// One transform.
    Describe: Get ONE, "one transform", LOOK, Body::Nothing => Body::One("Transform"), &[];
    /// Settings or limits.
    Alter: Patch ONE, "change settings or limits: a new version with the same module", SET,
        Body::One("Alteration") => Body::One("Transform"), &[];
    /// The end of a transform.
    Delete: Delete ONE, "take it out of force", CHANGE, Body::Nothing => Body::Nothing, &[];
    /// What a transform logged.
    Logs: Get "/v1/transforms/{name}/logs", "what it logged", LOOK,
        Body::Nothing => Body::Many("LogLine"), &[LINES, AFTER, START];
    /// Records pass a transform.
    Pause: Post "/v1/transforms/{name}/pause", "let records pass it", CHANGE,
        Body::Nothing => Body::Nothing, &[];
    /// They do not any more.
    Resume: Post "/v1/transforms/{name}/resume", "put it in force again", CHANGE,
        Body::Nothing => Body::Nothing, &[];
    /// A canary becomes the version in force.
    Promote: Post "/v1/transforms/{name}/promote", "put its canary in force on all partitions", CHANGE,
        Body::Nothing => Body::One("Transform"), &[];
    /// The version before.
    RollBack: Post "/v1/transforms/{name}/rollback",
        "end its canary, or put the previous version in force again", CHANGE,
        Body::Nothing => Body::One("Transform"), &[];
    /// The authority for devices.
    Authority: Get "/v1/devices/ca", "the certificate of the authority for devices", PROVED,
        Body::Nothing => Body::Text, &[];
    /// A device's first certificate.
    Enrol: Post "/v1/devices/enrol", "a device's certificate for an invitation", PROVED,
        Body::One("Enrolment") => Body::One("Enrolled"), &[];
    /// A device's next certificate.
    Renew: Post "/v1/devices/renew", "a device's certificate for the one before", PROVED,
        Body::One("Renewal") => Body::One("Enrolled"), &[];
}

impl Route {
    /// What one must be allowed to do.
    #[must_use]
    pub const fn needs(self) -> Need {
        self.entry().needs
    }

    /// Where it stands; `{name}` stands for the name of a transform.
    #[must_use]
    pub const fn path(self) -> &'static str {
        self.entry().path
    }

    /// How it is asked.
    #[must_use]
    pub const fn method(self) -> Method {
        self.entry().method
    }

    /// Whether it is for devices that enrol.
    #[must_use]
    pub const fn is_for_devices(self) -> bool {
        matches!(self, Self::Authority | Self::Enrol | Self::Renew)
    }
}

impl Method {
    /// As HTTP has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    pub(crate) const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_that_changes_something_or_tells_of_records_needs_a_permission() {
        let free = ["/", "/healthz", "/readyz", "/v1/openapi.json"];
        for route in Route::ALL {
            let is_free = free.contains(&route.path()) || route.is_for_devices();
            assert_eq!(route.needs() == Need::Nothing, is_free, "{route:?}");
        }
    }
}
