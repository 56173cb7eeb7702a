//! The number by which logs distinguish the idempotency keys of principals.

use sha2::{Digest as _, Sha256};

use super::{Creator, Principal};

/// Returns a number of the principal, the same on every node and after every restart; `None` for
/// anonymous callers.
pub(super) fn owner_number(principal: &Principal) -> Option<u64> {
    let hash = Sha256::new_with_prefix("principal:");
    let hash = match principal {
        Principal::Anonymous => return None,
        Principal::Key { name } => hash_texts(hash, ["key", name, ""]),
        Principal::Subject { iss, sub } => hash_texts(hash, ["subject", iss, sub]),
        Principal::Ticket { by, sub } => hash_texts(hash_creator(hash, by), ["ticket", sub, ""]),
    };
    let first = hash.finalize().first_chunk().copied().unwrap_or_default();
    Some(u64::from_be_bytes(first).max(1))
}

fn hash_creator(hash: Sha256, creator: &Creator) -> Sha256 {
    match creator {
        Creator::Key(name) => hash_texts(hash, ["key", name, ""]),
        Creator::Subject { iss, sub } => hash_texts(hash, ["subject", iss, sub]),
        Creator::Operator => hash_texts(hash, ["operator", "", ""]),
    }
}

/// Hashes texts with their lengths, so that no other texts have the same hash.
fn hash_texts(hash: Sha256, texts: [&str; 3]) -> Sha256 {
    texts.iter().fold(hash, |hash, text| {
        let length = (text.len() as u64).to_be_bytes();
        hash.chain_update(length).chain_update(text)
    })
}
