//! Body of a request for one event.

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::template::{Template, Values};
use crate::payload::DataFormat;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The charset prevents that text is read as Latin-1.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Source of the body.
#[derive(Debug)]
pub(super) enum BodySource {
    Data,
    Template(Template),
    Nothing,
}

impl BodySource {
    /// The template of the user. By default a request with a body contains the data of its event.
    pub(super) fn new(has_body: bool, template: Option<Template>) -> Self {
        match template {
            Some(template) => Self::Template(template),
            None if has_body => Self::Data,
            None => Self::Nothing,
        }
    }

    /// Returns the body and its content type; the content type is `None` without a body.
    pub(super) fn render(
        &self,
        values: &Values<'_>,
        format: DataFormat,
    ) -> (Bytes, Option<HeaderValue>) {
        match self {
            Self::Nothing => (Bytes::new(), None),
            Self::Data => {
                let content_type = match format {
                    DataFormat::Json => JSON,
                    DataFormat::Text => TEXT,
                };
                let body = Bytes::copy_from_slice(values.data.as_bytes());
                (body, Some(content_type))
            }
            Self::Template(template) => {
                let mut body = String::new();
                template.render(values, &mut body);
                (body.into(), Some(JSON))
            }
        }
    }
}
