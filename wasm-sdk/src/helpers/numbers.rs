//! One number of each record, looked for in all records of a call at once: one call of the host
//! instead of one for each record.
//!
//! It must never give one call's numbers to the next.

use crate::Record;

/// The number in a field of the records' JSON objects, found by the broker.
///
/// ```
/// use millpond_sdk::helpers::Numbers;
/// use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict};
///
/// /// Keeps what is warm.
/// struct Warm {
///     temperatures: Numbers,
/// }
///
/// impl Transform for Warm {
///     fn new(_: &Settings) -> Result<Self, Failure> {
///         Ok(Warm { temperatures: Numbers::of_field("temperature") })
///     }
///
///     fn on_record(&mut self, record: &Record, _: &mut Output) -> Result<Verdict, Failure> {
///         let temperature = self.temperatures.get(record).ok_or("no number `temperature`")?;
///         Ok(if temperature > 30.0 { Verdict::Keep } else { Verdict::Drop })
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Numbers {
    field: String,
    #[cfg(target_arch = "wasm32")]
    call: Option<u32>,
    #[cfg(target_arch = "wasm32")]
    documents: Vec<[u32; 2]>,
    #[cfg(target_arch = "wasm32")]
    numbers: Vec<f64>,
}

impl Numbers {
    /// For this field of the object that each value is: its name as it stands between its quotes.
    pub fn of_field(field: &str) -> Self {
        Numbers {
            field: field.to_owned(),
            #[cfg(target_arch = "wasm32")]
            call: None,
            #[cfg(target_arch = "wasm32")]
            documents: Vec::new(),
            #[cfg(target_arch = "wasm32")]
            numbers: Vec::new(),
        }
    }

    /// The field's name.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The record's number; `None` if there is no such field, or something else in it. It takes for
    /// granted that the value is JSON.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn get(&mut self, record: &Record<'_>) -> Option<f64> {
        super::native::column_number(record.value()?, self.field.as_bytes())
    }

    /// The record's number; `None` if there is no such field, or something else in it. It takes for
    /// granted that the value is JSON.
    #[cfg(target_arch = "wasm32")]
    #[inline]
    pub fn get(&mut self, record: &Record<'_>) -> Option<f64> {
        if self.call != Some(record.call()) {
            self.fetch(record);
        }
        self.numbers.get(record.index()).copied().filter(|number| !number.is_nan())
    }

    #[cfg(target_arch = "wasm32")]
    #[cold]
    fn fetch(&mut self, record: &Record<'_>) {
        use crate::abi;
        let (input, values) = record.values_of_call();
        let address = input.as_ptr() as usize as u32;
        self.documents.clear();
        self.documents.extend(values.map(|(offset, len)| match len {
            abi::NULL => [0, abi::NULL],
            len => [address.wrapping_add(offset), len],
        }));
        self.numbers.clear();
        self.numbers.resize(self.documents.len(), 0.0);
        super::imports::json_numbers(&self.documents, self.field.as_bytes(), &mut self.numbers);
        self.call = Some(record.call());
    }
}
