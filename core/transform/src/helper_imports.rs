//! Work that the host does faster than a guest: fields of JSON, hashes. They allocate nothing and
//! answer by the document alone.

use crate::abi;
use crate::imports::{GuestState, memory_and_state, range, slice, stop};
use crate::json::{self, Field, Kind, Refused};
use crate::json_column::Column;
use std::ops::Range;
use wasmtime::{Caller, Linker};

/// Adds all of them.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_JSON_FIELD, json_field)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_JSON_NUMBER, json_number)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_JSON_NUMBERS, json_numbers)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::IMPORT_HASH64, hash64)?;
    Ok(())
}

/// Their names.
pub(crate) const NAMES: [&str; 4] =
    [abi::IMPORT_JSON_FIELD, abi::IMPORT_JSON_NUMBER, abi::IMPORT_JSON_NUMBERS, abi::IMPORT_HASH64];

fn json_field(
    mut caller: Caller<'_, GuestState>,
    document: u32,
    document_bytes: u32,
    path: u32,
    path_bytes: u32,
    out: u32,
) -> wasmtime::Result<i32> {
    let (memory, host) = memory_and_state(&mut caller)?;
    let asked = Asked { document, document_bytes, path, path_bytes, out };
    let (place, _, found) = asked.find(memory, host)?;
    let field = match found {
        Ok(field) => field,
        Err(refused) => return Ok(refusal(refused)),
    };
    let words = [field.place.start as u32, field.place.len() as u32].map(u32::to_le_bytes);
    if let Some(place) = memory.get_mut(place) {
        place.copy_from_slice(words.as_flattened());
    }
    Ok(match field.kind {
        Kind::Null => abi::JSON_NULL,
        Kind::Bool => abi::JSON_BOOL,
        Kind::Number => abi::JSON_NUMBER,
        Kind::String => abi::JSON_STRING,
        Kind::Array => abi::JSON_ARRAY,
        Kind::Object => abi::JSON_OBJECT,
    })
}

fn json_number(
    mut caller: Caller<'_, GuestState>,
    document: u32,
    document_bytes: u32,
    path: u32,
    path_bytes: u32,
    out: u32,
) -> wasmtime::Result<i32> {
    let (memory, host) = memory_and_state(&mut caller)?;
    let asked = Asked { document, document_bytes, path, path_bytes, out };
    let (place, text, found) = asked.find(memory, host)?;
    let number = match found {
        Ok(field) if field.kind == Kind::Number => {
            json::number(text.get(field.place).unwrap_or_default())
        }
        Ok(_) => None,
        Err(refused) => return Ok(refusal(refused)),
    };
    let Some(number) = number else {
        return Ok(abi::JSON_NOT_A_NUMBER);
    };
    if let Some(place) = memory.get_mut(place) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    Ok(0)
}

fn json_numbers(
    mut caller: Caller<'_, GuestState>,
    documents: u32,
    count: u32,
    name: u32,
    name_bytes: u32,
    out: u32,
) -> wasmtime::Result<()> {
    let (memory, host) = memory_and_state(&mut caller)?;
    let bytes = u64::from(count) * 8;
    let table = range("a table of documents", memory.len(), documents, bytes).map_err(stop)?;
    let out = range("the documents' numbers", memory.len(), out, bytes).map_err(stop)?;
    let name = slice(memory, "a member's name", name, u64::from(name_bytes)).map_err(stop)?;
    // Copied, since a guest may have the answers written over it.
    let name = name.to_vec();
    host.charge(name.len())?;
    let column = Column::new(&name);
    for (entry, place) in table.step_by(8).zip(out.step_by(8)) {
        let words = memory.get(entry..).and_then(|rest| rest.first_chunk::<8>()).copied();
        let [a, b, c, d, e, f, g, h] = words.unwrap_or_default();
        let (address, bytes) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let number = match bytes {
            abi::NULL => None,
            bytes => {
                host.charge(bytes as usize)?;
                let document = slice(memory, "a document", address, u64::from(bytes));
                column.number(document.map_err(stop)?)
            }
        };
        let number = number.unwrap_or(f64::NAN).to_le_bytes();
        if let Some(place) = memory.get_mut(place..).and_then(|rest| rest.first_chunk_mut::<8>()) {
            *place = number;
        }
    }
    Ok(())
}

/// What a guest asks of a document: addresses and lengths that nobody has checked.
struct Asked {
    document: u32,
    document_bytes: u32,
    path: u32,
    path_bytes: u32,
    out: u32,
}

/// Where the answer goes, the document, and the field.
type Found<'a> = (Range<usize>, &'a [u8], Result<Field, Refused>);

impl Asked {
    fn find<'a>(&self, memory: &'a [u8], host: &mut GuestState) -> wasmtime::Result<Found<'a>> {
        host.charge(self.document_bytes as usize)?;
        let place = range("a field's place", memory.len(), self.out, 8).map_err(stop)?;
        let document = slice(memory, "a document", self.document, u64::from(self.document_bytes));
        let document = document.map_err(stop)?;
        let path = slice(memory, "a path", self.path, u64::from(self.path_bytes));
        let found = json::find(document, path.map_err(stop)?);
        Ok((place, document, found))
    }
}

fn refusal(refused: Refused) -> i32 {
    match refused {
        Refused::NotFound => abi::JSON_NOT_FOUND,
        Refused::Invalid => abi::JSON_INVALID,
    }
}

fn hash64(
    mut caller: Caller<'_, GuestState>,
    address: u32,
    bytes: u32,
    seed: u64,
) -> wasmtime::Result<u64> {
    let (memory, host) = memory_and_state(&mut caller)?;
    host.charge(bytes as usize)?;
    let piece = slice(memory, "what is hashed", address, u64::from(bytes)).map_err(stop)?;
    Ok(twox_hash::XxHash64::oneshot(seed, piece))
}
