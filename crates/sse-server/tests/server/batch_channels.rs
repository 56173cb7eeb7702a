//! A batch whose lines name several channels: each channel's lines are stored all or none.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::common::{Backend, TestServer};

async fn post(server: &TestServer, query: &str, key: Option<&str>, lines: &[Value]) -> Response {
    let mut request = server.http.post(server.at(&format!("/events{query}")));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let request = request.header("content-type", "application/x-ndjson");
    request.body(lines.join("\n")).send().await.unwrap()
}

async fn data_of(server: &TestServer, channel: &str) -> Vec<String> {
    let history = server.history(channel).await;
    history.into_iter().map(|event| event.data).collect()
}

fn line(data: &str, channel: Option<&str>) -> Value {
    let mut line = json!({"event": "a", "data": data});
    if let Some(channel) = channel {
        line["channel"] = channel.into();
    }
    line
}

crate::on_every_broker! {
    async fn each_channel_gets_its_lines_and_has_a_result(backend: Backend) {
        let server = TestServer::start(backend).await;
        let lines = [
            line("1", Some("x")),
            line("2", None),
            line("3", Some("y")),
            line("4", Some("x")),
        ];
        let response = post(&server, "?channel=url", None, &lines).await;
        assert_eq!(response.status(), StatusCode::OK);
        let body: Value = response.json().await.unwrap();
        let results = body["channels"].as_array().unwrap();
        let names: Vec<_> = results.iter().map(|result| &result["channel"]).collect();
        assert_eq!(names, ["x", "url", "y"]);
        for (result, data) in results.iter().zip([&["1", "4"][..], &["2"], &["3"]]) {
            let channel = result["channel"].as_str().unwrap();
            let history = server.history(channel).await;
            let found: Vec<_> = history.iter().map(|event| event.data.as_str()).collect();
            assert_eq!(found, data);
            assert_eq!(result["count"], data.len());
            assert_eq!(result["first_id"], *history[0].id);
            assert_eq!(result["last_id"], *history[data.len() - 1].id);
        }
    }

    async fn keys_belong_to_channels_and_one_channel_may_fail(backend: Backend) {
        let server = TestServer::start(backend).await;
        let lines = [line("1", Some("x")), line("2", Some("y"))];
        let mut results = Vec::new();
        for _ in 0..2 {
            let response = post(&server, "", Some("key"), &lines).await;
            assert_eq!(response.status(), StatusCode::OK);
            results.push(response.json::<Value>().await.unwrap());
        }
        assert_eq!(results[0], results[1]);
        // The key was used with other content in one of the channels.
        let lines = [line("1", Some("x")), line("other", Some("y")), line("3", Some("z"))];
        let response = post(&server, "", Some("key"), &lines).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "idempotency_key_reused");
        let [x, y, z] = [0, 1, 2].map(|nth| &body["channels"][nth]);
        assert_eq!(*x, results[0]["channels"][0]);
        assert_eq!(y["error"]["code"], "idempotency_key_reused");
        assert_eq!(z["count"], 1);
        assert_eq!(data_of(&server, "x").await, ["1"]);
        assert_eq!(data_of(&server, "y").await, ["2"]);
        assert_eq!(data_of(&server, "z").await, ["3"]);
        let mut keyed = [line("5", Some("x")), line("6", Some("y"))];
        keyed[0]["key"] = "k".into();
        let response = post(&server, "", None, &keyed).await;
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["channels"][0]["ids"][0], body["channels"][0]["last_id"]);
        assert_eq!(body["channels"][1].get("ids"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_line_stores_nothing_in_any_channel() {
    let server = TestServer::start(Backend::Memory).await;
    for wrong in [
        json!({"event": "a", "data": 1, "channel": "a b"}),
        json!({"event": "a"}),
    ] {
        let response = post(&server, "", None, &[line("1", Some("x")), wrong]).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(data_of(&server, "x").await, [""; 0]);
    }
}
