"""Counts clicks per page and minute, and sessions per user, from `event-generator --payload session`.

The environment names the server (`HUB`), the channel (`CHANNEL`), the file of the results (`RESULTS`)
and, for a run that ends, the id of the last event (`UNTIL`).
"""

import json
import os

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from hub import HubSource, TableSink

RESULTS = os.environ.get("RESULTS", "results.sqlite")


def count(state, _visit):
    """Counts the events of a key."""
    state = (state or 0) + 1
    return state, state


def count_sessions(sessions, visit):
    """Counts the sessions of a user, whose events may arrive in any order."""
    sessions = (sessions or set()) | {visit["session_id"]}
    return sessions, len(sessions)


source = HubSource(
    os.environ.get("HUB", "http://127.0.0.1:5000"),
    [os.environ.get("CHANNEL", "sse")],
    os.environ.get("UNTIL"),
)

flow = Dataflow("visits")
events = op.input("hub", flow, source)
visits = op.map("parse", events, lambda event: json.loads(event.data))

clicks = op.filter("clicks", visits, lambda visit: visit["action"] == "click")
clicks = op.key_on("page and minute", clicks, lambda visit: f"{visit['page']} {visit['timestamp'][:16]}")
op.output("clicks per page and minute", op.stateful_map("count", clicks, count), TableSink(RESULTS, "clicks"))

users = op.key_on("user", visits, lambda visit: visit["user_id"])
sessions = op.stateful_map("count sessions", users, count_sessions)
op.output("sessions per user", sessions, TableSink(RESULTS, "sessions"))
