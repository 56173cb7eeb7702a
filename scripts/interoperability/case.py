"""A test case with a hub of its own, and cases that cannot run on this machine."""

import os
import unittest
from pathlib import Path

import processes
import sse_server

# Names the folder with the programs; `__main__` sets it.
BIN_VARIABLE = "INTEROPERABILITY_BIN"


class Case(unittest.TestCase):
    """Starts hubs, and stops at its end what is still running."""

    @staticmethod
    def require(condition, reason):
        """Skips the case, or all cases of a class, unless the condition holds."""
        if not condition:
            raise unittest.SkipTest(reason)

    @staticmethod
    def start_hub(directory, *flags, broker="memory"):
        """Starts an sse-server on a free port."""
        return sse_server.start(Case.program(), directory, broker, flags)

    @staticmethod
    def program():
        """Returns the path of the sse-server."""
        return Path(os.environ[BIN_VARIABLE]) / "sse-server"

    @staticmethod
    def stop_processes():
        processes.stop_all()
