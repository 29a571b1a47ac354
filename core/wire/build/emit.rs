//! The Rust of the messages: structs, defaults, decoding, encoding. Must never emit code that can panic.

use std::fmt::Write;

use crate::schema::{Field, Kind, Message, Schema, Struct, Versions};

/// A module for each message, and the messages again in the open.
pub(crate) fn messages(schema: &Schema) -> String {
    let mut out = String::new();
    for message in &schema.messages {
        let (name, module) = (message.name(), snake(message.name()));
        let Versions { min, max } = message.versions;
        let _ = writeln!(out, "pub use {module}::{name};\n");
        let _ = writeln!(
            out,
            "/// `{name}` and its parts, versions {min} to {max}.\npub mod {module} {{"
        );
        out.push_str(
            "#[allow(unused_imports)]\nuse super::{F64, Message, Records, Secret, Uuid};\n",
        );
        out.push_str("#[allow(unused_imports)]\nuse bytes::Bytes;\n");
        out.push_str("use crate::reader::{DecodeError, Reader};\nuse crate::writer::Writer;\n\n");
        for part in &message.structs {
            definition(&mut out, message, part);
            implementation(&mut out, message, part);
        }
        out.push_str("}\n\n");
    }
    out
}

fn definition(out: &mut String, message: &Message, part: &Struct) {
    let derive_default =
        if part.fields.iter().all(|f| f.default.is_none()) { ", Default" } else { "" };
    let _ = writeln!(out, "/// `{}` of the Kafka protocol.", part.name);
    let _ = writeln!(
        out,
        "#[derive(Debug, Clone, PartialEq, Eq{derive_default})]\npub struct {} {{",
        part.name
    );
    for field in &part.fields {
        let _ = writeln!(out, "/// {}", field_doc(message, field));
        let _ = writeln!(out, "pub {}: {},", field.name, rust_type(field));
    }
    out.push_str("}\n\n");
    if derive_default.is_empty() {
        let _ =
            writeln!(out, "impl Default for {} {{\nfn default() -> Self {{\nSelf {{", part.name);
        for field in &part.fields {
            let default = field.default.as_deref().unwrap_or("Default::default()");
            let _ = writeln!(out, "{}: {default},", field.name);
        }
        out.push_str("}\n}\n}\n\n");
    }
}

fn field_doc(message: &Message, field: &Field) -> String {
    let Versions { min, max } = field.versions;
    let mut doc = if field.doc.is_empty() { String::new() } else { format!("{}. ", field.doc) };
    match (min == message.versions.min, max == message.versions.max) {
        (true, true) => doc.push_str("All versions"),
        (false, true) => doc.push_str(&format!("Versions {min} and up")),
        _ if min == max => doc.push_str(&format!("Version {min}")),
        _ => doc.push_str(&format!("Versions {min} to {max}")),
    }
    if let Some(tag) = field.tag {
        doc.push_str(&format!(", tag {tag}"));
    }
    if let Some(default) = &field.default {
        doc.push_str(&format!("; default {default}"));
    }
    doc.push('.');
    doc
}

fn rust_type(field: &Field) -> String {
    let plain = rust_kind(&field.kind);
    if field.nullable.is_some() { format!("Option<{plain}>") } else { plain }
}

fn rust_kind(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "bool".to_owned(),
        Kind::I8 => "i8".to_owned(),
        Kind::I16 => "i16".to_owned(),
        Kind::U16 => "u16".to_owned(),
        Kind::I32 => "i32".to_owned(),
        Kind::I64 => "i64".to_owned(),
        Kind::F64 => "F64".to_owned(),
        Kind::Uuid => "Uuid".to_owned(),
        Kind::String => "String".to_owned(),
        Kind::Bytes => "Bytes".to_owned(),
        Kind::Secret => "Secret".to_owned(),
        Kind::Records => "Records".to_owned(),
        Kind::Struct(name) => name.clone(),
        Kind::Array(element) => format!("Vec<{}>", rust_kind(element)),
    }
}

