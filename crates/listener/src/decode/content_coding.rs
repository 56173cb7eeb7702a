//! Whether the bytes of a response are encoded, by its header `Content-Encoding` (RFC 9110 §8.4).
//! Pure.
//!
//! Browsers and curl read a stream with `Content-Encoding: none`, which servers send against the
//! compression of a proxy, for example those of PHP and Next.js. The listener does the same.

/// Codings that leave the bytes as they are: the registered one, and the one that servers use.
const WITHOUT_EFFECT: [&[u8]; 2] = [b"identity", b"none"];

/// Returns the codings that change the bytes, separated by commas. Returns `None` without any.
///
/// `values` are the values of all header fields `Content-Encoding`, each of which can be a list.
pub(crate) fn effective_codings<'v>(values: impl Iterator<Item = &'v [u8]>) -> Option<String> {
    let codings: Vec<_> = values
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !is_without_effect(coding))
        .map(String::from_utf8_lossy)
        .collect();
    (!codings.is_empty()).then(|| codings.join(", "))
}

fn is_without_effect(coding: &[u8]) -> bool {
    coding.is_empty()
        || WITHOUT_EFFECT
            .iter()
            .any(|name| coding.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective(values: &[&str]) -> Option<String> {
        effective_codings(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn codings_without_an_effect_are_accepted_in_any_case_and_in_lists() {
        for values in [
            &[][..],
            &[""],
            &["identity"],
            &["none"],
            &["None"],
            &["IDENTITY"],
            &[" none , identity,,"],
            &["none", "Identity"],
        ] {
            assert_eq!(effective(values), None, "{values:?}");
        }
    }

    #[test]
    fn a_compression_is_named() {
        for (values, named) in [
            (&["gzip"][..], "gzip"),
            (&["none, GZIP"], "GZIP"),
            (&["identity", "br"], "br"),
            (&["gzip, br"], "gzip, br"),
            (&["nonesuch"], "nonesuch"),
        ] {
            assert_eq!(effective(values).as_deref(), Some(named), "{values:?}");
        }
    }
}
