//! Reads a table of the file: every key is known, and every value has the form that its key demands.
//!
//! An error contains where it is in the text, so that the caller can name the line.

use std::fmt::Display;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::config::file::{ErrorAt, nearest_key};

/// A table, of which the keys are known.
#[derive(Debug)]
pub(in crate::config) struct TableReader<'t> {
    name: &'static str,
    table: &'t DeTable<'t>,
    offset: usize,
}

/// A text, and where it is.
pub(in crate::config) type TextAt<'t> = (usize, &'t str);

impl<'t> TableReader<'t> {
    /// Reads `value` as the table `name`, which has no keys but `known`.
    pub(in crate::config) fn new(
        name: &'static str,
        value: &'t Spanned<DeValue<'t>>,
        known: &[&str],
    ) -> Result<Self, ErrorAt> {
        let offset = value.span().start;
        let DeValue::Table(table) = value.get_ref() else {
            return Err((offset, format!("{name} must be a table")));
        };
        for key in table.keys() {
            if !known.contains(&&**key.get_ref()) {
                let hint = nearest_key(known.iter().copied(), key.get_ref());
                let message = format!("there is no setting {} in {name}{hint}", key.get_ref());
                return Err((key.span().start, message));
            }
        }
        Ok(Self {
            name,
            table,
            offset,
        })
    }

    /// Returns where the table is.
    pub(in crate::config) fn offset(&self) -> usize {
        self.offset
    }

    pub(in crate::config) fn find_value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(key)
    }

    /// Returns the text of `key`; `None` if there is no such key.
    pub(in crate::config) fn read_text(&self, key: &str) -> Result<Option<TextAt<'t>>, ErrorAt> {
        self.find_value(key)
            .map(|value| read_text_at(key, value))
            .transpose()
    }

    /// Returns the text of a key that must be there.
    pub(in crate::config) fn read_required_text(&self, key: &str) -> Result<TextAt<'t>, ErrorAt> {
        self.read_text(key)?.ok_or_else(|| self.missing(key))
    }

    /// Returns the parsed text of `key`; `None` if there is no such key.
    pub(in crate::config) fn parse_text<T, E: Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ErrorAt> {
        let Some((offset, text)) = self.read_text(key)? else {
            return Ok(None);
        };
        match parse(text) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(error) => Err((offset, format!("{key}: {error}"))),
        }
    }

    /// Returns the parsed number of `key`, which can also be written as a text with a unit; `None` if
    /// there is no such key.
    pub(in crate::config) fn parse_number<T, E: Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ErrorAt> {
        let Some(value) = self.find_value(key) else {
            return Ok(None);
        };
        let (offset, text) = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => {
                (value.span().start, number.as_str())
            }
            _ => read_text_at(key, value)?,
        };
        match parse(text) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(error) => Err((offset, format!("{key}: {error}"))),
        }
    }

    /// Returns the texts of a list, or the single text that is written instead of a list.
    pub(in crate::config) fn read_texts(&self, key: &str) -> Result<Vec<TextAt<'t>>, ErrorAt> {
        let Some(value) = self.find_value(key) else {
            return Ok(Vec::new());
        };
        match value.get_ref() {
            DeValue::Array(items) => items.iter().map(|item| read_text_at(key, item)).collect(),
            DeValue::String(text) => Ok(vec![(value.span().start, text)]),
            _ => Err((
                value.span().start,
                format!("{key} must be a list of strings"),
            )),
        }
    }

    /// Returns the parsed texts of a list.
    pub(in crate::config) fn parse_texts<T, E: Display>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, ErrorAt> {
        let texts = self.read_texts(key)?.into_iter();
        let parsed = texts.map(|(offset, text)| {
            parse(text).map_err(|error| (offset, format!("{key}: {text:?}: {error}")))
        });
        parsed.collect()
    }

    pub(in crate::config) fn read_switch(&self, key: &str) -> Result<bool, ErrorAt> {
        match self
            .find_value(key)
            .map(|value| (value.span().start, value.get_ref()))
        {
            None => Ok(false),
            Some((_, DeValue::Boolean(is_on))) => Ok(*is_on),
            Some((offset, _)) => Err((offset, format!("{key} must be true or false"))),
        }
    }

    /// Returns the tables of a list `[[name]]`.
    pub(in crate::config) fn read_tables(
        &self,
        key: &str,
        name: &'static str,
        known: &[&str],
    ) -> Result<Vec<TableReader<'t>>, ErrorAt> {
        let Some(value) = self.find_value(key) else {
            return Ok(Vec::new());
        };
        let DeValue::Array(items) = value.get_ref() else {
            return Err((
                value.span().start,
                format!("write [[{name}]] with two brackets"),
            ));
        };
        items
            .iter()
            .map(|item| TableReader::new(name, item, known))
            .collect()
    }

    /// The error for a key that must be there.
    pub(in crate::config) fn missing(&self, key: &str) -> ErrorAt {
        (self.offset, format!("{} needs {key}", self.name))
    }
}

fn read_text_at<'t>(key: &str, value: &'t Spanned<DeValue<'t>>) -> Result<TextAt<'t>, ErrorAt> {
    let offset = value.span().start;
    match value.get_ref() {
        DeValue::String(text) => Ok((offset, text)),
        _ => Err((offset, format!("{key} must be a string"))),
    }
}
