"""Publishes an answer token by token, in one request that lasts as long as the answer.

python3 answer.py http://127.0.0.1:5000 answers.1 [--abort] [--tokens 40] [--pause 0.1]

If the server or the connection breaks, the program publishes the answer again from its start. Each
token has a key, so a token that was stored is not stored again.
"""

import argparse
import http.client
import json
import time
import urllib.parse


def lines(tokens, pause):
    """Yields the tokens as a model does: one now and then."""
    for number in range(tokens):
        event = {"event": "part", "data": {"type": "text-delta", "delta": f"{number} "}, "key": f"token-{number}"}
        yield json.dumps(event).encode() + b"\n"
        time.sleep(pause)


def publish(url, channel, reason, tokens, pause):
    """Returns the response, or `None` if the connection broke."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    headers = {"Content-Type": "application/x-ndjson"}
    # `close=` applies only when the body ends properly, in one step with the last token.
    path = f"/events?mode=stream&channel={channel}&close={reason}"
    try:
        connection.request("POST", path, lines(tokens, pause), headers, encode_chunked=True)
        return json.load(connection.getresponse())
    except (OSError, http.client.HTTPException, json.JSONDecodeError):
        return None
    finally:
        connection.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("channel")
    parser.add_argument("--abort", action="store_true", help="stop after half of the tokens")
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--pause", type=float, default=0.1, metavar="SECONDS")
    options = parser.parse_args()
    tokens = options.tokens // 2 if options.abort else options.tokens
    reason = "cancelled" if options.abort else "completed"
    stored = None
    while stored is None or stored.get("ended"):
        stored = publish(options.url, options.channel, reason, tokens, options.pause)
        time.sleep(0 if stored else 0.2)
    print(json.dumps(stored))


if __name__ == "__main__":
    main()
