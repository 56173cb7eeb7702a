"""The proxies of `examples/reverse-proxy`, started with exactly these files: only the ports, the
paths of certificates and logs, and the address of the hub are those of the test.
"""

import contextlib
import functools
import shutil
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from processes import Failed, Process
from wire import Stream, connect, request_bytes

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "reverse-proxy"
# The names in the recipes: the hub on a host of its own, and an application with the hub at /live/.
HUB_HOST = "hub.example.org"
APP_HOST = "app.example.org"
_STARTS_MAX = 5
# Debian installs daemons there, and the PATH of a user may lack it.
_DAEMONS = "/usr/local/sbin:/usr/sbin:/sbin"


def find_program(name):
    """Returns the path of an installed program, or `None`."""
    return shutil.which(name) or shutil.which(name, path=_DAEMONS)


def free_ports(count):
    """Returns different ports of 127.0.0.1 on which nothing listens."""
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [listener.getsockname()[1] for listener in listeners]


def listens(address):
    """Returns whether `host:port` accepts a connection."""
    try:
        connect(address).close()
    except OSError:
        return False
    return True


def substitute(text, replacements):
    """Replaces what depends on the machine; fails if the recipe lacks a text."""
    for old, new in replacements.items():
        if old not in text:
            raise Failed(f"the recipe does not contain {old!r}")
        text = text.replace(old, str(new))
    return text


class Certificate:
    """A self-signed certificate for both names of the recipes."""

    def __init__(self, directory):
        self.chain = directory / "chain.pem"
        self.key = directory / "key.pem"
        names = f"subjectAltName=DNS:{HUB_HOST},DNS:{APP_HOST}"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-nodes", "-days", "2", "-subj", f"/CN={HUB_HOST}", "-addext", names]
        command += ["-keyout", self.key, "-out", self.chain]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise Failed(f"openssl req: {made.stderr}")
        # HAProxy reads both from one file.
        self.both = directory / "both.pem"
        self.both.write_bytes(self.chain.read_bytes() + self.key.read_bytes())


@dataclass(frozen=True)
class Setting:
    """What a recipe depends on. `hub` is `host:port`, the others are ports of 127.0.0.1."""

    directory: Path
    certificate: Certificate
    http: int
    https: int
    # Where Caddy takes commands.
    admin: int
    hub: str


def _nginx(setting):
    """Returns the recipe's file name, its replacements and the arguments of nginx."""
    folders = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = [f"{name}_temp_path {setting.directory}/{name};" for name in folders]
    replacements = {
        "http {\n": "\n    ".join(["http {", *temporary, ""]),
        "listen 80;": f"listen 127.0.0.1:{setting.http};",
        "listen 443 ": f"listen 127.0.0.1:{setting.https} ",
        "/etc/ssl/hub.example.org/fullchain.pem": setting.certificate.chain,
        "/etc/ssl/hub.example.org/privkey.pem": setting.certificate.key,
        "/var/log/nginx": setting.directory,
        "127.0.0.1:5000": setting.hub,
    }
    # One process, so that no worker outlives a kill.
    own = f"daemon off; master_process off; pid {setting.directory}/nginx.pid;"
    return "nginx.conf", replacements, ["-g", own, "-e", "stderr", "-c"]


def _haproxy(setting):
    """The same for HAProxy."""
    replacements = {
        "bind :80\n": f"bind 127.0.0.1:{setting.http}\n",
        "bind :443 ": f"bind 127.0.0.1:{setting.https} ",
        "/etc/haproxy/certs/hub.example.org.pem": setting.certificate.both,
        "log /dev/log local0": "log stdout format raw local0",
        "127.0.0.1:5000": setting.hub,
    }
    return "haproxy.cfg", replacements, ["-db", "-f"]


def _caddy(setting):
    """The same for Caddy."""
    own = f"admin 127.0.0.1:{setting.admin}\n\tdefault_bind 127.0.0.1"
    replacements = {
        "http_port 80": f"{own}\n\thttp_port {setting.http}",
        "https_port 443": f"https_port {setting.https}",
        "/etc/caddy/hub.example.org.crt": setting.certificate.chain,
        "/etc/caddy/hub.example.org.key": setting.certificate.key,
        "127.0.0.1:5000": setting.hub,
    }
    return "Caddyfile", replacements, ["run", "--adapter", "caddyfile", "--config"]


_RECIPES = {"nginx": _nginx, "haproxy": _haproxy, "caddy": _caddy}


class Proxy:
    """A proxy in front of the hub at `host:port`, with its recipe. `change` edits the recipe."""

    def __init__(self, name, directory, hub, change=lambda text: text):
        directory.mkdir()
        self.certificate = Certificate(directory)
        self.process = None
        for attempt in range(1, _STARTS_MAX + 1):
            try:
                self._start(name, directory, hub, change)
                return
            except Failed:
                # Another process may have taken a port in the meantime.
                has_ended = self.process is not None and self.process.has_ended()
                if not has_ended or attempt == _STARTS_MAX:
                    raise

    def _start(self, name, directory, hub, change):
        http, https, admin = free_ports(3)
        setting = Setting(directory, self.certificate, http, https, admin, hub)
        file_name, replacements, arguments = _RECIPES[name](setting)
        file = directory / file_name
        file.write_text(change(substitute((RECIPES / file_name).read_text(), replacements)))
        self.http = f"127.0.0.1:{http}"
        self.https = f"127.0.0.1:{https}"
        # Caddy keeps its state in these directories.
        environment = {"XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
        command = [find_program(name), *arguments, file]
        self.process = Process(name, command, directory, environment)
        for address in (self.http, self.https):
            accepts = functools.partial(listens, address)
            self.process.wait_until(accepts, f"a listener on {address}")

    def tls(self, host):
        """Returns what `wire.connect` needs to reach `host` over TLS."""
        return ssl.create_default_context(cafile=self.certificate.chain), host

    def connect(self, host):
        """Opens a connection over TLS."""
        return connect(self.https, self.tls(host))

    def open(self, path, headers=(), method="GET", body=None, host=HUB_HOST):
        """Sends a request over TLS and reads the head of the response."""
        request = request_bytes(method, path, headers, body, host)
        return Stream(self.https, request, self.tls(host))

    def send(self, method, path, headers=(), body=None, host=HUB_HOST):
        """Sends a request over TLS and reads the whole response."""
        headers = [*headers, ("connection", "close")]
        return self.open(path, headers, method, body, host).wait_for_end()

    def kill(self):
        self.process.kill()
