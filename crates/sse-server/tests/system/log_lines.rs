//! The page about troubleshooting lists every WARN and ERROR line of the server.

use std::{fs, path::Path};

use crate::process::workspace;

/// Parts of a message between its placeholders that are shorter prove nothing.
const SHORTEST_PART: usize = 8;

/// Returns the text of each `tracing::warn!` and `tracing::error!` under `folder`.
fn messages(folder: &Path) -> Vec<String> {
    let mut messages = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of the folder").path();
        if path.is_dir() {
            messages.extend(self::messages(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("a source file");
            let calls = ["tracing::warn!(", "tracing::error!("]
                .iter()
                .flat_map(|call| source.split(call).skip(1));
            messages.extend(calls.filter_map(message));
        }
    }
    messages
}

/// Returns the format string at the start of a macro's arguments, after the fields. `None` if the
/// message is not a literal.
fn message(arguments: &str) -> Option<String> {
    let arguments = arguments.split(");").next()?;
    let literal = arguments.split('"').nth(1)?;
    let lines = literal.split('\\').map(str::trim_start);
    Some(lines.collect::<String>().replace('`', ""))
}

/// Returns the parts of a message that are always the same.
fn constant_parts(message: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = message
        .split('{')
        .map(|part| part.split_once('}').map_or(part, |(_, text)| text))
        .map(str::trim)
        .collect();
    parts.retain(|part| part.len() >= SHORTEST_PART);
    parts
}

#[test]
fn every_warning_and_error_of_the_server_is_explained() {
    let root = workspace();
    let page = fs::read_to_string(root.join("docs/troubleshooting.md")).expect("the page");
    let page = page.replace('`', "");
    let messages = messages(&root.join("crates/sse-server/src"));
    assert!(messages.len() > 20, "only {} were found", messages.len());
    let missing: Vec<&String> = messages
        .iter()
        .filter(|message| {
            constant_parts(message)
                .iter()
                .any(|part| !page.contains(part))
        })
        .collect();
    assert!(missing.is_empty(), "not on the page: {missing:#?}");
}
