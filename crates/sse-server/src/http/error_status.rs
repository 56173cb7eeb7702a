//! The one table of error codes and their statuses.
//!
//! A code is stable, and two errors with the same remedy share one. A new row is also added to
//! `docs/http-api.md` and `docs/troubleshooting.md`, which a test compares with this table.

use actix_web::http::StatusCode;

/// Defines [`ErrorCode`] from one row per code.
macro_rules! error_codes {
    ($($name:ident, $code:literal, $status:ident;)*) => {
        /// A reason that a client can distinguish.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum ErrorCode { $($name,)* }

        impl ErrorCode {
            /// All codes.
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as sent, and the status.
            pub(super) const fn row(self) -> (&'static str, StatusCode) {
                match self { $(Self::$name => ($code, StatusCode::$status),)* }
            }
        }
    };
}

error_codes! {
    InvalidChannel, "invalid_channel", BAD_REQUEST;
    InvalidAction, "invalid_action", BAD_REQUEST;
    InvalidEncoding, "invalid_encoding", BAD_REQUEST;
    InvalidParameter, "invalid_parameter", BAD_REQUEST;
    UnknownParameter, "unknown_parameter", BAD_REQUEST;
    InvalidJson, "invalid_json", BAD_REQUEST;
    InvalidUtf8, "invalid_utf8", BAD_REQUEST;
    InvalidBatch, "invalid_batch", BAD_REQUEST;
    EmptyBatch, "empty_batch", BAD_REQUEST;
    InvalidIdempotencyKey, "invalid_idempotency_key", BAD_REQUEST;
    InvalidHeader, "invalid_header", BAD_REQUEST;
    IncompleteBody, "incomplete_body", BAD_REQUEST;
    InvalidRequest, "invalid_request", BAD_REQUEST;
    ConflictingCredentials, "conflicting_credentials", BAD_REQUEST;
    Unauthorized, "unauthorized", UNAUTHORIZED;
    AdminNeedsRules, "admin_needs_rules", FORBIDDEN;
    NoSigningKey, "no_signing_key", NOT_FOUND;
    NoSuchStream, "no_such_stream", NOT_FOUND;
    InsufficientScope, "insufficient_scope", FORBIDDEN;
    OriginNotAllowed, "origin_not_allowed", FORBIDDEN;
    PreflightRejected, "preflight_rejected", FORBIDDEN;
    NotFound, "not_found", NOT_FOUND;
    MethodNotAllowed, "method_not_allowed", METHOD_NOT_ALLOWED;
    NoSuchChannel, "no_such_channel", NOT_FOUND;
    NoBackup, "no_backup", NOT_FOUND;
    BackupConflict, "backup_conflict", CONFLICT;
    ChannelClosed, "channel_closed", CONFLICT;
    DeletedRecently, "deleted_recently", CONFLICT;
    ChannelDeleted, "channel_deleted", GONE;
    HistoryGap, "history_gap", GONE;
    ConditionFailed, "condition_failed", PRECONDITION_FAILED;
    BodyTimeout, "body_timeout", REQUEST_TIMEOUT;
    TooLarge, "too_large", PAYLOAD_TOO_LARGE;
    UnsupportedMediaType, "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE;
    ForeignHost, "foreign_host", MISDIRECTED_REQUEST;
    RateLimited, "rate_limited", TOO_MANY_REQUESTS;
    TooManyNewChannels, "too_many_new_channels", TOO_MANY_REQUESTS;
    IdempotencyKeyReused, "idempotency_key_reused", UNPROCESSABLE_ENTITY;
    TooManyIdempotencyKeys, "too_many_idempotency_keys", SERVICE_UNAVAILABLE;
    Draining, "draining", SERVICE_UNAVAILABLE;
    Busy, "busy", SERVICE_UNAVAILABLE;
    AccessUnavailable, "access_unavailable", SERVICE_UNAVAILABLE;
    BrokerUnavailable, "broker_unavailable", SERVICE_UNAVAILABLE;
    OutcomeUnknown, "outcome_unknown", SERVICE_UNAVAILABLE;
    LogDamaged, "log_damaged", SERVICE_UNAVAILABLE;
    LogFull, "log_full", INSUFFICIENT_STORAGE;
    BackupFailed, "backup_failed", INSUFFICIENT_STORAGE;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_error_code_with_its_status() {
        let troubleshooting = include_str!("../../../../docs/troubleshooting.md");
        let http_api = include_str!("../../../../docs/http-api.md");
        for (code, status) in ErrorCode::ALL.iter().map(|code| code.row()) {
            let status = status.as_u16();
            for (page, text, row) in [
                (
                    "troubleshooting",
                    troubleshooting,
                    format!("| `{code}` | {status} |"),
                ),
                ("http-api", http_api, format!("| {status} | `{code}` |")),
            ] {
                assert!(text.contains(&row), "docs/{page}.md does not contain {row}");
            }
        }
    }
}
