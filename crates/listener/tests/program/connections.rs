//! A table of server behaviours: the requests, the printed events and the end that each leads to.

use crate::support::{Exchange, Listener, Server};

/// What the server does with a request.
enum Response {
    /// A whole response: status, headers, body.
    Whole(&'static str, &'static [&'static str], &'static str),
    /// A stream of these bytes that ends properly.
    Stream(&'static str),
    /// A stream of these bytes whose connection is cut.
    Cut(&'static str),
    /// These bytes instead of a response, and the end of the connection.
    Bytes(&'static str),
}

use Response::{Bytes, Cut, Stream, Whole};

/// The responses of a server, one per request, and their consequences.
struct Case {
    what: &'static str,
    arguments: &'static [&'static str],
    responses: &'static [Response],
    /// The requests: method and target, and the last event id.
    requests: &'static [(&'static str, Option<&'static str>)],
    /// The data of the events that are printed.
    data: &'static [&'static str],
    code: i32,
    /// The end of stderr.
    output: &'static str,
}

/// A case that succeeds with the status 204.
const fn case(
    what: &'static str,
    responses: &'static [Response],
    requests: &'static [(&'static str, Option<&'static str>)],
    data: &'static [&'static str],
) -> Case {
    Case {
        what,
        arguments: &[],
        responses,
        requests,
        data,
        code: 0,
        output: "has ended for good (204 No Content)\n",
    }
}

/// A case that fails with its only response.
const fn refused(what: &'static str, responses: &'static [Response], output: &'static str) -> Case {
    Case {
        code: 1,
        output,
        ..case(what, responses, &[("GET /stream", None)], &[])
    }
}

const GET: &str = "GET /stream";
const OVER: Response = Whole("204 No Content", &[], "");
const EVENTS: Response = Stream("retry: 1\n\nid: 1-0\ndata: a\n\n");

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Final responses.
    case("204 stops it", &[OVER], &[(GET, None)], &[]),
    case("204 after a stream stops it", &[EVENTS, OVER], &[(GET, None), (GET, Some("1-0"))], &["a"]),
    Case { arguments: &["--count", "1"], output: "/stream\n", ..case("enough events stop it", &[Stream("data: a\n\ndata: b\n\n")], &[(GET, None)], &["a"]) },
    refused("400 is final", &[Whole("400 Bad Request", &[], "what?")], "the server responded with 400 Bad Request: what?\n"),
    refused("401 is final", &[Whole("401 Unauthorized", &[], r#"{"error":{"code":"no_token","message":"who are you?"}}"#)], "401 Unauthorized: who are you?\n"),
    refused("404 is final", &[Whole("404 Not Found", &["Content-Type: text/event-stream"], "data: a\n\n")], "404 Not Found: data: a\n"),
    refused("410 is final", &[Whole("410 Gone", &[], "")], "410 Gone\n"),
    refused("another content type is final", &[Whole("200 OK", &["Content-Type: application/json"], "[]")], "\"application/json\", which is not text/event-stream: []\n"),
    refused("no content type is final", &[Whole("200 OK", &[], "")], "the content type \"\", which is not text/event-stream\n"),
    refused("compression that was not requested is final", &[Whole("200 OK", &["Content-Type: text/event-stream", "Content-Encoding: gzip"], "")], "compressed by \"gzip\", which was not requested\n"),
    refused("206 is final", &[Whole("206 Partial Content", &["Content-Type: text/event-stream"], "data: a\n\n")], "206 Partial Content: data: a\n"),
    // Transient errors.
    case("500 is asked again", &[EVENTS, Whole("500 Internal Server Error", &[], ""), OVER], &[(GET, None), (GET, Some("1-0")), (GET, Some("1-0"))], &["a"]),
    case("502, 503 and 504 are asked again", &[EVENTS, Whole("502 Bad Gateway", &[], ""), Whole("503 Service Unavailable", &[], ""), Whole("504 Gateway Timeout", &[], ""), OVER], &[(GET, None), (GET, Some("1-0")), (GET, Some("1-0")), (GET, Some("1-0")), (GET, Some("1-0"))], &["a"]),
    case("408 is asked again", &[EVENTS, Whole("408 Request Timeout", &[], ""), OVER], &[(GET, None), (GET, Some("1-0")), (GET, Some("1-0"))], &["a"]),
    case("429 is asked again, when it says", &[EVENTS, Whole("429 Too Many Requests", &["Retry-After: 0"], ""), OVER], &[(GET, None), (GET, Some("1-0")), (GET, Some("1-0"))], &["a"]),
    Case { arguments: &["--retry-status", "404,410", "--retry-status", "401"], ..case("statuses of --retry-status are asked again", &[EVENTS, Whole("404 Not Found", &["Retry-After: 0"], ""), Whole("410 Gone", &[], ""), Whole("401 Unauthorized", &[], ""), OVER], &[(GET, None), (GET, Some("1-0")), (GET, Some("1-0")), (GET, Some("1-0")), (GET, Some("1-0"))], &["a"]) },
    Case { arguments: &["--retry-status", "404"], ..refused("other statuses than those of --retry-status are final", &[Whole("403 Forbidden", &[], "")], "403 Forbidden\n") },
    case("a connection without a response is made again", &[EVENTS, Bytes(""), OVER], &[(GET, None), (GET, Some("1-0")), (GET, Some("1-0"))], &["a"]),
    case("a torn head is asked for again", &[EVENTS, Bytes("HTTP/1.1 200 OK\r\nContent-"), OVER], &[(GET, None), (GET, Some("1-0")), (GET, Some("1-0"))], &["a"]),
    case("what is not HTTP is asked again", &[EVENTS, Bytes("SSH-2.0-OpenSSH\r\n\r\n"), OVER], &[(GET, None), (GET, Some("1-0")), (GET, Some("1-0"))], &["a"]),
    // Cuts.
    case("a cut within an event loses and repeats nothing", &[Cut("retry: 1\n\nid: 1-0\ndata: a\n\nid: 2-0\ndata: b\n"), Stream("id: 2-0\ndata: b\n\n"), OVER], &[(GET, None), (GET, Some("1-0")), (GET, Some("2-0"))], &["a", "b"]),
    case("a cut before the first event keeps the position", &[Cut("retry: 1\nid: 7-0\n: here you are\n\n"), OVER], &[(GET, None), (GET, Some("7-0"))], &[]),
    case("an end within an event loses and repeats nothing", &[Stream("retry: 1\n\nid: 1-0\ndata: a\n\nid: 2-0\ndata: b"), OVER], &[(GET, None), (GET, Some("1-0"))], &["a"]),
    case("a byte order mark is stripped from every connection", &[Stream("\u{feff}retry: 1\n\ndata: a\n\n"), Stream("\u{feff}data: b\n\n"), OVER], &[(GET, None), (GET, None), (GET, None)], &["a", "b"]),
    case("an empty id resets", &[EVENTS, Stream("id\ndata: b\n\n"), OVER], &[(GET, None), (GET, Some("1-0")), (GET, None)], &["a", "b"]),
    case("a broken chunk is a cut", &[EVENTS, Bytes("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: b\n\n\r\nzzz"), OVER], &[(GET, None), (GET, Some("1-0")), (GET, Some("1-0"))], &["a", "b"]),
    // Framing of bodies.
    case("a body until the connection closes", &[Bytes("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1\n\nid: 1-0\ndata: a\n\n"), OVER], &[(GET, None), (GET, Some("1-0"))], &["a"]),
    case("a body with a length", &[Whole("200 OK", &["Content-Type: Text/Event-Stream ; charset=UTF-8"], "retry: 1\n\ndata: a\n\n"), OVER], &[(GET, None), (GET, None)], &["a"]),
    case("a body that is shorter than its length", &[Bytes("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\nretry: 1\n\nid: 1-0\ndata: a\n\ndata: b\n"), OVER], &[(GET, None), (GET, Some("1-0"))], &["a"]),
    // Redirects.
    case("301, 302, 303, 307 and 308 are followed", &[
        Whole("301 Moved Permanently", &["Location: /a"], ""), Whole("302 Found", &["Location: b?c=d"], ""), Whole("303 See Other", &["Location: ?e"], ""),
        Whole("307 Temporary Redirect", &["Location: /f/"], ""), Whole("308 Permanent Redirect", &["Location: ./g#h"], ""), EVENTS, OVER,
    ], &[(GET, None), ("GET /a", None), ("GET /b?c=d", None), ("GET /b?e", None), ("GET /f/", None), ("GET /f/g", None), (GET, Some("1-0"))], &["a"]),
    case("the last event id goes along with a redirect", &[EVENTS, Whole("307 Temporary Redirect", &["Location: /a"], ""), OVER], &[(GET, None), (GET, Some("1-0")), ("GET /a", Some("1-0"))], &["a"]),
    refused("300 is final", &[Whole("300 Multiple Choices", &[], "a or b")], "300 Multiple Choices: a or b\n"),
    refused("a redirect to nowhere is final", &[Whole("302 Found", &[], "")], "302 Found\n"),
    // Other methods.
    Case { arguments: &["--body", "{}"], ..case("a POST is sent again after a cut", &[EVENTS, OVER], &[("POST /stream", None), ("POST /stream", Some("1-0"))], &["a"]) },
    Case { arguments: &["--body", "{}"], ..case("307 keeps a POST", &[Whole("307 Temporary Redirect", &["Location: /a"], ""), OVER], &[("POST /stream", None), ("POST /a", None)], &[]) },
    Case { arguments: &["--body", "{}"], ..case("303 turns a POST into a GET", &[Whole("303 See Other", &["Location: /a"], ""), OVER], &[("POST /stream", None), ("GET /a", None)], &[]) },
    // Start positions of sse-server.
    Case { arguments: &["--since", "10m", "--channel", "a,b"], ..case("since stays in the URL, and the header beats it", &[EVENTS, OVER], &[("GET /stream?channel=a&channel=b&since=10m", None), ("GET /stream?channel=a&channel=b&since=10m", Some("1-0"))], &["a"]) },
    Case { arguments: &["--last", "5", "--event", "x"], ..case("so does last", &[EVENTS, OVER], &[("GET /stream?event=x&last=5", None), ("GET /stream?event=x&last=5", Some("1-0"))], &["a"]) },
];

fn respond_with(response: &Response, mut exchange: Exchange) {
    match response {
        Whole(status, headers, body) => exchange.respond(status, headers, body),
        Stream(bytes) => {
            exchange.open_stream();
            exchange.send(bytes);
            exchange.end();
        }
        Cut(bytes) => {
            exchange.open_stream();
            exchange.send(bytes);
        }
        Bytes(bytes) => exchange.send_as_they_are(bytes),
    }
}

#[test]
fn every_case_has_the_expected_requests_output_and_end() {
    assert!(CASES.len() >= 15);
    for Case {
        what,
        arguments,
        responses,
        requests,
        data,
        code,
        output,
    } in CASES
    {
        let server = Server::start();
        let listener =
            Listener::start(&[&["--url", &server.url(), "--format", "data"], *arguments].concat());
        assert_eq!(responses.len(), requests.len(), "{what}");
        for (response, (line, last_event_id)) in responses.iter().zip(*requests) {
            let exchange = server.request();
            assert_eq!(
                exchange.head.lines().next(),
                Some(format!("{line} HTTP/1.1").as_str()),
                "{what}"
            );
            assert_eq!(exchange.header("last-event-id"), *last_event_id, "{what}");
            respond_with(response, exchange);
        }
        let ended = listener.wait_for_end();
        let printed: Vec<&str> = ended.stdout.lines().collect();
        assert_eq!(
            (printed.as_slice(), ended.code),
            (*data, Some(*code)),
            "{what}: {ended:?}"
        );
        assert!(ended.stderr.ends_with(output), "{what}: {ended:?}");
    }
}
