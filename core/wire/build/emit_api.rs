//! The Rust of the API table and of the unions over all requests and responses. Must never list an API by hand.

use std::fmt::Write;

use crate::guard::Guard;
use crate::schema::{Message, Schema};

/// `ApiKey`, its `spec`, and `APIS`.
pub(crate) fn api_table(schema: &Schema) -> String {
    let mut out = String::from(
        "/// An API that is served.\n#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         #[repr(i16)]\npub enum ApiKey {\n",
    );
    for api in &schema.apis {
        let _ = writeln!(out, "/// {} (key {}).\n{} = {},", api.name, api.key, api.name, api.key);
    }
    out.push_str(
        "}\n\nimpl ApiKey {\n/// The API of a number on the wire; `None` if it is not served.\n",
    );
    out.push_str(
        "#[must_use]\npub const fn from_code(code: i16) -> Option<Self> {\nSome(match code {\n",
    );
    for api in &schema.apis {
        let _ = writeln!(out, "{} => Self::{},", api.key, api.name);
    }
    out.push_str("_ => return None,\n})\n}\n\n/// What is served of it.\n#[must_use]\n");
    out.push_str("pub const fn spec(self) -> &'static ApiSpec {\nmatch self {\n");
    for api in &schema.apis {
        let guard = api.guard.as_ref();
        let guard = guard.unwrap_or_else(|| panic!("{} has no guard", api.name));
        let _ = writeln!(
            out,
            "Self::{name} => &ApiSpec {{ key: Self::{name}, name: \"{name}\", min_version: {}, max_version: {}, \
             advertised_min_version: {}, flexible_from: {:?}, needs: {}, \
             request_bytes_max: limits::{} }},",
            api.versions.min,
            api.versions.max,
            api.advertised,
            api.flexible,
            needs(guard),
            guard.request_bytes_max,
            name = api.name,
        );
    }
    out.push_str(
        "}\n}\n}\n\n/// All APIs that are served, by number.\npub const APIS: &[&ApiSpec] = &[\n",
    );
    for api in &schema.apis {
        let _ = writeln!(out, "ApiKey::{}.spec(),", api.name);
    }
    out.push_str("];\n");
    out
}

fn needs(guard: &Guard) -> String {
    let mut out = String::from("&[");
    for all in &guard.needs {
        out.push_str("&[");
        for (operation, resource) in all {
            let _ = write!(
                out,
                "Need {{ operation: Operation::{operation}, resource: Resource::{resource} }}, "
            );
        }
        out.push_str("], ");
    }
    out.push(']');
    out
}

/// What a device asks for: the responses to it can always be read, those to what administers a cluster
/// only with the feature `every-response`. Reading them is a tenth of the SDK's size.
const OF_DEVICES: [&str; 20] = [
    "Produce",
    "Fetch",
    "ListOffsets",
    "Metadata",
    "OffsetCommit",
    "OffsetFetch",
    "FindCoordinator",
    "JoinGroup",
    "Heartbeat",
    "LeaveGroup",
    "SyncGroup",
    "SaslHandshake",
    "ApiVersions",
    "InitProducerId",
    "AddPartitionsToTxn",
    "AddOffsetsToTxn",
    "EndTxn",
    "TxnOffsetCommit",
    "SaslAuthenticate",
    "ConsumerGroupHeartbeat",
];

/// `Request` and `Response`.
pub(crate) fn unions(schema: &Schema) -> String {
    let mut out = String::from(
        "use crate::api::ApiKey;\nuse crate::reader::{DecodeError, Reader};\nuse crate::writer::Writer;\n\n",
    );
    for union in ["Request", "Response"] {
        let lower = union.to_lowercase();
        let _ = writeln!(
            out,
            "/// Any {lower} that is served.\n#[derive(Debug, Clone, PartialEq, Eq)]\npub enum {union} {{"
        );
        for api in &schema.apis {
            let _ = writeln!(
                out,
                "/// The {lower} of {name}.\n{name}({name}{union}),",
                name = api.name
            );
        }
        let _ = writeln!(out, "}}\n\nimpl {union} {{\n/// Which API this belongs to.\n#[must_use]");
        out.push_str("pub const fn api_key(&self) -> ApiKey {\nmatch self {\n");
        for api in &schema.apis {
            let _ = writeln!(out, "Self::{name}(_) => ApiKey::{name},", name = api.name);
        }
        let _ = writeln!(
            out,
            "}}\n}}\n\n/// Reads the body of a {lower}, without its header. Bytes after it are left unread.\n///\n\
             /// # Errors\n/// [`DecodeError::UnsupportedVersion`], and whatever does not fit the layout.\n\
             pub fn decode(api: ApiKey, version: i16, reader: &mut Reader) -> Result<Self, DecodeError> {{\n\
             if !api.serves(version) {{\nreturn Err(DecodeError::UnsupportedVersion {{ api, version }});\n}}\n\
             Ok(match api {{"
        );
        for api in &schema.apis {
            let name = &api.name;
            if union == "Response" && !OF_DEVICES.contains(&name.as_str()) {
                out.push_str("#[cfg(feature = \"every-response\")]\n");
            }
            let _ = writeln!(
                out,
                "ApiKey::{name} => Self::{name}({name}{union}::decode(reader, version)?),"
            );
        }
        if union == "Response" {
            out.push_str(
                "#[cfg(not(feature = \"every-response\"))]\n\
                 _ => return Err(DecodeError::UnsupportedVersion { api, version }),\n",
            );
        }
        let _ = writeln!(
            out,
            "}})\n}}\n\n/// Writes the body of the {lower}, without its header.\n\
             pub fn encode(&self, writer: &mut Writer, version: i16) {{\nmatch self {{"
        );
        for api in &schema.apis {
            let _ = writeln!(out, "Self::{}(body) => body.encode(writer, version),", api.name);
        }
        out.push_str("}\n}\n");
        if union == "Response" {
            out.push_str(&throttle_time(schema));
        }
        out.push_str("}\n\n");
        for api in &schema.apis {
            let name = &api.name;
            let _ = writeln!(
                out,
                "impl From<{name}{union}> for {union} {{\nfn from(body: {name}{union}) -> Self {{\n\
                 Self::{name}(body)\n}}\n}}\n"
            );
        }
    }
    out
}

/// Where a response says how long its client is to wait, if it can.
fn throttle_time(schema: &Schema) -> String {
    let mut out = String::from(
        "\n/// Where it says how long its client is to wait (KIP-219); `None`: it has no place for it.\n\
         pub const fn throttle_time_ms_mut(&mut self) -> Option<&mut i32> {\nmatch self {\n",
    );
    for api in &schema.apis {
        let of = |message: &&Message| message.name() == format!("{}Response", api.name);
        let fields = schema.messages.iter().find(of).and_then(|message| message.structs.first());
        let says = fields.is_some_and(|all| all.fields.iter().any(|one| one.name == THROTTLE));
        let _ = match says {
            true => writeln!(out, "Self::{}(body) => Some(&mut body.{THROTTLE}),", api.name),
            false => writeln!(out, "Self::{}(_) => None,", api.name),
        };
    }
    out.push_str("}\n}\n");
    out
}

const THROTTLE: &str = "throttle_time_ms";
