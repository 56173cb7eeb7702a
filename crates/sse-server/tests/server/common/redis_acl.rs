//! The users that `docs/operations/redis.md` prescribes. The tests run as these users.

const PAGE: &str = include_str!("../../../../../docs/operations/redis.md");

/// Name of the users.
pub(crate) const USER: &str = "sse";
/// Password of the users.
pub(crate) const PASSWORD: &str = "geheim";

/// The rules of the user at Redis, as words, with those that the bridge to Flask-SSE needs, and those
/// that a Redis Cluster needs.
pub(crate) fn redis_rules() -> Vec<String> {
    let mut all = rules("~sse:*");
    for (place, what) in [("also needs `", "the bridge"), ("also need `", "a cluster")] {
        let (_, more) = PAGE
            .split_once(place)
            .unwrap_or_else(|| panic!("rules of {what}"));
        let more = more.split('`').next().unwrap_or_default();
        all.extend(more.split_whitespace().map(str::to_owned));
    }
    all
}

/// The rules of the user at the sentinels, as words.
pub(crate) fn sentinel_rules() -> Vec<String> {
    rules("allchannels")
}

/// The rules in the block of `ACL SETUSER` that contains `word`.
fn rules(word: &str) -> Vec<String> {
    let blocks = PAGE.split("```text\nACL SETUSER sse ").skip(1);
    let mut blocks = blocks.filter_map(|block| block.split("```").next());
    let block = blocks.find(|block| block.contains(word));
    let words = block.expect("rules in the page").split_whitespace();
    words
        .map(|word| word.replace(">PASSWORD", &format!(">{PASSWORD}")))
        .collect()
}
