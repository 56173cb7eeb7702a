//! The findings of a check, as sentences and as JSON.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::json;

/// How bad a finding is. The order is that of the exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// No trouble is to be expected.
    Ok,
    /// The server works, and trouble is to be expected.
    Warning,
    /// The server cannot start, or rejects every publish.
    Error,
}

/// One sentence about one area.
#[derive(Debug, Serialize)]
struct Finding {
    severity: Severity,
    area: &'static str,
    message: String,
}

/// All findings.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Finding>);

impl Report {
    pub(super) fn ok(&mut self, area: &'static str, message: impl fmt::Display) {
        self.add(Severity::Ok, area, message);
    }

    pub(super) fn warn(&mut self, area: &'static str, message: impl fmt::Display) {
        self.add(Severity::Warning, area, message);
    }

    pub(super) fn fail(&mut self, area: &'static str, message: impl fmt::Display) {
        self.add(Severity::Error, area, message);
    }

    fn add(&mut self, severity: Severity, area: &'static str, message: impl fmt::Display) {
        self.0.push(Finding {
            severity,
            area,
            message: message.to_string(),
        });
    }

    /// Returns the worst severity.
    fn result(&self) -> Severity {
        let severities = self.0.iter().map(|finding| finding.severity);
        severities.max().unwrap_or(Severity::Ok)
    }

    /// Returns the exit code: 0, 1 with warnings, 2 with errors.
    pub(super) fn exit_code(&self) -> u8 {
        self.result() as u8
    }

    /// Returns one line per finding, the worst last, and a last line with the result.
    pub(super) fn to_text(&self) -> String {
        let mut findings: Vec<_> = self.0.iter().collect();
        findings.sort_by_key(|finding| finding.severity);
        let mut text = String::new();
        for finding in findings {
            let severity = match finding.severity {
                Severity::Ok => "ok",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            // Writing to a string never fails.
            let _ = writeln!(text, "{severity}: {}: {}", finding.area, finding.message);
        }
        text.push_str(match self.result() {
            Severity::Ok => "No trouble is to be expected.\n",
            Severity::Warning => "The server would start, and trouble is to be expected.\n",
            Severity::Error => "The server would not start, or would reject every publish.\n",
        });
        text
    }

    /// Returns the findings in the order in which they were made, as one JSON object.
    pub(super) fn to_json(&self) -> String {
        let report = json!({ "result": self.result(), "findings": self.0 });
        format!("{report}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let mut report = Report::default();
        assert_eq!(report.exit_code(), 0);
        report.ok("clock", "fine");
        assert_eq!(report.exit_code(), 0);
        report.warn("disk", "small");
        assert_eq!(report.exit_code(), 1);
        report.fail("ports", "in use");
        report.ok("redis", "responds");
        assert_eq!(report.exit_code(), 2);
        let text = report.to_text();
        assert!(text.starts_with("ok: clock: fine\nok: redis: responds\nwarning: disk: small\n"));
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["result"], "error");
        assert_eq!(json["findings"][1]["area"], "disk");
    }
}
