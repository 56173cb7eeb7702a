//! What the configuration says about callers.

use std::time::Duration;

/// The access rules. The default is that there are none, and every caller may do everything.
#[derive(Debug, Clone, Default)]
pub struct AccessRules {
    pub(crate) cookie: String,
    pub(crate) query_token_life: Duration,
}

impl AccessRules {
    /// Returns the name of the cookie that may contain a token.
    #[must_use]
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Returns the longest whole life of a token in a URL; zero if a URL may contain none.
    #[must_use]
    pub fn query_token_life(&self) -> Duration {
        self.query_token_life
    }
}
