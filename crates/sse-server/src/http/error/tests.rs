//! Unit tests of the errors.

use actix_web::{ResponseError as _, http::header};

use super::*;

#[test]
fn an_error_that_a_retry_may_remedy_has_a_delay_in_whole_seconds() {
    let retry_after = |error: BrokerError| {
        let response = ApiError::from(error).error_response();
        let value = response.headers().get(header::RETRY_AFTER)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let too_many_keys = |expires_in| BrokerError::KeyBytesFull { expires_in };
    let text = String::new;
    assert_eq!(retry_after(BrokerError::Unavailable(text())).unwrap(), "1");
    assert_eq!(retry_after(BrokerError::Damaged(text())).unwrap(), "1");
    assert_eq!(retry_after(too_many_keys(Duration::ZERO)).unwrap(), "1");
    let delay = Duration::from_millis(1200);
    assert_eq!(retry_after(too_many_keys(delay)).unwrap(), "2");
    assert_eq!(retry_after(BrokerError::Full(text())), None);
    assert_eq!(retry_after(BrokerError::KeyReused { item: 0 }), None);
}

#[test]
fn an_internal_cause_is_replaced_by_its_reference() {
    let error = ApiError::from(BrokerError::Full("/var/lib/sse: 5 bytes".to_owned()));
    let Rejection { message, cause, .. } = error.rejection("code");
    let cause = cause.unwrap();
    assert!(cause.text.contains("/var/lib/sse"), "{}", cause.text);
    assert!(message.contains(&cause.reference.to_string()), "{message}");
    let full = ApiError::from(BrokerError::TooManyChannels(3)).rejection("code");
    assert!(full.cause.is_none() && full.message.contains("3 channels"));
}
