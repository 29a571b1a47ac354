//! The printed reference: every key with its documentation and its default, itself a valid
//! configuration file.

use std::fmt::Write;

use super::SECTIONS;

/// The reference as TOML. Each key stands commented out at its default.
pub(crate) fn reference() -> String {
    let mut out = String::from(
        "# Millpond configuration. Every key is shown with its default; remove the\n\
         # leading '#' to set it.\n\
         # Sizes are bytes or texts such as \"64MiB\"; names that end in _ms are milliseconds.\n",
    );
    for section in SECTIONS {
        out.push('\n');
        for line in section.doc {
            let _ = writeln!(out, "# {}", line.trim());
        }
        let _ = match section.repeated {
            true => writeln!(out, "[[{}]]", section.name),
            false => writeln!(out, "[{}]", section.name),
        };
        let defaults = (section.defaults)();
        for key in section.keys {
            for line in key.doc {
                let _ = writeln!(out, "  # {}", line.trim());
            }
            if let Some(value) = defaults.get(key.name) {
                let _ = writeln!(out, "#{} = {value}", key.name);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_reference_is_a_valid_configuration_equal_to_the_defaults() {
        let as_printed: Config = toml::from_str(&reference()).unwrap();
        assert_eq!(as_printed, Config::default());
    }

    #[test]
    fn the_reference_with_every_key_set_is_equal_to_the_defaults() {
        let set: String = reference()
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        assert_eq!(toml::from_str::<Config>(&set).unwrap(), Config::default());
        let keys: usize = SECTIONS.iter().map(|s| s.keys.len()).sum();
        assert_eq!(
            set.lines().filter(|l| l.contains(" = ") && !l.trim().starts_with('#')).count(),
            keys
        );
    }
}
