//! Names of topics: which there may be, and which are made of others. It knows names only, never
//! topics.

use crate::limits::TOPIC_NAME_BYTES_MAX;

/// Whether Kafka would accept the name: letters, digits, `.`, `_`, `-`; at most 249 bytes;
/// not `.` or `..`.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    problem(name).is_none()
}

/// What is wrong with a name, in Kafka's words.
#[must_use]
pub fn problem(name: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() {
        return Some("the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Some("'.' or '..' is not allowed".to_owned());
    }
    let max = TOPIC_NAME_BYTES_MAX;
    if name.len() > max {
        return Some(format!("the length of '{name}' is longer than the max allowed length {max}"));
    }
    (!name.bytes().all(plain)).then(|| {
        format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )
    })
}

/// Where records of a topic go that a transform failed on, unless it says otherwise.
#[must_use]
pub fn dead_letter(topic: &str) -> String {
    const SUFFIX: &str = ".dead-letter";
    let room = TOPIC_NAME_BYTES_MAX - SUFFIX.len();
    // Names of topics are ASCII.
    format!("{}{SUFFIX}", topic.get(..room).unwrap_or(topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_topic_of_any_topic_has_a_name_that_is_allowed() {
        assert_eq!(dead_letter("readings"), "readings.dead-letter");
        assert!(is_valid(&dead_letter(&"t".repeat(TOPIC_NAME_BYTES_MAX))));
    }
}
