"""Prints what a client shows to a program."""

import json


def report(kind, event_id, data):
    print(json.dumps({"type": kind, "id": event_id, "data": data}), flush=True)
