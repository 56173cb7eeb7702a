//! Reads of the log that feed a tail.

use sse_proto::Channel;

use super::{
    feed::{FeedStep, read_after},
    feed_state::FeedPosition,
};
use crate::{
    broker::{Broker, BrokerError, PageLimits},
    budget::ClientNet,
};

/// Limits of one read of the log for a tail.
const FEED_LIMITS: PageLimits = PageLimits {
    events_max: 1000,
    bytes_max: 1 << 20,
};

/// Reads what follows `position`, for `client` if the newest id of the channel must be looked up.
///
/// # Errors
///
/// [`Unavailable`](BrokerError::Unavailable), [`Damaged`](BrokerError::Damaged).
pub(super) async fn read_next(
    broker: &Broker,
    channel: &Channel,
    position: FeedPosition,
    client: Option<ClientNet>,
) -> Result<FeedStep, BrokerError> {
    match position {
        FeedPosition::Unknown => broker
            .last_id_for(channel, client)
            .await
            .map(FeedStep::join),
        FeedPosition::After(id) => {
            let page = broker
                .read_tail(channel, read_after(id), FEED_LIMITS)
                .await?;
            Ok(FeedStep::from_page(id, page))
        }
    }
}