fn implementation(out: &mut String, message: &Message, part: &Struct) {
    let name = &part.name;
    let _ = writeln!(out, "impl Message for {name} {{");
    out.push_str(&min_bytes(message, part));
    let (plain, tagged): (Vec<&Field>, Vec<&Field>) =
        part.fields.iter().partition(|f| f.tag.is_none());

    out.push_str("#[allow(unused_variables)]\n");
    out.push_str("fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {\n");
    let _ = writeln!(out, "let flexible = {};", flexible(message));
    out.push_str("#[allow(unused_mut)]\nlet mut this = Self::default();\n");
    for field in &plain {
        let read = read(message, field);
        guarded(out, message, field.versions, &format!("this.{} = {read};", field.name));
    }
    decode_tags(out, message, &tagged);
    out.push_str("Ok(this)\n}\n\n");

    out.push_str(
        "#[allow(unused_variables)]\nfn encode(&self, writer: &mut Writer, version: i16) {\n",
    );
    let _ = writeln!(out, "let flexible = {};", flexible(message));
    for field in &plain {
        let write = write_field(message, field, "writer");
        guarded(out, message, field.versions, &write);
    }
    encode_tags(out, message, &tagged);
    out.push_str("}\n}\n\n");
}

/// The expression for "this version has compact lengths and tagged fields".
pub(crate) fn flexible(message: &Message) -> String {
    match message.flexible {
        None => "false".to_owned(),
        Some(from) if from <= message.versions.min => "true".to_owned(),
        Some(from) => format!("version >= {from}"),
    }
}

/// The condition for a version to be among `wanted`; nothing if it always is.
pub(crate) fn condition(message: &Message, wanted: Versions) -> Option<String> {
    let all = message.versions;
    match (wanted.min <= all.min, wanted.max >= all.max) {
        (true, true) => None,
        (false, true) => Some(format!("version >= {}", wanted.min)),
        (true, false) => Some(format!("version <= {}", wanted.max)),
        (false, false) => Some(format!("({}..={}).contains(&version)", wanted.min, wanted.max)),
    }
}

pub(crate) fn guarded(out: &mut String, message: &Message, versions: Versions, statement: &str) {
    let _ = match condition(message, versions) {
        None => writeln!(out, "{statement}"),
        Some(condition) => writeln!(out, "if {condition} {{ {statement} }}"),
    };
}

fn decode_tags(out: &mut String, message: &Message, tagged: &[&Field]) {
    if message.flexible.is_none() {
        return;
    }
    if tagged.is_empty() {
        out.push_str("if flexible { reader.skip_tagged_fields()?; }\n");
        return;
    }
    out.push_str("if flexible {\nreader.tagged_fields(|reader, tag| {\nmatch tag {\n");
    for field in tagged {
        let guard =
            condition(message, field.versions).map_or_else(String::new, |c| format!(" if {c}"));
        let (tag, read) = (field.tag.unwrap_or_default(), read(message, field));
        let _ = writeln!(out, "{tag}{guard} => this.{} = {read},", field.name);
    }
    out.push_str("_ => return Ok(false),\n}\nOk(true)\n})?;\n}\n");
}

fn encode_tags(out: &mut String, message: &Message, tagged: &[&Field]) {
    if message.flexible.is_none() {
        return;
    }
    if tagged.is_empty() {
        out.push_str("if flexible { writer.no_tagged_fields(); }\n");
        return;
    }
    out.push_str("if flexible {\nlet mut count = 0;\n");
    for field in tagged {
        let mut said = differs_from_default(field);
        if let Some(condition) = condition(message, field.versions) {
            said = format!("{condition} && {said}");
        }
        let tag = field.tag.unwrap_or_default();
        let _ = writeln!(out, "let said_{tag} = {said};\ncount += u32::from(said_{tag});");
    }
    out.push_str("writer.uvarint(count);\n");
    for field in tagged {
        let (tag, write) = (field.tag.unwrap_or_default(), write_field(message, field, "inner"));
        let _ =
            writeln!(out, "if said_{tag} {{ writer.tagged_field({tag}, |inner| {{ {write} }}); }}");
    }
    out.push_str("}\n");
}

fn differs_from_default(field: &Field) -> String {
    let name = &field.name;
    if let Some(default) = &field.default {
        return format!("self.{name} != {default}");
    }
    if field.nullable.is_some() {
        return format!("self.{name}.is_some()");
    }
    match &field.kind {
        Kind::Bool => format!("self.{name}"),
        Kind::I8 | Kind::I16 | Kind::U16 | Kind::I32 | Kind::I64 => {
            format!("self.{name} != 0")
        }
        Kind::F64 => format!("self.{name} != F64::default()"),
        Kind::Uuid => format!("!self.{name}.is_zero()"),
        Kind::Struct(kind) => format!("self.{name} != {kind}::default()"),
        Kind::String | Kind::Bytes | Kind::Records | Kind::Secret | Kind::Array(_) => {
            format!("!self.{name}.is_empty()")
        }
    }
}

