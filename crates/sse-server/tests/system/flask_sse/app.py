"""The tutorial's application, Flask-SSE over Redis, except that it publishes the posted JSON."""

import os

from flask import Flask, request
from flask_sse import sse

app = Flask(__name__)
app.config["REDIS_URL"] = os.environ["REDIS_URL"]
app.register_blueprint(sse, url_prefix="/stream")


@app.route("/event/<action>", methods=["POST"])
def event(action):
    sse.publish(data=request.get_json(), type=action)
    return {}, 200
