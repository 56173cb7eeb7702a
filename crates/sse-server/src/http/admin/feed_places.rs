//! The places of dashboards and traces: responses that stay open like streams.
//!
//! A feed keeps its connection, so it must not be one of the reserve, and over HTTP/2 a feed takes one
//! of the places that a connection has for streams. One client gets a part of the places, so that its
//! forgotten tabs leave room for another operator.

use actix_web::HttpRequest;

use crate::{
    budget::{Budget, ClientNet, Share},
    http::{
        api::stream::may_stream,
        error::{ApiError, ApiResult},
    },
};

/// Dashboards that may be open on a node, and those of one client.
const DASHBOARDS_MAX: (usize, usize) = (32, 8);
/// Traces that may be open on a node, and those of one client.
const TRACES_MAX: (usize, usize) = (8, 4);

/// The places of one kind of feed.
#[derive(Debug)]
pub(super) struct FeedPlaces {
    what: &'static str,
    max: usize,
    client_max: usize,
    places: Budget,
}

/// The place of an open feed, until it is dropped.
#[derive(Debug)]
pub(super) struct FeedPlace {
    _share: Share,
}

impl FeedPlaces {
    pub(super) fn of_dashboards() -> Self {
        Self::new("dashboards", DASHBOARDS_MAX)
    }

    pub(super) fn of_traces() -> Self {
        Self::new("traces", TRACES_MAX)
    }

    fn new(what: &'static str, (max, client_max): (usize, usize)) -> Self {
        Self {
            what,
            max,
            client_max,
            places: Budget::new(max, client_max),
        }
    }

    /// Takes a place for the response to a request.
    ///
    /// # Errors
    ///
    /// `TooManyFeeds`: all places are taken, or those of the client, or the connection must not carry
    /// a stream.
    pub(super) fn take(&self, request: &HttpRequest) -> ApiResult<FeedPlace> {
        let full = ApiError::TooManyFeeds {
            what: self.what,
            max: self.max,
            client_max: self.client_max,
        };
        if !may_stream(request) {
            return Err(full);
        }
        let share = self.places.try_acquire(ClientNet::of_request(request), 1);
        Ok(FeedPlace {
            _share: share.ok_or(full)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_client_gets_a_part_of_the_places() {
        let places = FeedPlaces::of_traces();
        let of_client = |last: u8| {
            let request = TestRequest::default().peer_addr(([192, 0, 2, last], 1).into());
            places.take(&request.to_http_request())
        };
        let mut taken: Vec<_> = [1, 2]
            .iter()
            .flat_map(|last| [(); 4].map(|()| of_client(*last)))
            .collect();
        assert!(taken.iter().all(Result::is_ok));
        assert!(of_client(3).is_err(), "all places are taken");
        drop(taken.split_off(4));
        assert!(of_client(1).is_err(), "those of the client are taken");
        assert!(of_client(2).is_ok());
    }
}
