//! Names of channels that one client uses up.

use crate::{attacker_of, common::TestServer, on_every_broker, victims::Victims, waves};

const CHANNELS_MAX: usize = 200;

on_every_broker! {
    async fn one_client_cannot_create_all_channels(backend: Backend) {
        let server = TestServer::start_with(backend, &["--channels-max", &CHANNELS_MAX.to_string()]).await;
        let victims = Victims::start(&server).await;
        let created = waves::new_channels(&attacker_of(&server), 0, CHANNELS_MAX).await;
        assert!(created < CHANNELS_MAX - 10, "{created}");
        for number in 0..10 {
            server.publish(&format!("new{number}"), "click", "x").await;
        }
        victims.finish().await;
    }
}
