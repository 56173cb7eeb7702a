//! Positions in a list that do not show the name of a channel.
//!
//! A page may end at a channel that the caller may not see, and a client must be able to continue
//! there. The name is encrypted with a key of this process:
//!
//! ```text
//! tag       the first 8 bytes of SHA-256(key, name)
//! stream    SHA-256(key, tag, 0), SHA-256(key, tag, 1)
//! cursor    "=" + base64url(tag, name XOR stream)
//! ```
//!
//! No name begins with `=`. After a restart, and on another node, the cursor is unknown.

use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use sse_proto::Channel;

const TAG: usize = 8;

fn key() -> &'static [u8; 32] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    KEY.get_or_init(rand::random)
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(key());
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn tag_of(name: &[u8]) -> [u8; TAG] {
    let hash = hash(&[name]);
    hash.first_chunk().copied().unwrap_or_default()
}

/// Encrypts or decrypts: both are the same.
fn apply_stream(tag: &[u8], bytes: &[u8]) -> Vec<u8> {
    let blocks = bytes.chunks(32).zip(0_u64..);
    blocks
        .flat_map(|(block, nth)| {
            let stream = hash(&[tag, &nth.to_le_bytes()]);
            block
                .iter()
                .zip(stream)
                .map(|(byte, mask)| byte ^ mask)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Returns a cursor for `channel` that does not show its name.
pub(super) fn hide(channel: &Channel) -> String {
    let name = channel.as_str().as_bytes();
    let tag = tag_of(name);
    let hidden = [&tag[..], &apply_stream(&tag, name)].concat();
    format!("={}", URL_SAFE_NO_PAD.encode(hidden))
}

/// Returns the channel of a cursor; `None` if this process did not make it.
pub(super) fn show(cursor: &str) -> Option<Channel> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor.strip_prefix('=')?).ok()?;
    let (tag, hidden) = bytes.split_first_chunk::<TAG>()?;
    let name = apply_stream(tag, hidden);
    if tag_of(&name) != *tag {
        return None;
    }
    String::from_utf8(name).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_does_not_show_the_name() {
        for name in ["a", "users.42", &"x".repeat(64)] {
            let channel: Channel = name.parse().unwrap();
            let cursor = hide(&channel);
            assert_eq!(show(&cursor), Some(channel));
            assert!(cursor.starts_with('=') && !cursor.contains("users"));
            let other = format!("{}A", &cursor[..cursor.len() - 1]);
            assert!(show(&other).is_none_or(|shown| shown.as_str() == name));
        }
        for foreign in ["", "=", "=AAAA", "a", "=AAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(show(foreign), None, "{foreign:?}");
        }
    }
}