/// The expression that reads a field, in any of its versions.
fn read(message: &Message, field: &Field) -> String {
    let Some(nullable) = field.nullable else {
        return read_kind(message, &field.kind, "");
    };
    let maybe = read_kind(message, &field.kind, "nullable_");
    // Within a field's own versions only the difference matters.
    if nullable.covers(field.versions) {
        return maybe;
    }
    let never = read_kind(message, &field.kind, "");
    let condition = condition(message, nullable).unwrap_or_else(|| "true".to_owned());
    format!("if {condition} {{ {maybe} }} else {{ Some({never}) }}")
}

fn read_kind(message: &Message, kind: &Kind, nullable: &str) -> String {
    match kind {
        Kind::Bool => "reader.bool()?".to_owned(),
        Kind::I8 => "reader.i8()?".to_owned(),
        Kind::I16 => "reader.i16()?".to_owned(),
        Kind::U16 => "reader.u16()?".to_owned(),
        Kind::I32 => "reader.i32()?".to_owned(),
        Kind::I64 => "reader.i64()?".to_owned(),
        Kind::F64 => "F64::from(reader.f64()?)".to_owned(),
        Kind::Uuid => "reader.uuid()?".to_owned(),
        Kind::String => format!("reader.{nullable}string(flexible)?"),
        Kind::Bytes => format!("reader.{nullable}bytes(flexible)?"),
        Kind::Secret => "Secret(reader.bytes(flexible)?)".to_owned(),
        Kind::Records => format!("reader.{nullable}records(flexible)?"),
        Kind::Struct(name) if nullable.is_empty() => format!("{name}::decode(reader, version)?"),
        // A byte tells whether it is there: -1 is null.
        Kind::Struct(name) => format!(
            "if reader.i8()? < 0 {{ None }} else {{ Some({name}::decode(reader, version)?) }}"
        ),
        Kind::Array(element) => {
            let least = least_bytes(message, element);
            let one = read_kind(message, element, "");
            // `x()?` as a closure's whole body is `x()`.
            let one = one.strip_suffix('?').unwrap_or(&one);
            format!("reader.{nullable}array(flexible, {least}, |reader| {one})?")
        }
    }
}

/// The expression for the least bytes of one value.
fn least_bytes(message: &Message, kind: &Kind) -> String {
    let by_flexibility = |compact: usize, plain: usize| match message.flexible {
        None => plain.to_string(),
        Some(from) if from <= message.versions.min => compact.to_string(),
        Some(_) => format!("if flexible {{ {compact} }} else {{ {plain} }}"),
    };
    match kind {
        Kind::String => by_flexibility(1, 2),
        Kind::Bytes | Kind::Records | Kind::Secret | Kind::Array(_) => by_flexibility(1, 4),
        Kind::Struct(name) => format!("{name}::min_bytes(version)"),
        _ => fixed_bytes(kind).to_string(),
    }
}

const fn fixed_bytes(kind: &Kind) -> usize {
    match kind {
        Kind::Bool | Kind::I8 => 1,
        Kind::I16 | Kind::U16 => 2,
        Kind::I32 => 4,
        Kind::I64 | Kind::F64 => 8,
        Kind::Uuid => 16,
        _ => 0,
    }
}

/// `min_bytes` as a table: version ranges with the least size that an encoding has there.
fn min_bytes(message: &Message, part: &Struct) -> String {
    let mut ranges: Vec<(i16, usize)> = Vec::new();
    for version in message.versions.min..=message.versions.max {
        let least = struct_bytes(message, part, version);
        match ranges.last_mut() {
            Some((last, known)) if *known == least => *last = version,
            _ => ranges.push((version, least)),
        }
    }
    let mut out = String::from(
        "#[allow(unused_variables)]\nfn min_bytes(version: i16) -> usize {\nmatch version {\n",
    );
    let mut first = i16::MIN;
    for (last, least) in &ranges {
        let _ = match *last == message.versions.max {
            true => writeln!(out, "_ => {least},"),
            false => writeln!(out, "{first}..={last} => {least},"),
        };
        first = last + 1;
    }
    out.push_str("}\n}\n\n");
    out
}

