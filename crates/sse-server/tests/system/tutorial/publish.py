"""Calls the event endpoint as the tutorial's publisher does; prints the status of each response."""

import random
import sys

import requests

ACTIONS = ["view", "click", "close"]


def main(base, count):
    for _ in range(count):
        answer = requests.get(f"{base}/event/{random.choice(ACTIONS)}")
        assert answer.json() == {}, answer.text
        print(answer.status_code, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
