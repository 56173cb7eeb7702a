//! A log that is not read: every line that an attacker causes once ended a part of the server.

use crate::{attacker_of, common::TestServer, victims::Victims, waves};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_line_that_cannot_be_written_harms_nobody() {
    // The runtime of Rust replaces a closed stderr by /dev/null, where no line is dropped.
    for (stderr, dropped_min) in [("exec 2>&-", 0.0), ("exec 2>/dev/full", 2.0)] {
        let server = TestServer::under(stderr, &[]).await;
        let victims = Victims::start(&server).await;
        waves::logged_mistakes(&attacker_of(&server)).await;
        victims.finish().await;
        let dropped = server.metric("sse_log_dropped_total").await;
        assert!(dropped >= dropped_min, "{stderr}: {dropped}");
    }
}