fn struct_bytes(message: &Message, part: &Struct, version: i16) -> usize {
    let flexible = message.flexible.is_some_and(|from| version >= from);
    let length = |plain: usize| if flexible { 1 } else { plain };
    let bytes = |field: &Field| match &field.kind {
        Kind::String => length(2),
        Kind::Bytes | Kind::Records | Kind::Secret | Kind::Array(_) => length(4),
        Kind::Struct(_) if field.nullable.is_some_and(|nullable| nullable.contains(version)) => 1,
        Kind::Struct(name) => {
            let inner = message.structs.iter().find(|s| s.name == *name);
            inner.map_or(0, |inner| struct_bytes(message, inner, version))
        }
        kind => fixed_bytes(kind),
    };
    let said = part.fields.iter().filter(|f| f.tag.is_none() && f.versions.contains(version));
    // The count of the tagged fields takes a byte.
    usize::from(flexible) + said.map(bytes).sum::<usize>()
}

/// The statement that writes a field, in any of its versions.
fn write_field(message: &Message, field: &Field, writer: &str) -> String {
    let name = format!("self.{}", field.name);
    let Some(nullable) = field.nullable else {
        return format!("{};", write_kind(&field.kind, writer, &borrowed(&field.kind, &name)));
    };
    let maybe = write_nullable(&field.kind, writer, &name);
    if nullable.covers(field.versions) {
        return format!("{maybe};");
    }
    // Where null cannot be said, nothing is said: the empty value.
    let condition = condition(message, nullable).unwrap_or_else(|| "true".to_owned());
    let never = match field.kind {
        Kind::Bytes | Kind::Records => {
            let value = format!("{name}.clone().unwrap_or_default()");
            write_kind(&field.kind, writer, &format!("&{value}"))
        }
        _ => write_kind(&field.kind, writer, &format!("{name}.as_deref().unwrap_or_default()")),
    };
    format!("if {condition} {{ {maybe} }} else {{ {never} }}")
}

fn borrowed(kind: &Kind, value: &str) -> String {
    match kind {
        Kind::String | Kind::Bytes | Kind::Records | Kind::Array(_) => format!("&{value}"),
        Kind::Secret => format!("&{value}.0"),
        _ => value.to_owned(),
    }
}

fn write_kind(kind: &Kind, writer: &str, value: &str) -> String {
    match kind {
        Kind::Bool => format!("{writer}.bool({value})"),
        Kind::I8 => format!("{writer}.i8({value})"),
        Kind::I16 => format!("{writer}.i16({value})"),
        Kind::U16 => format!("{writer}.u16({value})"),
        Kind::I32 => format!("{writer}.i32({value})"),
        Kind::I64 => format!("{writer}.i64({value})"),
        Kind::F64 => format!("{writer}.f64({value}.get())"),
        Kind::Uuid => format!("{writer}.uuid({value})"),
        Kind::String => format!("{writer}.string(flexible, {value})"),
        Kind::Bytes | Kind::Secret => format!("{writer}.bytes(flexible, {value})"),
        Kind::Records => format!("{writer}.records(flexible, {value})"),
        Kind::Struct(_) => format!("{value}.encode({writer}, version)"),
        Kind::Array(element) => {
            format!("{writer}.array(flexible, {value}, {})", element_writer(element))
        }
    }
}

fn write_nullable(kind: &Kind, writer: &str, name: &str) -> String {
    match kind {
        Kind::String => format!("{writer}.nullable_string(flexible, {name}.as_deref())"),
        Kind::Bytes => format!("{writer}.nullable_bytes(flexible, {name}.as_ref())"),
        Kind::Records => format!("{writer}.nullable_records(flexible, {name}.as_ref())"),
        Kind::Array(element) => {
            format!(
                "{writer}.nullable_array(flexible, {name}.as_deref(), {})",
                element_writer(element)
            )
        }
        Kind::Struct(_) => format!(
            "match &{name} {{ Some(one) => {{ {writer}.i8(1); one.encode({writer}, version) }} \
             None => {writer}.i8(-1) }}"
        ),
        _ => panic!("numbers and secrets cannot be null in this schema"),
    }
}

fn element_writer(element: &Kind) -> String {
    let value = if fixed_bytes(element) > 0 { "*one" } else { "one" };
    format!("|writer, one| {}", write_kind(element, "writer", value))
}

/// `ProduceRequest` as `produce_request`.
pub(crate) fn snake(name: &str) -> String {
    let mut out = String::new();
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
