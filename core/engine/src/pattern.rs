//! Regular expressions that peers send: their length and compiled size have caps, and matching takes
//! time linear in pattern and name. Must never be matched against less than a whole name.

use millpond_wire::limits;
use regex_lite::{Regex, RegexBuilder};

/// A pattern that matches whole names only.
///
/// # Errors
/// What is wrong with the text, for people.
pub(crate) fn whole(text: &str) -> Result<Regex, String> {
    if text.len() > limits::MEMBER_REGEX_BYTES_MAX {
        return Err("it is too long".to_owned());
    }
    let build = |text: &str| {
        let program =
            RegexBuilder::new(text).size_limit(limits::MEMBER_REGEX_PROGRAM_BYTES_MAX).build();
        program.map_err(|error| error.to_string())
    };
    // On its own first: what is put around it must not be what makes it whole.
    build(text)?;
    build(&format!(r"\A(?:{text})\z"))
}
