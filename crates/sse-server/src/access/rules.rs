//! What the configuration says about callers.
//!
//! The rules are plain values, and the files that they name were read. `snapshot` prepares them for
//! look-ups.

use std::{sync::Arc, time::Duration};

use super::{
    Digest, Pattern, Right, Rights, Template, keys::KeySource, template::ClaimValues,
    ticket::SigningKeys,
};
use crate::quota::Limits;

/// The access rules. The default is that there are none, and every caller may do everything.
#[derive(Debug, Clone, Default)]
pub struct AccessRules {
    /// `None` if there are no rules.
    pub(crate) restrictions: Option<Restrictions>,
}

/// The rules of `[access]`.
#[derive(Debug, Clone)]
pub(crate) struct Restrictions {
    /// The claim of a token that contains rights.
    pub(crate) claim: String,
    /// The name of the cookie that may contain a token.
    pub(crate) cookie: String,
    /// The longest whole life of a token in a URL; zero if a URL may contain none.
    pub(crate) query_token_life: Duration,
    /// Whether the cookie is also sent with requests of pages of other sites.
    pub(crate) cookie_cross_site: bool,
    /// Whether no token is accepted while the revocations cannot be read.
    pub(crate) revocation_strict: bool,
    /// What callers without a credential may do.
    pub(crate) anonymous: CallerRules,
    pub(crate) keys: Vec<KeyRules>,
    pub(crate) issuers: Vec<IssuerRules>,
    /// The keys of tickets; `None` if there are no tickets.
    pub(crate) signing: Option<Arc<SigningKeys>>,
}

/// What a caller may do, and how much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CallerRules {
    pub(crate) rights: Rights,
    pub(crate) limits: Limits,
}

/// An API key.
#[derive(Debug, Clone)]
pub(crate) struct KeyRules {
    pub(crate) name: Arc<str>,
    /// The SHA-256 of the key; two while it is rotated.
    pub(crate) digests: Vec<Digest>,
    pub(crate) caller: CallerRules,
}

/// An issuer of tokens.
#[derive(Debug, Clone)]
pub(crate) struct IssuerRules {
    /// The `iss` of its tokens, exactly.
    pub(crate) issuer: Arc<str>,
    /// One of them must be in the `aud` of its tokens.
    pub(crate) audience: Vec<String>,
    pub(crate) keys: KeySource,
    /// What every subject may do, besides the rights in its token.
    pub(crate) grants: Grants,
    /// How much each subject may use.
    pub(crate) limits: Limits,
}

/// Rights with claims in their patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    pub(crate) publish: Vec<Template>,
    pub(crate) subscribe: Vec<Template>,
    pub(crate) manage: Vec<Template>,
    pub(crate) observe: bool,
    pub(crate) admin: bool,
}

impl AccessRules {
    /// Returns whether callers are restricted. Otherwise every caller may do everything.
    #[must_use]
    pub fn is_restricted(&self) -> bool {
        self.restrictions.is_some()
    }

    /// Returns the name of the cookie that may contain a token; `None` without rules.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        self.restrictions
            .as_ref()
            .map(|rules| rules.cookie.as_str())
    }

    /// Returns the longest whole life of a token in a URL; zero if a URL may contain none.
    #[must_use]
    pub fn query_token_life(&self) -> Duration {
        self.restrictions
            .as_ref()
            .map_or(Duration::ZERO, |rules| rules.query_token_life)
    }

    /// Returns whether the cookie is also sent with requests of pages of other sites.
    #[must_use]
    pub fn cookie_is_cross_site(&self) -> bool {
        self.restrictions
            .as_ref()
            .is_some_and(|rules| rules.cookie_cross_site)
    }

    /// Returns whether no token is accepted while the revocations cannot be read.
    #[must_use]
    pub fn revocation_is_strict(&self) -> bool {
        self.restrictions
            .as_ref()
            .is_some_and(|rules| rules.revocation_strict)
    }

    /// Returns whether tickets can be created.
    #[must_use]
    pub fn signs_tickets(&self) -> bool {
        self.restrictions
            .as_ref()
            .is_some_and(|rules| rules.signing.is_some())
    }

    /// Returns the names of the API keys.
    pub fn key_names(&self) -> impl Iterator<Item = &Arc<str>> {
        let rules = self.restrictions.iter();
        rules.flat_map(|rules| &rules.keys).map(|key| &key.name)
    }

    /// Returns what callers without a credential may do.
    pub(crate) fn anonymous_rights(&self) -> Rights {
        match &self.restrictions {
            Some(rules) => rules.anonymous.rights.clone(),
            None => Rights::everything(),
        }
    }
}

impl Grants {
    /// Returns the templates of a right.
    pub(crate) fn templates(&self, right: Right) -> &[Template] {
        match right {
            Right::Publish => &self.publish,
            Right::Subscribe => &self.subscribe,
            Right::Manage => &self.manage,
        }
    }

    /// Returns every template.
    pub(crate) fn all_templates(&self) -> impl Iterator<Item = &Template> {
        Right::ALL
            .into_iter()
            .flat_map(|right| self.templates(right))
    }

    /// Returns those of the values with which the grants cover one of the patterns.
    pub(crate) fn needed_values(&self, values: &ClaimValues, subscribe: &[Pattern]) -> ClaimValues {
        let covers = |template: &&Template| {
            let granted = template.patterns(values);
            let mut wanted = subscribe.iter();
            wanted.any(|wanted| granted.iter().any(|granted| granted.covers(wanted)))
        };
        let needed = self.subscribe.iter().filter(covers);
        let names = needed.flat_map(Template::claims);
        names
            .filter_map(|name| Some((name.into(), values.get(name)?.clone())))
            .collect()
    }

    /// Returns the rights for a token with these values.
    pub(crate) fn rights(&self, values: &ClaimValues) -> Rights {
        let patterns = |right| -> Vec<Pattern> {
            let templates = self.templates(right).iter();
            templates
                .flat_map(|template| template.patterns(values))
                .collect()
        };
        Rights {
            publish: patterns(Right::Publish),
            subscribe: patterns(Right::Subscribe),
            manage: patterns(Right::Manage),
            observe: self.observe,
            admin: self.admin,
            within: None,
        }
    }
}
