"""The other servers, configured as their documentation advises; docs/benchmarks.md lists the settings and reasons."""

import contextlib
import os
import socket
from pathlib import Path

import certificates
from processes import Program
from servers import Server, plain_environment, redis, saying_its_url

ROOT = Path(__file__).resolve().parents[2]

NGINX = """\
load_module {module};
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log stderr warn;
events {{
    worker_connections {connections};
    multi_accept on;
}}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    nchan_shared_memory_size 1024m;
    map $arg_channel $channel {{
        "" sse;
        default $arg_channel;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=8192;
        {tls}
        location ~ ^/event/(.+)$ {{
            nchan_publisher;
            nchan_channel_id $channel;
            nchan_message_buffer_length {messages};
            nchan_message_timeout 10m;
        }}
        location = /stream {{
            nchan_subscriber eventsource;
            nchan_channel_id $channel;
            nchan_subscriber_first_message newest;
            nchan_eventsource_ping_interval 15;
        }}
    }}
}}
"""

# A full handshake for each connection, as the subscribers run it, and no session cache.
TLS = """listen 127.0.0.1:{port} ssl http2 backlog=8192;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_tickets off;
        ssl_session_cache off;"""


@contextlib.contextmanager
def actix_lab(place):
    """A plain server with actix-web-lab's `Sse`, with a channel per subscriber."""
    with place.directory("server") as directory:
        command = [place.bin / "examples" / "actix_lab"]
        publishing = ["--path", "/event/{action}"]
        with saying_its_url("actix_lab", command, directory, publishing=publishing) as server:
            yield server


@contextlib.contextmanager
def nchan(place, messages=1000, tls=False):
    """nginx with Nchan and one worker, from the distribution's packages.

    With `tls`, streams are opened over TLS, at a second address.
    """
    with place.directory("server") as directory:
        port, tls_port = _free_port(), _free_port()
        over_tls = ""
        if tls:
            certificate, key = certificates.create(directory)
            over_tls = TLS.format(port=tls_port, certificate=certificate, key=key)
        module = os.environ["NCHAN_MODULE"]
        configuration = directory / "nginx.conf"
        # A worker that drops its privileges could not access this directory.
        user = "user root;" if os.geteuid() == 0 else ""
        text = NGINX.format(
            module=module,
            directory=directory,
            port=port,
            tls=over_tls,
            messages=messages,
            user=user,
            files=65536,
            connections=65536,
        )
        configuration.write_text(text)
        program = Program("nginx", [os.environ["NGINX"], "-c", configuration, "-e", "stderr"], directory)
        try:
            program.until(lambda: _listens(port), "it listened")
            url = f"http://127.0.0.1:{port}"
            path = "/event/{action}?channel={channel}"
            publishing = ["--path", path, "--header", "X-EventSource-Event: {action}"]
            stream = f"https://127.0.0.1:{tls_port}/stream" if tls else f"{url}/stream"
            yield Server(program, url, [stream], publishing, subscribing=["--insecure"] if tls else [])
        finally:
            program.stop()


@contextlib.contextmanager
def flask_sse(place):
    """The tutorial's application under gunicorn with gevent, over Redis; CPU and memory of Redis are not counted."""
    with place.directory("server") as directory, redis(directory, "--appendonly", "no") as redis_socket:
        port = _free_port()
        app = ROOT / "crates/sse-server/tests/system/flask_sse"
        command = [os.environ["PYTHON"], "-m", "gunicorn", "app:app", "--chdir", app, "--bind", f"127.0.0.1:{port}"]
        command += ["--worker-class", "gevent", "--workers", "1", "--worker-connections", "20000", "--backlog", "8192"]
        command += ["--timeout", "0", "--keep-alive", "75", "--no-control-socket", "--log-level", "warning"]
        environment = plain_environment(REDIS_URL=f"unix://{redis_socket}", PYTHONDONTWRITEBYTECODE="1")
        program = Program("gunicorn", command, directory, environment)
        try:
            program.until(lambda: _listens(port), "it listened")
            url = f"http://127.0.0.1:{port}"
            yield Server(program, url, [f"{url}/stream"], ["--path", "/event/{action}"], opens_with_event=True)
        finally:
            program.stop()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
