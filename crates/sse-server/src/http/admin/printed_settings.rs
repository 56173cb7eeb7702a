//! The settings of a running server, for operators. Passwords and digests of keys are hidden.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The settings as texts; clones share them.
#[derive(Debug, Clone, Default)]
pub struct PrintedSettings {
    rows: Arc<[PrintedSetting]>,
    /// The tables of the configuration file, of which a reload replaces `[access]`.
    tables: Arc<Mutex<Tables>>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrintedSetting {
    /// Key of the configuration file.
    pub key: String,
    /// The value in TOML.
    pub value: String,
    /// `flag`, `variable`, `default`, or the line of the file.
    pub origin: String,
}

/// Tables as texts in TOML, with the line of each key.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tables {
    /// The tables `[[tls]]` of the file.
    pub tls: String,
    /// The table `[access]`, as it is in effect.
    pub access: String,
}

impl PrintedSettings {
    /// Creates the settings with these rows and tables.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = PrintedSetting>, tables: Tables) -> Self {
        Self {
            rows: rows.into_iter().collect(),
            tables: Arc::new(Mutex::new(tables)),
        }
    }

    /// Returns the settings that have a key of their own.
    #[must_use]
    pub fn rows(&self) -> &[PrintedSetting] {
        &self.rows
    }

    /// Returns the tables.
    #[must_use]
    pub fn tables(&self) -> Tables {
        self.lock().clone()
    }

    /// Replaces the table `[access]` after a reload.
    pub fn set_access(&self, printed: String) {
        self.lock().access = printed;
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // No code panics while it holds this lock.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
