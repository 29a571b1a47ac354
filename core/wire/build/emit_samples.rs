//! The Rust that fills messages with random content, for the tests of this crate only (they include it). Must never
//! fill what a version cannot say, so that what is read back must equal what was written.

use std::fmt::Write;

use crate::emit::{condition, guarded, snake};
use crate::schema::{Field, Kind, Message, Schema};

/// `impl Sample` and `impl Heap` for every struct, and `each_message!`.
pub(crate) fn samples(schema: &Schema) -> String {
    let mut out = String::new();
    for message in &schema.messages {
        let module = snake(message.name());
        for part in &message.structs {
            let path = format!("millpond_wire::messages::{module}::{}", part.name);
            let _ = writeln!(out, "impl Sample for {path} {{");
            out.push_str(
                "#[allow(unused_variables, unused_mut, clippy::field_reassign_with_default)]\n",
            );
            out.push_str("fn sample(dice: &mut Dice, version: i16) -> Self {\nlet mut this = Self::default();\n");
            for field in &part.fields {
                let value = value(message, &module, field);
                guarded(
                    &mut out,
                    message,
                    field.versions,
                    &format!("this.{} = {value};", field.name),
                );
            }
            out.push_str("this\n}\n}\n\n");
            let sum: Vec<String> = part
                .fields
                .iter()
                .map(|field| format!("self.{}.heap_bytes()", field.name))
                .collect();
            let sum = if sum.is_empty() { "0".to_owned() } else { sum.join(" + ") };
            let _ = writeln!(
                out,
                "impl Heap for {path} {{\nfn heap_bytes(&self) -> usize {{ {sum} }}\n}}\n"
            );
        }
    }
    out.push_str(
        "/// Calls a macro as `mac!(Name, first version, last version);` for every message.\n",
    );
    out.push_str("#[allow(unused_macros)]\nmacro_rules! each_message {\n($mac:ident) => {\n");
    for message in &schema.messages {
        let (name, versions) = (message.name(), message.versions);
        let _ = writeln!(out, "$mac!({name}, {}, {});", versions.min, versions.max);
    }
    out.push_str("};\n}\n");
    out
}

fn value(message: &Message, module: &str, field: &Field) -> String {
    let plain = kind_value(module, &field.kind);
    match field.nullable {
        None => plain,
        Some(nullable) => {
            let allowed = condition(message, nullable);
            let null = allowed.map_or("dice.null()".to_owned(), |c| format!("{c} && dice.null()"));
            format!("if {null} {{ None }} else {{ Some({plain}) }}")
        }
    }
}

fn kind_value(module: &str, kind: &Kind) -> String {
    match kind {
        Kind::Bool => "dice.bool()".to_owned(),
        Kind::I8 => "dice.i8()".to_owned(),
        Kind::I16 => "dice.i16()".to_owned(),
        Kind::U16 => "dice.u16()".to_owned(),
        Kind::I32 => "dice.i32()".to_owned(),
        Kind::I64 => "dice.i64()".to_owned(),
        Kind::F64 => "dice.f64()".to_owned(),
        Kind::Uuid => "dice.uuid()".to_owned(),
        Kind::String => "dice.string()".to_owned(),
        Kind::Bytes => "dice.bytes()".to_owned(),
        Kind::Secret => "millpond_wire::Secret(dice.bytes())".to_owned(),
        Kind::Records => "dice.records()".to_owned(),
        Kind::Struct(name) => {
            format!("<millpond_wire::messages::{module}::{name} as Sample>::sample(dice, version)")
        }
        Kind::Array(element) => {
            let one = kind_value(module, element);
            format!("{{ let count = dice.count(); (0..count).map(|_| {one}).collect() }}")
        }
    }
}
