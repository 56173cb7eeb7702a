//! Text that no log, error or debug output may contain.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text. Nothing prints it, and its memory is cleared when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Returns the text, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("geheim".to_owned());
        assert_eq!(format!("{secret:?} {secret:#?}"), "[hidden] [hidden]");
        assert_eq!(secret.expose(), "geheim");
    }
}
