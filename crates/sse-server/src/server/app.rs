//! The routes and the middlewares, which every version of HTTP shares.

use actix_http::Request;
use actix_service::{IntoServiceFactory as _, ServiceFactory, ServiceFactoryExt as _};
use actix_web::{
    App, HttpResponse,
    body::MessageBody,
    dev::{AppConfig, ServiceResponse},
    middleware::{Condition, from_fn},
};

use crate::{
    ListenAddress,
    http::{self, AppState},
};

/// Creates the app.
pub(super) trait AppFactory:
    ServiceFactory<
        Request,
        Config = AppConfig,
        Response = ServiceResponse<Self::Body>,
        Error = HttpResponse,
        InitError = (),
    >
{
    /// The body of every response.
    type Body: MessageBody + 'static;
}

impl<T, B> AppFactory for T
where
    T: ServiceFactory<
            Request,
            Config = AppConfig,
            Response = ServiceResponse<B>,
            Error = HttpResponse,
            InitError = (),
        >,
    B: MessageBody + 'static,
{
    type Body = B;
}

/// Creates the app for one worker. `address` is that of the listener.
pub(super) fn app(state: AppState, address: ListenAddress) -> impl AppFactory {
    let has_proxies = !state.trusted_proxies.is_empty();
    App::new()
        .wrap(from_fn(http::apply_cors))
        .wrap(from_fn(http::check_host))
        .wrap(from_fn(http::ignore_upgrade))
        .wrap(from_fn(http::record_rejections))
        // It also sees the responses of the other middlewares.
        .wrap(from_fn(http::add_common_headers))
        .wrap(Condition::new(
            state.access_log.is_some(),
            from_fn(http::log_requests),
        ))
        .wrap(Condition::new(
            state.audit_log.is_some(),
            from_fn(http::audit_requests),
        ))
        // The other middlewares see the address of the client.
        .wrap(Condition::new(has_proxies, from_fn(http::resolve_client)))
        .configure(move |config| http::routes(config, state, address))
        .into_factory()
        .map_err(|error: actix_web::Error| error.error_response())
}
