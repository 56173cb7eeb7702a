"""Clients that begin a TLS handshake and never continue it. A separate program.

Each sends a complete first message (ClientHello), so the server computes its response. Prints "open" on stdout when all
have sent it, and runs until it is stopped. A client whose connection the server closes begins again.
"""

import argparse
import selectors
import socket
import ssl
from urllib.parse import urlsplit

# An address of its own, so that the server can distinguish these clients from the publishers.
SOURCE = "127.0.0.2"


def first_message():
    """Returns the first message of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def connect(address, message):
    """Begins a handshake."""
    client = socket.create_connection(address, timeout=30, source_address=(SOURCE, 0))
    client.sendall(message)
    client.setblocking(False)
    return client


def is_open(client):
    """Discards what the server has sent; returns False if it has closed the connection."""
    try:
        return bool(client.recv(65536))
    except BlockingIOError:
        return True
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url", type=urlsplit)
    parser.add_argument("--count", type=int, default=0)
    options = parser.parse_args()
    address, message = (options.url.hostname, options.url.port), first_message()
    selector = selectors.DefaultSelector()
    for _ in range(options.count):
        selector.register(connect(address, message), selectors.EVENT_READ)
    print("open", flush=True)
    while True:
        for key, _ in selector.select(1.0):
            if not is_open(key.fileobj):
                selector.unregister(key.fileobj)
                key.fileobj.close()
                try:
                    selector.register(connect(address, message), selectors.EVENT_READ)
                except OSError:
                    # The server has no room for it at present.
                    continue


if __name__ == "__main__":
    main()
