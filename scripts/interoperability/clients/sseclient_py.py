"""PyPI sseclient-py."""

import sys

import requests
import sseclient
from report import report

response = requests.get(sys.argv[1], stream=True)
for event in sseclient.SSEClient(response).events():
    report(event.event, event.id, event.data)
