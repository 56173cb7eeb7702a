"""schemathesis: whether a request follows `openapi.yaml` or breaks its rules, the response is as described.

The time of a run is limited, so each run has another seed, which a failure prints.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import packages
from case import Case
from processes import plain_environment

# After this time schemathesis sends nothing more.
_SECONDS = 20
# Only a broken run waits for it.
_SECONDS_MAX = 300
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
RULES = """
[access.signing]
key_file = "signing.pem"

[[access.key]]
name = "tests"
sha256 = "{digest}"
publish = ["*"]
subscribe = ["*"]
manage = ["*"]
observe = true
admin = true
"""
# Responses that do not end by themselves, and the page, which is no route to programs.
EXCLUDED = ("/stream", "/admin/events", "/admin/trace", "/")


class OpenApi(Case):
    def setUp(self):
        self.packages = packages.schemathesis()
        self.folder = Path(tempfile.mkdtemp(prefix="interop-openapi-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self.stop_processes)

    def check(self, hub, *flags):
        """Runs schemathesis against a hub."""
        excluded = [word for path in EXCLUDED for word in ("--exclude-path", path)]
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{hub.url}/openapi.yaml"]
        command += ["--url", hub.url, "--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing"]
        command += ["--max-time", _SECONDS, *excluded, *flags]
        environment = {"PYTHONPATH": os.pathsep.join([str(self.packages), str(packages.CLIENTS)])}
        run = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            env=plain_environment({**environment, "SCHEMATHESIS_HOOKS": "schemathesis_hooks"}),
            capture_output=True,
            text=True,
            timeout=_SECONDS_MAX,
        )
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_each_response_is_as_described(self):
        backups = self.folder / "backups"
        hub = self.start_hub(self.folder, "--backup-dir", backups, broker="embedded")
        self.check(hub)

    def test_each_response_with_access_rules_is_as_described(self):
        key = f"sse_tests_{'k' * 43}"
        digest = hashlib.sha256(key.encode()).hexdigest()
        signing = [self.program(), "key", "signing", "--out", self.folder / "signing.pem"]
        subprocess.run(signing, check=True, capture_output=True, env=plain_environment())
        config = self.folder / "sse.toml"
        config.write_text(RULES.format(digest=digest))
        hub = self.start_hub(self.folder, "--config", config, broker="embedded")
        # It accepts no credential before it has read the revocations.
        hub.wait_until_ready()
        self.check(hub, "--header", f"Authorization: Bearer {key}")
