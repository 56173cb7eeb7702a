//! The address that a request arrived at.

use actix_web::HttpRequest;
use actix_web_lab::extract::LocalData;

use crate::{Endpoint, ListenAddress};

/// Returns the address of the listening socket that accepted the request's connection.
pub(crate) fn listen_address(request: &HttpRequest) -> ListenAddress {
    // The default of actix is a loopback address, with which origins are checked most strictly.
    request.app_data::<LocalData<ListenAddress>>().map_or_else(
        || ListenAddress::http(Endpoint::Tcp(request.app_config().local_addr())),
        |address| ListenAddress::clone(address),
    )
}
