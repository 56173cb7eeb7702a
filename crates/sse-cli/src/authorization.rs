//! A request has one `Authorization` header, although several flags can set it.

use http::{HeaderName, header::AUTHORIZATION};

/// Checks that at most one flag sets `Authorization`: `--bearer`, a `--header`, or the user of
/// `--url`.
///
/// # Errors
///
/// The text names two flags that both set it.
pub fn check_one_source<'a>(
    has_bearer: bool,
    headers: impl Iterator<Item = &'a HeaderName>,
    url_has_user: bool,
) -> Result<(), String> {
    let bearer = has_bearer.then_some("--bearer");
    let headers = headers
        .filter(|name| **name == AUTHORIZATION)
        .map(|_| "--header authorization");
    let url = url_has_user.then_some("the user in --url");
    let mut sources = bearer.into_iter().chain(headers).chain(url);
    match (sources.next(), sources.next()) {
        (Some(one), Some(other)) => Err(format!(
            "{one} and {other} both set Authorization: give one of them"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    #[test]
    fn two_sources_are_named() {
        let headers = [ACCEPT, AUTHORIZATION];
        assert_eq!(check_one_source(false, headers.iter(), false), Ok(()));
        assert_eq!(check_one_source(true, headers[..1].iter(), false), Ok(()));
        assert_eq!(
            check_one_source(true, headers.iter(), true).unwrap_err(),
            "--bearer and --header authorization both set Authorization: give one of them"
        );
        assert_eq!(
            check_one_source(false, headers.iter(), true).unwrap_err(),
            "--header authorization and the user in --url both set Authorization: give one of them"
        );
    }
}
