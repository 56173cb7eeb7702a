//! The body of the request: `--body TEXT`, `--body @FILE`, `--body @-`.

use std::{
    fs::File,
    io::{self, Read},
};

use bytes::Bytes;

/// Limit of bytes of a body.
const BYTES_MAX: u64 = 16 << 20;

/// The bytes of a body. They can be a secret, so `Debug` does not print them.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestBody(pub Bytes);

/// Why a text is not a body. The error does not contain the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBody {
    /// The file cannot be read.
    #[error("cannot read the body from {name}: {why}")]
    Unreadable {
        /// The name of the file, or `stdin`.
        name: String,
        /// The error of the operating system.
        why: String,
    },
    /// The body is larger than the limit.
    #[error("the body is larger than {} MiB", BYTES_MAX >> 20)]
    TooLarge,
}

impl RequestBody {
    /// Parses the value of the flag, and reads the file that it names.
    ///
    /// # Errors
    /// The file cannot be read, or the body is too large.
    pub fn parse(text: &str) -> Result<Self, InvalidBody> {
        let body = match text.strip_prefix('@') {
            None => Bytes::copy_from_slice(text.as_bytes()),
            Some("-") => read_body("stdin", Ok(io::stdin()))?,
            Some(file) => read_body(file, File::open(file))?,
        };
        if body.len() as u64 > BYTES_MAX {
            Err(InvalidBody::TooLarge)
        } else {
            Ok(Self(body))
        }
    }
}

fn read_body(name: &str, source: io::Result<impl Read>) -> Result<Bytes, InvalidBody> {
    let mut bytes = Vec::new();
    source
        .and_then(|source| source.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| InvalidBody::Unreadable {
            name: name.to_owned(),
            why: error.to_string(),
        })?;
    Ok(bytes.into())
}

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RequestBody({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_text_or_a_file() {
        assert_eq!(RequestBody::parse("{}").unwrap().0, "{}");
        assert_eq!(RequestBody::parse("").unwrap().0, "");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("body");
        std::fs::write(&path, b"a\xFF").unwrap();
        assert_eq!(
            RequestBody::parse(&format!("@{}", path.display()))
                .unwrap()
                .0,
            b"a\xFF"[..]
        );
        let error = RequestBody::parse("@/absent").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot read the body from /absent: No such file"),
            "{error}"
        );
        assert_eq!(
            RequestBody::parse(&"x".repeat((16 << 20) + 1)),
            Err(InvalidBody::TooLarge)
        );
    }

    #[test]
    fn debug_does_not_print_a_body() {
        assert_eq!(
            format!("{:?}", RequestBody::parse("secret").unwrap()),
            "RequestBody(6 bytes)"
        );
    }
}
