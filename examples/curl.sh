#!/bin/sh
# Publishes, reads history and subscribes with curl: sh curl.sh http://127.0.0.1:5000
#
# The subscription has an end (until=), so the stream ends by itself.
set -eu
url=${1:-http://127.0.0.1:5000}
channel=example-curl

echo "== publish one event as JSON"
curl -sSf -H 'content-type: application/json' -d '{"order":17}' "$url/event/paid?channel=$channel"
echo

echo "== publish a batch"
last_id=$(printf '%s\n' '{"event":"view","data":"text"}' '{"event":"click","data":{"page":"/"}}' |
    curl -sSf -H 'content-type: application/x-ndjson' --data-binary @- "$url/events?channel=$channel" |
    sed 's/.*"last_id":"\([^"]*\)".*/\1/')
echo "the last id is $last_id"

echo "== read history"
curl -sSf "$url/events?channel=$channel&last=3"
echo

echo "== subscribe: the newest three events, up to $last_id"
curl -sSfN -m 30 "$url/stream?channel=$channel&last=3&until=$last_id"
