//! A reader of Flask-SSE: it accepts exactly the messages that do not end a stream of Flask-SSE.

use futures::StreamExt as _;
use redis::aio::PubSubStream;
use serde_json::{Map, Value};

use crate::common::{RedisServer, within};

pub(super) struct FlaskReader {
    messages: PubSubStream,
}

impl FlaskReader {
    pub(super) async fn start(redis: &RedisServer) -> Self {
        let client = redis::Client::open(redis.url()).unwrap();
        let mut pubsub = client.get_async_pubsub().await.unwrap();
        pubsub.subscribe("sse").await.unwrap();
        Self {
            messages: pubsub.into_on_message(),
        }
    }

    /// The next message, whatever it is.
    pub(super) async fn next_message(&mut self) -> Vec<u8> {
        let message = within("a message of Flask-SSE", self.messages.next()).await;
        message.unwrap().get_payload_bytes().to_vec()
    }

    /// The next message as Flask-SSE parses it.
    pub(super) async fn next_event(&mut self) -> Map<String, Value> {
        let message = self.next_message().await;
        let object: Map<String, Value> = serde_json::from_slice(&message).unwrap();
        assert!(object.contains_key("data"), "{object:?}");
        for key in object.keys() {
            assert!(
                ["data", "type", "id", "retry"].contains(&key.as_str()),
                "{object:?}"
            );
        }
        object
    }
}
