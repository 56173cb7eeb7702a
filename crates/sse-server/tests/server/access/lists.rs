//! `GET /channels` shows nothing of the channels that its caller may not see.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::deployment::{Deployment, key};
use crate::common::refusal;

/// More channels than a request examines.
const HIDDEN: usize = 1500;

/// Creates channels between `orders.1` and `public.1`, which a reader may see.
async fn create_channels(deployment: &Deployment) {
    let hidden = (0..HIDDEN).map(|nth| format!("private.{nth:04}"));
    let names = ["orders.1".to_owned(), "public.1".to_owned()].into_iter();
    let lines = names.chain(hidden);
    let lines =
        lines.map(|channel| json!({"event": "a", "data": 1, "channel": channel}).to_string());
    let lines: Vec<_> = lines.collect();
    let server = &deployment.server;
    let request = server.http.post(server.at("/events"));
    let request = request.header("content-type", "application/x-ndjson");
    let request = request.bearer_auth(key("everything"));
    let response = request.body(lines.join("\n")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

async fn list(deployment: &Deployment, name: &str, query: &str) -> Value {
    let path = format!("/channels?{query}");
    let response = deployment.send_as(name, Method::GET, &path).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

fn names(page: &Value) -> Vec<&str> {
    let channels = page["channels"].as_array().unwrap().iter();
    channels
        .map(|channel| channel["channel"].as_str().unwrap())
        .collect()
}

crate::on_every_broker! {
    async fn a_page_does_not_depend_on_channels_that_its_caller_may_not_see(backend: Backend) {
        let deployment = Deployment::start(backend).await;
        create_channels(&deployment).await;
        let page = list(&deployment, "reader", "limit=2").await;
        assert_eq!((names(&page), &page["more"]), (vec!["orders.1", "public.1"], &json!(false)));
        let page = list(&deployment, "reader", "limit=1").await;
        assert_eq!((names(&page), &page["next"]), (vec!["orders.1"], &json!("orders.1")));
        let page = list(&deployment, "reader", "limit=1&after=orders.1").await;
        assert_eq!((names(&page), &page["more"]), (vec!["public.1"], &json!(false)));
        for prefix in ["private.", "private.0000", "p"] {
            let page = list(&deployment, "reader", &format!("prefix={prefix}&limit=1")).await;
            let expected = if prefix == "p" { vec!["public.1"] } else { vec![] };
            assert_eq!((names(&page), &page["more"]), (expected, &json!(false)), "{prefix}");
        }
        // A page that began at any name would end where hidden channels are.
        for after in ["private.0499", "private.none"] {
            let path = format!("/channels?after={after}");
            let response = deployment.send_as("reader", Method::GET, &path).await;
            refusal(response, StatusCode::BAD_REQUEST, "invalid_parameter").await;
        }
        let page = list(&deployment, "everything", "limit=1000&prefix=private.").await;
        assert_eq!((names(&page).len(), &page["next"]), (1000, &json!("private.0999")));
        let page = list(&deployment, "everything", "limit=1000&prefix=private.&after=private.0999").await;
        assert_eq!((names(&page).len(), &page["more"]), (HIDDEN - 1000, &json!(false)));
    }
}
