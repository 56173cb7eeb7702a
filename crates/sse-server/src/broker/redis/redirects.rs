//! Error replies of a Redis Cluster that send a command elsewhere, or ask for another attempt.
//!
//! All of them prove that the command did nothing.

use redis::{ServerError, Value};

use super::{slots::Slot, target::ServerAddress};

/// What to do with a command that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Another node owns the slot.
    Moved(Slot, NodeAddress),
    /// The slot is about to move, and the keys of the command are at this node already, or are new.
    Ask(NodeAddress),
    /// The slot is about to move, and some keys of the command are at each node; or no node serves
    /// the slot at present.
    TryAgain,
}

/// The address of a node. A node that does not know its own address leaves out the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeAddress {
    host: String,
    port: String,
}

impl NodeAddress {
    fn parse(text: &str) -> Option<Self> {
        // An IPv6 address has no brackets here.
        let (host, port) = text.rsplit_once(':')?;
        let host = if host == "?" { "" } else { host };
        Some(Self {
            host: host.to_owned(),
            port: port.to_owned(),
        })
    }

    /// Returns the whole address. `from` is that of the node that sent it.
    pub(super) fn seen_from(&self, from: &ServerAddress) -> Option<ServerAddress> {
        if self.host.is_empty()
            && let ServerAddress::Tcp { host, .. } = from
        {
            return ServerAddress::reported(host, &self.port);
        }
        ServerAddress::reported(&self.host, &self.port)
    }
}

/// Returns the redirection in `replies` that decides: a slot that has moved comes first.
pub(super) fn find_redirect(replies: &[Value]) -> Option<Redirect> {
    let mut first = None;
    for redirect in replies.iter().filter_map(redirect_of_reply) {
        if matches!(redirect, Redirect::Moved(..)) {
            return Some(redirect);
        }
        first.get_or_insert(redirect);
    }
    first
}

fn redirect_of_reply(reply: &Value) -> Option<Redirect> {
    match reply {
        Value::ServerError(error) => redirect_of(error),
        _ => None,
    }
}

/// Returns what an error reply means for the way of its command.
pub(super) fn redirect_of(error: &ServerError) -> Option<Redirect> {
    let mut words = error.details().unwrap_or_default().split(' ');
    match error.code() {
        "MOVED" => {
            let slot = words.next()?.parse().ok().and_then(Slot::from_number)?;
            Some(Redirect::Moved(slot, NodeAddress::parse(words.next()?)?))
        }
        "ASK" => Some(Redirect::Ask(NodeAddress::parse(words.nth(1)?)?)),
        "TRYAGAIN" | "CLUSTERDOWN" => Some(Redirect::TryAgain),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    fn reply(line: &str) -> Value {
        parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap()
    }

    fn shown(line: &str) -> Option<String> {
        let from = ServerAddress::reported("10.0.0.9", "1").unwrap();
        let address = match find_redirect(&[reply("+OK"), reply(line)])? {
            Redirect::Moved(_, address) | Redirect::Ask(address) => address,
            Redirect::TryAgain => return Some("again".to_owned()),
        };
        address.seen_from(&from).map(|address| address.to_string())
    }

    #[test]
    fn a_redirection_names_a_node() {
        for (line, address) in [
            ("-MOVED 3999 10.0.0.1:6381", "10.0.0.1:6381"),
            ("-MOVED 3999 redis-1.example:6381", "redis-1.example:6381"),
            ("-MOVED 3999 fe80::1:6381", "[fe80::1]:6381"),
            ("-MOVED 3999 :6381", "10.0.0.9:6381"),
            ("-ASK 3999 ?:6381", "10.0.0.9:6381"),
            (
                "-TRYAGAIN Multiple keys request during rehashing of slot",
                "again",
            ),
            ("-CLUSTERDOWN The cluster is down", "again"),
        ] {
            assert_eq!(shown(line).as_deref(), Some(address), "{line}");
        }
        for line in [
            "-OOM command not allowed",
            "-MOVED",
            "-MOVED 3999",
            "-MOVED 16384 a:1",
            "-MOVED x a:1",
            "-MOVED 1 a:x",
            "-ASK 1 a b:99999",
        ] {
            assert_eq!(shown(line), None, "{line}");
        }
    }

    #[test]
    fn a_slot_that_has_moved_decides() {
        let replies = [
            reply("-ASK 1 a:1"),
            reply("-MOVED 1 b:1"),
            reply("-TRYAGAIN x"),
        ];
        assert!(matches!(
            find_redirect(&replies),
            Some(Redirect::Moved(Slot { .. }, _))
        ));
        assert!(matches!(
            find_redirect(&replies[..1]),
            Some(Redirect::Ask(_))
        ));
    }
}
