//! One definition of each section of the configuration: the struct, its defaults and its printed
//! reference come from the same lines, so that they cannot drift apart.

/// One documented key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// Lines of documentation, as they stand above the field.
    pub(crate) doc: &'static [&'static str],
}

/// One section: `[name]`, or `[[name]]` where it may stand several times.
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) repeated: bool,
    pub(crate) doc: &'static [&'static str],
    pub(crate) keys: &'static [Key],
    /// The defaults, as TOML.
    pub(crate) defaults: fn() -> toml::Table,
}

/// Defines a section: `/// doc` + `pub struct Name "name" { /// doc  field: Type = default, }`.
macro_rules! section {
    ($(#[doc = $sdoc:literal])* $repeated:literal struct $name:ident $toml:literal {
        $($(#[doc = $fdoc:literal])+ $field:ident: $ty:ty = $default:expr,)+
    }) => {
        $(#[doc = $sdoc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct $name { $($(#[doc = $fdoc])+ pub(crate) $field: $ty,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $name {
            pub(crate) const SECTION: $crate::config::section::Section =
                $crate::config::section::Section {
                name: $toml,
                repeated: $repeated,
                doc: &[$($sdoc),*],
                keys: &[$($crate::config::section::Key {
                    name: stringify!($field),
                    doc: &[$($fdoc),+],
                }),+],
                defaults: || toml::Table::try_from($name::default()).unwrap_or_default(),
            };
        }
    };
}
pub(crate) use section;
