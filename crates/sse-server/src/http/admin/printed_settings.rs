//! The settings of a running server, for operators. Passwords and digests of keys are hidden.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The settings as texts, which a reload changes; clones share them.
#[derive(Debug, Clone, Default)]
pub struct PrintedSettings(Arc<Mutex<Printed>>);

#[derive(Debug, Clone, Default)]
struct Printed {
    /// In the order of their keys.
    rows: Vec<PrintedSetting>,
    tables: Tables,
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
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by(|one, other| one.key.cmp(&other.key));
        Self(Arc::new(Mutex::new(Printed { rows, tables })))
    }

    /// Returns the settings that have a key of their own, in the order of their keys.
    #[must_use]
    pub fn rows(&self) -> Vec<PrintedSetting> {
        self.lock().rows.clone()
    }

    /// Returns the tables.
    #[must_use]
    pub fn tables(&self) -> Tables {
        self.lock().tables.clone()
    }

    /// Takes the settings of `read` whose keys are `applied`, and its tables.
    pub fn reload(&self, read: &Self, applied: &[&str]) {
        let Printed { rows: read, tables } = read.lock().clone();
        let is_applied = |row: &PrintedSetting| applied.contains(&&*row.key);
        let mut printed = self.lock();
        printed.rows.retain(|row| !is_applied(row));
        printed.rows.extend(read.into_iter().filter(is_applied));
        printed.rows.sort_by(|one, other| one.key.cmp(&other.key));
        printed.tables = tables;
    }

    fn lock(&self) -> MutexGuard<'_, Printed> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(rows: &[(&str, &str)], access: &str) -> PrintedSettings {
        let rows = rows.iter().map(|(key, value)| PrintedSetting {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
            origin: "flag".to_owned(),
        });
        let tables = Tables {
            tls: String::new(),
            access: access.to_owned(),
        };
        PrintedSettings::new(rows, tables)
    }

    #[test]
    fn a_reload_changes_only_what_it_applies() {
        let running = printed(&[("streams_max", "1"), ("bind", "a")], "old");
        let read = printed(
            &[("bind", "b"), ("stream_life", "1h"), ("streams_max", "2")],
            "new",
        );
        running.reload(&read, &["streams_max", "stream_life"]);
        let rows = running.rows();
        let rows: Vec<_> = rows.iter().map(|row| (&*row.key, &*row.value)).collect();
        assert_eq!(
            rows,
            [("bind", "a"), ("stream_life", "1h"), ("streams_max", "2")]
        );
        assert_eq!(running.tables().access, "new");
    }
}
