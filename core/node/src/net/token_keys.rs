//! The keys that signed tokens are checked with, replaced as a whole when their file changes. Must never
//! be empty: the rules of before stay until there are new ones.

use std::sync::{Arc, PoisonError, RwLock};

use millpond_security::sasl::TokenRules;

/// The rules in force.
#[derive(Debug)]
pub(crate) struct TokenKeys(RwLock<Arc<TokenRules>>);

impl TokenKeys {
    pub(crate) fn new(rules: TokenRules) -> Self {
        Self(RwLock::new(Arc::new(rules)))
    }

    /// As they are now.
    pub(crate) fn now(&self) -> Arc<TokenRules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From the next token on.
    pub(crate) fn replace(&self, rules: TokenRules) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}
