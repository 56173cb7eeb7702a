//! The query of a request that names channels, read in the order in which a response is decided:
//! the credential (401), the rights (403), and then everything else (400).

use sse_proto::Channel;

use super::{caller::Caller, credential::ACCESS_TOKEN};
use crate::{
    access::Right,
    broker::lifecycle::{ChannelSettings, CloseReason},
    http::{
        api::channels::check_settings,
        error::{ApiError, ApiResult},
        request::{
            channel_settings::{self, PARAMETERS},
            query::Params,
        },
        state::AppState,
    },
};

/// A query whose channels the caller may use.
pub(crate) struct ChannelQuery {
    /// The parameters, without the token.
    pub(crate) params: Params,
    /// In the order of their names.
    pub(crate) channels: Vec<Channel>,
}

impl ChannelQuery {
    /// Reads the query of a publish.
    pub(crate) fn of_publish(
        query: &str,
        caller: &Caller,
    ) -> ApiResult<(Channel, LifecycleParams)> {
        caller.require_some(Right::Publish)?;
        let params = Params::parse_any(query)?;
        let channel = params.channel()?;
        caller.require(Right::Publish, std::slice::from_ref(&channel))?;
        params.check_known(&[&["channel"], &PARAMETERS[..]].concat())?;
        Ok((channel, LifecycleParams::read(&params)?))
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

/// The parameters of a publish that concern its channel.
#[derive(Debug, Clone, Default)]
pub(crate) struct LifecycleParams {
    /// The end that follows the events.
    pub(crate) close: Option<CloseReason>,
    /// The settings of the channel, if the publish creates it.
    pub(crate) settings: ChannelSettings,
}

impl LifecycleParams {
    fn read(params: &Params) -> ApiResult<Self> {
        Ok(Self {
            close: channel_settings::close_reason(params)?,
            settings: channel_settings::from_params(params)?,
        })
    }

    /// Checks that the caller may close the channel with a publish and set it up, and that the
    /// settings are allowed.
    pub(crate) fn check(
        &self,
        state: &AppState,
        caller: &Caller,
        channel: &Channel,
    ) -> ApiResult<()> {
        if self.close.is_none() && self.settings.is_default() {
            return Ok(());
        }
        let class = state.hub.broker().classes().class_of(channel);
        if class.is_some_and(|class| class.manage_to_close) {
            caller.require(Right::Manage, std::slice::from_ref(channel))?;
        }
        check_settings(state, channel, self.settings)
    }
}

/// The query of a batch.
///
/// Lines of a batch may name their channels, so a caller without the right for the default channel
/// may send a batch that does not need it. That is known only when the body is read, so until then
/// [`decide`](Self::decide) keeps the error.
pub(crate) struct BatchQuery {
    /// The channel of the lines that name none.
    pub(crate) channel: Channel,
    /// What concerns the channel itself.
    pub(crate) lifecycle: LifecycleParams,
    /// Lines are stored as they arrive.
    pub(crate) is_stream: bool,
    /// The error of lines that name no channel.
    missing_right: Option<ApiError>,
}

impl BatchQuery {
    /// Reads the query, after checking that the caller may publish to a channel that it names.
    pub(crate) fn parse(query: &str, caller: &Caller) -> ApiResult<Self> {
        caller.require_some(Right::Publish)?;
        let params = Params::parse_any(query)?;
        let channel = params.channel()?;
        let permitted = caller.require(Right::Publish, std::slice::from_ref(&channel));
        let missing_right = match permitted {
            Err(error) if params.one("channel")?.is_some() => return Err(error),
            permitted => permitted.err(),
        };
        let checked = params.check_known(&[&["channel", "mode"], &PARAMETERS[..]].concat());
        let read = checked.and_then(|()| {
            let is_stream = params.is_given("mode", "stream")?;
            Ok((is_stream, LifecycleParams::read(&params)?))
        });
        match (read, missing_right) {
            (Ok((is_stream, lifecycle)), missing_right) => Ok(Self {
                channel,
                lifecycle,
                is_stream,
                missing_right,
            }),
            (Err(_), Some(missing_right)) => Err(missing_right),
            (Err(error), None) => Err(error),
        }
    }

    /// Returns the channel, which the caller may publish to.
    pub(crate) fn into_channel(self) -> ApiResult<Channel> {
        self.missing_right.map_or(Ok(self.channel), Err)
    }

    /// Returns what was read of a body, unless it needs a right that the caller lacks.
    ///
    /// A caller without the right learns nothing else that is wrong with its request.
    pub(crate) fn decide<T>(
        self,
        read: ApiResult<T>,
        needs_channel: impl FnOnce(&T) -> bool,
    ) -> ApiResult<T> {
        match (read, self.missing_right) {
            (Ok(read), Some(missing_right)) if needs_channel(&read) => Err(missing_right),
            (Err(_), Some(missing_right)) => Err(missing_right),
            (read, _) => read,
        }
    }
}
