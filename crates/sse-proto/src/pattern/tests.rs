//! Tests of patterns: a table, and a comparison with a matcher that tries every place.

use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Pattern = pattern.parse().unwrap();
    pattern.matches(&name.parse().unwrap())
}

/// The definition: `*` is one or more characters.
fn matches_by_definition(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', others @ ..], [_, rest @ ..]) => {
            matches_by_definition(others, rest) || matches_by_definition(pattern, rest)
        }
        ([expected, others @ ..], [found, rest @ ..]) if expected == found => {
            matches_by_definition(others, rest)
        }
        _ => false,
    }
}

#[test]
fn a_star_matches_one_or_more_characters() {
    for (pattern, name, expected) in [
        ("orders", "orders", true),
        ("orders", "orders.1", false),
        ("orders.*", "orders.1", true),
        ("orders.*", "orders.eu.42", true),
        ("orders.*", "orders.", false),
        ("orders.*", "orders", false),
        ("orders.*", "xorders.1", false),
        ("*", "a", true),
        ("*", "a.b:c~d", true),
        ("**", "a", false),
        ("**", "ab", true),
        ("*.log", "a.log", true),
        ("*.log", ".log", false),
        ("a*b*c", "axbxc", true),
        ("a*b*c", "abbc", false),
        ("a*b*c", "abbbc", true),
        ("a*bc", "abcbc", true),
        ("a*bc", "abc", false),
        ("*a*", "bab", true),
        ("*a*", "aaa", true),
        ("*a*", "aa", false),
        ("A", "a", false),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }
}

#[test]
fn a_pattern_has_the_characters_and_the_length_of_a_name() {
    let longest = "x".repeat(64);
    assert!(longest.parse::<Pattern>().is_ok());
    for bad in [
        "",
        "a b",
        "ä",
        "a/b",
        "a?",
        "{sub}",
        "a\n",
        &format!("{longest}*"),
    ] {
        assert_eq!(bad.parse::<Pattern>(), Err(InvalidPattern), "{bad:?}");
    }
}

#[test]
fn a_pattern_covers_what_matches_no_more() {
    for (wide, narrow, expected) in [
        ("*", "*", true),
        ("*", "a.*", true),
        ("a.*", "*", false),
        ("a.*", "a.*", true),
        ("a.*", "a.b.*", true),
        ("a.*", "a.b", true),
        ("a.*", "a.", false),
        ("a.*", "a.**", true),
        ("a.**", "a.*", false),
        ("a.*.c", "a.b.c", true),
        ("a.*.c", "a.*", false),
    ] {
        let (wide, narrow): (Pattern, Pattern) = (wide.parse().unwrap(), narrow.parse().unwrap());
        assert_eq!(wide.covers(&narrow), expected, "{wide} {narrow}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn matching_follows_the_definition(pattern in "[ab.*]{1,9}", name in "[ab.]{1,12}") {
        let expected = matches_by_definition(pattern.as_bytes(), name.as_bytes());
        prop_assert_eq!(matches(&pattern, &name), expected);
    }

    #[test]
    fn what_is_covered_matches(wide in "[ab*]{1,6}", narrow in "[ab*]{1,6}", name in "[ab]{1,10}") {
        let (wide, narrow): (Pattern, Pattern) = (wide.parse().unwrap(), narrow.parse().unwrap());
        let name = name.parse().unwrap();
        if wide.covers(&narrow) && narrow.matches(&name) {
            prop_assert!(wide.matches(&name));
        }
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error(text in any::<String>()) {
        if let Ok(pattern) = text.parse::<Pattern>() {
            prop_assert_eq!(pattern.as_str(), text);
        }
    }
}
