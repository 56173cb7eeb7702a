"""The text of one scene: what was sent and what came back, and wording apart from the rest.

| line begins with | it has |
|---|---|
| `## `, `### ` | the name of a scene, the name of a case |
| `> ` | the request: its line, its headers without `host`, its body |
| `< ` | the response: status line, all headers by name (the server does not order them), body |
| `| ` | the payload of a stream, byte for byte, and how it ended |
| `= ` | another fact: an exit code, a metric, a record |
| `~ ` | wording: messages, help, errors for people |
"""

import re

from masks import Masks, visible

WORDING = "~ "
_MESSAGE = re.compile(r'"message":"((?:[^"\\]|\\.)*)"')
# Ways in which the chunks of a stream are shown.
PAYLOAD, CHUNKS = "payload", "chunks"


class Transcript:
    """Collects the lines of a scene."""

    def __init__(self, title):
        self.masks = Masks()
        self._lines = [f"## {title}"]
        # A scene in which one of several messages may come has none.
        self.has_wording = True

    def text(self):
        return "".join(f"{line}\n" for line in self._lines) + "\n"

    def case(self, title):
        self._lines += ["", f"### {self.masks.apply(title)}"]

    def fact(self, text):
        self._add("= ", text)

    def wording(self, text):
        if self.has_wording:
            self._add(WORDING, text)

    def _add(self, prefix, text):
        for line in self.masks.apply(text).split("\n"):
            # A space at the end of a line would be overlooked, and lost in many an editor.
            shown = f"{line[:-1]}<U+0020>" if line.endswith(" ") else line
            self._lines.append(prefix + shown if shown else prefix.rstrip())

    def request(self, data):
        """Adds a request as it was sent."""
        text = visible(data.replace(b"\r\n", b"\n"))
        lines = [line for line in text.split("\n") if not line.startswith("host: ")]
        self._add("> ", "\n".join(lines).rstrip("\n"))

    def response(self, response, method="GET"):
        """Adds a response."""
        if response is None:
            self.fact("the connection was closed without a response")
            return
        body, messages = self._body(response.head, response.body)
        is_changed = body != visible(response.body)
        # The length of a body that is not sent, or not shown as it is, depends on what is masked.
        hides_length = is_changed or (method == "HEAD" and response.head.status != 204)
        self._head(response.head, hides_length)
        if body:
            self._add("< ", body)
        length = response.head.get("content-length")
        if response.is_cut:
            self.fact("the connection ended before the response was complete")
        elif method != "HEAD" and length is not None and int(length) != len(response.body):
            self.fact("content-length is not the length of the body")
        for message in messages:
            self.wording(message)

    def _body(self, head, body):
        """Returns a body with placeholders, and the messages in it."""
        text = visible(body)
        messages = []
        if (head.get("content-type") or "").startswith("application/json"):
            messages = _MESSAGE.findall(text)
            text = _MESSAGE.sub('"message":"<wording>"', text)
        return self.masks.apply(text), messages

    def _head(self, head, hides_length):
        headers = [
            f"{name}: {_header_value(name.lower(), value, hides_length)}"
            for name, value in sorted(head.headers)
        ]
        self._add("< ", "\n".join([head.status_line, *headers]))

    def stream(self, stream, shown=PAYLOAD):
        """Adds what has come on a stream so far."""
        self._head(stream.head, hides_length=True)
        pieces = stream.chunks if shown == CHUNKS else [stream.payload]
        for piece in pieces:
            if shown == CHUNKS:
                self._lines.append("| (chunk)")
            self._payload(piece)
        self._lines.append(f"| (end: {stream.ending or 'open'})")

    def _payload(self, data):
        if data:
            text = visible(data)
            # The last line ends too, or is marked as unfinished.
            text = text[:-1] if text.endswith("\n") else text + "(no line end)"
            self._add("| ", text)


def _header_value(name, value, hides_length):
    """Returns the value of a header, with what differs from run to run replaced."""
    if name == "content-length" and hides_length:
        return "<length>"
    if name == "retry-after" and int(value) > 60:
        return "<more than 60>"
    if name.startswith("access-control-"):
        # A set, which the server does not order either.
        return ", ".join(sorted(value.split(", ")))
    return value


def without_wording(text):
    """Returns the text of a run without its wording."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(WORDING.rstrip()))


def scenes(text):
    """Returns the texts of all scenes by their titles."""
    texts = {}
    title = ""
    for line in text.splitlines(keepends=True):
        if line.startswith("## "):
            title = line.removeprefix("## ").rstrip("\n")
        texts[title] = texts.get(title, "") + line
    return texts
