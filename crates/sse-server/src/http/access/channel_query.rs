//! The query of a request that names channels, read in the order in which a response is decided:
//! the credential (401), the rights (403), and then everything else (400).

use sse_proto::Channel;

use super::{caller::Caller, credential::ACCESS_TOKEN};
use crate::{
    access::Right,
    http::{error::ApiResult, request::query::Params},
};

/// A query whose channels the caller may use.
pub(crate) struct ChannelQuery {
    /// The parameters, without the token.
    pub(crate) params: Params,
    /// In the order of their names.
    pub(crate) channels: Vec<Channel>,
}

impl ChannelQuery {
    /// Reads the query of a publish, which names one channel and has the parameters `known`.
    pub(crate) fn of_publish(
        query: &str,
        caller: &Caller,
        known: &[&'static str],
    ) -> ApiResult<(Channel, Params)> {
        caller.require_some(Right::Publish)?;
        let params = Params::parse_any(query)?;
        let channel = params.channel()?;
        caller.require(Right::Publish, std::slice::from_ref(&channel))?;
        params.check_known(known)?;
        Ok((channel, params))
    }

    /// Reads the query of a stream or of history, which has the parameters `known`.
    pub(crate) fn of_read(query: &str, caller: &Caller, known: &[&'static str]) -> ApiResult<Self> {
        caller.require_some(Right::Subscribe)?;
        let params = Params::parse_any(query)?.without(ACCESS_TOKEN);
        let channels = params.channels()?;
        caller.require(Right::Subscribe, &channels)?;
        params.check_known(known)?;
        Ok(Self { params, channels })
    }
}
