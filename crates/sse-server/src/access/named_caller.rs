//! A caller as operators name it: an API key by its name, or the subject of an issuer.

use super::{Creator, Identity, Principal};

/// The name of a caller. What it creates tickets for belongs to it as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedCaller {
    /// The API key with this name.
    Key(String),
    /// The subject of tokens of an issuer.
    Subject {
        /// The issuer.
        iss: String,
        /// The subject.
        sub: String,
    },
}

impl NamedCaller {
    /// Whether the caller has this identity, perhaps by a ticket.
    #[must_use]
    pub fn owns(&self, identity: &Identity) -> bool {
        match identity.principal() {
            Principal::Anonymous => false,
            Principal::Key { name } => self.is_key(name),
            Principal::Subject { iss, sub } => self.is_subject(iss, sub),
            Principal::Ticket { by, sub } => {
                let issuer = identity.issuer();
                self.is_creator(by) || issuer.is_some_and(|iss| self.is_subject(iss, sub))
            }
        }
    }

    fn is_key(&self, name: &str) -> bool {
        matches!(self, Self::Key(key) if key == name)
    }

    fn is_subject(&self, of: &str, subject: &str) -> bool {
        matches!(self, Self::Subject { iss, sub } if iss == of && sub == subject)
    }

    fn is_creator(&self, creator: &Creator) -> bool {
        match creator {
            Creator::Key(name) => self.is_key(name),
            Creator::Subject { iss, sub } => self.is_subject(iss, sub),
            Creator::Operator => false,
        }
    }
}
