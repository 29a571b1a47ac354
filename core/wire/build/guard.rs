//! The `guard` line of an API: what a client must be allowed to, and how large its requests may be.

/// Names of the variants of `millpond_wire::permission::Operation` that a guard may name.
const OPERATIONS: [&str; 10] = [
    "Read",
    "Write",
    "Create",
    "Delete",
    "Alter",
    "Describe",
    "ClusterAction",
    "DescribeConfigs",
    "AlterConfigs",
    "IdempotentWrite",
];
const RESOURCES: [&str; 4] = ["Topic", "Group", "Cluster", "TransactionalId"];
/// The names of sizes, and the constants of `limits.rs` that they stand for.
const SIZES: [(&str, &str); 3] = [
    ("full", "FRAME_BYTES_MAX"),
    ("large", "REQUEST_BYTES_LARGE_MAX"),
    ("small", "REQUEST_BYTES_SMALL_MAX"),
];

/// A guard.
pub(crate) struct Guard {
    /// One of these, all of it: operation and resource.
    pub(crate) needs: Vec<Vec<(String, String)>>,
    /// The constant of `limits.rs`.
    pub(crate) request_bytes_max: &'static str,
}

impl Guard {
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let [needs, request] = words else {
            return Err("a guard is `needs=... request=...`".to_owned());
        };
        let needs = needs.strip_prefix("needs=").ok_or("no needs=")?;
        let size = request.strip_prefix("request=").ok_or("no request=")?;
        let found = SIZES.iter().find(|(name, _)| *name == size);
        let (_, request_bytes_max) = found.ok_or_else(|| format!("`{size}` is not a size"))?;
        let needs = match needs {
            "none" => Vec::new(),
            needs => needs.split('|').map(all_of).collect::<Result<_, _>>()?,
        };
        Ok(Self { needs, request_bytes_max })
    }
}

fn all_of(text: &str) -> Result<Vec<(String, String)>, String> {
    let one = |need: &str| {
        let known = need.split_once(':').filter(|(operation, resource)| {
            OPERATIONS.contains(operation) && RESOURCES.contains(resource)
        });
        let (operation, resource) =
            known.ok_or_else(|| format!("`{need}` is no operation on a kind of resource"))?;
        Ok((operation.to_owned(), resource.to_owned()))
    };
    text.split('+').map(one).collect()
}
