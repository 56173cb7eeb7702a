"""A shop that publishes its orders to a hub."""

import os
import time
import uuid

import requests
from flask import Flask, request

HUB = os.environ.get("HUB", "http://127.0.0.1:5000")
# An API key of the hub, if it has access rules.
KEY = os.environ.get("HUB_KEY")

app = Flask(__name__)
session = requests.Session()
if KEY:
    session.headers["Authorization"] = f"Bearer {KEY}"


def publish(channel, kind, value, attempts=5):
    """Publishes JSON once, even if a response is lost. Returns the id of the event."""
    # Every attempt has the same key, so the hub stores the event once.
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    url = f"{HUB}/event/{kind}"
    for attempt in range(1, attempts + 1):
        try:
            response = session.post(url, params={"channel": channel}, json=value, headers=headers, timeout=5)
            if response.status_code < 500 and response.status_code != 429:
                response.raise_for_status()
                return response.json()["id"]
        except (requests.ConnectionError, requests.Timeout):
            pass
        time.sleep(min(2**attempt / 10, 2))
    raise RuntimeError("the hub does not answer")


@app.post("/orders")
def order():
    placed = {"order": str(uuid.uuid4()), "item": request.form["item"]}
    return {"id": publish("orders", "placed", placed), **placed}
