//! The two text formats of metrics.
//!
//! The metrics library writes `OpenMetrics`. A client that does not ask for it may read that text
//! as the Prometheus format, in which the metadata of a counter has the name of its samples:
//!
//! ```text
//! OpenMetrics 1.0.0                      Prometheus 0.0.4
//! # TYPE sse_published_bytes counter     # TYPE sse_published_bytes_total counter
//! # UNIT sse_published_bytes bytes
//! sse_published_bytes_total 17           sse_published_bytes_total 17
//! # TYPE sse_build info                  # TYPE sse_build_info gauge
//! sse_build_info{version="0.1.0"} 1      sse_build_info{version="0.1.0"} 1
//! # EOF
//! ```

use std::{collections::HashMap, fmt::Write as _};

use actix_web::http::header::{Accept, Quality};
use mime::Mime;

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// The Prometheus text format, 0.0.4.
    Prometheus,
}

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns `OpenMetrics` only if the client names it and likes nothing else as much.
    pub(super) fn preferred_by(accept: &Accept) -> Self {
        if best_quality(accept, is_openmetrics) > best_quality(accept, is_plain_text) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

fn best_quality(accept: &Accept, fits: impl Fn(&Mime) -> bool) -> Quality {
    let fitting = accept.iter().filter(|accepted| fits(&accepted.item));
    let best = fitting.map(|accepted| accepted.quality).max();
    best.unwrap_or(Quality::ZERO)
}

fn is_openmetrics(accepted: &Mime) -> bool {
    let version = accepted.get_param("version");
    accepted.essence_str() == "application/openmetrics-text"
        && version.is_none_or(|version| version == "1.0.0")
}

fn is_plain_text(accepted: &Mime) -> bool {
    matches!(accepted.essence_str(), "text/plain" | "text/*" | "*/*")
}

/// Converts `OpenMetrics` text to the Prometheus format.
pub(super) fn to_prometheus_text(openmetrics: &str) -> String {
    let types = types(openmetrics);
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        match Metadata::parse(line) {
            Some(metadata) => metadata.write(&types, &mut text),
            None if line.starts_with('#') => {}
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

/// Returns the types of all metrics by name.
fn types(openmetrics: &str) -> HashMap<&str, &str> {
    openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect()
}

/// A line that describes a metric.
struct Metadata<'a> {
    /// `HELP` or `TYPE`.
    keyword: &'a str,
    name: &'a str,
    text: &'a str,
}

impl<'a> Metadata<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (keyword, rest) = line.strip_prefix("# ")?.split_once(' ')?;
        let (name, text) = rest.split_once(' ')?;
        matches!(keyword, "HELP" | "TYPE").then_some(Self {
            keyword,
            name,
            text,
        })
    }

    fn write(&self, types: &HashMap<&str, &str>, out: &mut String) {
        let Self {
            keyword,
            name,
            text,
        } = self;
        let (suffix, text) = match (types.get(name), *keyword) {
            (Some(&"counter"), _) => ("_total", *text),
            // The Prometheus format has no such type.
            (Some(&"info"), "TYPE") => ("_info", "gauge"),
            (Some(&"info"), _) => ("_info", *text),
            _ => ("", *text),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# {keyword} {name}{suffix} {text}");
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{http::header::Header as _, test::TestRequest};

    use super::*;

    fn preferred(accept: &str) -> Format {
        let request = TestRequest::default().insert_header(("accept", accept));
        Format::preferred_by(&Accept::parse(&request.to_srv_request()).unwrap())
    }

    #[test]
    fn openmetrics_is_for_clients_that_prefer_it() {
        for accept in [
            "application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            // Prometheus 2 and 3.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert_eq!(preferred(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/openmetrics-text;q=0.5,text/plain",
            "application/openmetrics-text,text/plain",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/json",
        ] {
            assert_eq!(preferred(accept), Format::Prometheus, "{accept}");
        }
    }

    #[test]
    fn a_counter_has_the_name_of_its_samples() {
        let openmetrics = "# HELP a_bytes Bytes # of a.\n# TYPE a_bytes counter\n\
                           # UNIT a_bytes bytes\na_bytes_total 17\n\
                           # HELP b Of b.\n# TYPE b gauge\nb 1\n\
                           # HELP i Of i.\n# TYPE i info\ni_info{a=\"1\"} 1\n\
                           # HELP a Of a.\n# TYPE a histogram\na_count 0\n# EOF\n";
        let text = "# HELP a_bytes_total Bytes # of a.\n# TYPE a_bytes_total counter\n\
                    a_bytes_total 17\n\
                    # HELP b Of b.\n# TYPE b gauge\nb 1\n\
                    # HELP i_info Of i.\n# TYPE i_info gauge\ni_info{a=\"1\"} 1\n\
                    # HELP a Of a.\n# TYPE a histogram\na_count 0\n";
        assert_eq!(to_prometheus_text(openmetrics), text);
    }
}
