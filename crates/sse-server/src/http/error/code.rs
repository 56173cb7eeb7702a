//! The code of each error.

use super::ApiError;
use crate::{
    broker::backup::BackupError,
    http::{broker_error, error_status::ErrorCode},
};

impl ApiError {
    /// Returns the code, which decides the status.
    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidName {
                what: "channel", ..
            } => ErrorCode::InvalidChannel,
            Self::InvalidName { .. } => ErrorCode::InvalidAction,
            Self::InvalidEncoding(_) => ErrorCode::InvalidEncoding,
            Self::InvalidParameter { .. } => ErrorCode::InvalidParameter,
            Self::UnknownParameter { .. } => ErrorCode::UnknownParameter,
            Self::InvalidJson(_) | Self::JsonTooDeep | Self::NotAnArray(_) => {
                ErrorCode::InvalidJson
            }
            Self::InvalidUtf8 => ErrorCode::InvalidUtf8,
            Self::InvalidBatch { .. } | Self::InvalidLine { .. } => ErrorCode::InvalidBatch,
            Self::EmptyBatch => ErrorCode::EmptyBatch,
            Self::InvalidIdempotencyKey(_) => ErrorCode::InvalidIdempotencyKey,
            Self::IdempotencyKeyReused(_) => ErrorCode::IdempotencyKeyReused,
            Self::RepeatedHeader(_) | Self::InvalidCondition(_) => ErrorCode::InvalidHeader,
            Self::InvalidRequest(_) => ErrorCode::InvalidRequest,
            Self::AdminNeedsRules => ErrorCode::AdminNeedsRules,
            Self::NoSigningKey => ErrorCode::NoSigningKey,
            Self::NoSuchStream => ErrorCode::NoSuchStream,
            Self::NoBackup | Self::Backup(BackupError::NotSupported(_)) => ErrorCode::NoBackup,
            Self::Backup(BackupError::Running(_) | BackupError::Exists(_)) => {
                ErrorCode::BackupConflict
            }
            Self::Backup(BackupError::Failed(_)) => ErrorCode::BackupFailed,
            Self::NoSuchChannel => ErrorCode::NoSuchChannel,
            Self::ConditionFailed => ErrorCode::ConditionFailed,
            Self::ConflictingCredentials => ErrorCode::ConflictingCredentials,
            Self::Unauthorized(_) => ErrorCode::Unauthorized,
            Self::InsufficientScope { .. } => ErrorCode::InsufficientScope,
            Self::OriginNotAllowed(_) => ErrorCode::OriginNotAllowed,
            Self::ForeignHost(_) => ErrorCode::ForeignHost,
            Self::PreflightRejected(_) => ErrorCode::PreflightRejected,
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::MethodNotAllowed { .. } => ErrorCode::MethodNotAllowed,
            Self::BodyTimeout(_) | Self::BodyTooSlow(_) => ErrorCode::BodyTimeout,
            Self::IncompleteBody => ErrorCode::IncompleteBody,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::UnsupportedMediaType { .. } => ErrorCode::UnsupportedMediaType,
            Self::HistoryGap => ErrorCode::HistoryGap,
            Self::Draining => ErrorCode::Draining,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::BodyMemoryFull
            | Self::HistoryMemoryFull
            | Self::TooManyStreamingPublishes
            | Self::TooManyFeeds { .. } => ErrorCode::Busy,
            Self::AccessUnavailable => ErrorCode::AccessUnavailable,
            Self::Broker(error) => broker_error::code(error),
        }
    }
}
