"""The packages of the clients, installed below `target/` by npm and pip."""

import functools
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

CLIENTS = Path(__file__).resolve().parent / "clients"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# Names the folder for packages; `__main__` sets it.
FOLDER_VARIABLE = "INTEROPERABILITY_PACKAGES"
_INSTALL_SECONDS = 300


def _install(name, manifest, command):
    """Installs once per manifest; returns the folder, or skips the case if that is impossible."""
    folder = Path(os.environ[FOLDER_VARIABLE]).resolve() / name
    stamp = folder / "installed"
    wanted = manifest.read_bytes()
    if stamp.is_file() and stamp.read_bytes() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(manifest, folder)
    try:
        subprocess.run(
            [*command, folder], check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise unittest.SkipTest(f"{command[0]} cannot install the clients: {error}") from None
    stamp.write_bytes(wanted)
    return folder


@functools.cache
def node_modules():
    """Returns the folder of npm packages."""
    command = ["npm", "install", "--no-fund", "--no-audit", "--no-package-lock", "--ignore-scripts"]
    manifest = CLIENTS / "package.json"
    return _install("npm", manifest, [*command, "--prefix"]) / "node_modules"


@functools.cache
def python_packages():
    """Returns the folder of Python packages."""
    manifest = CLIENTS / "requirements.txt"
    return _install("python", manifest, [*_pip_install(manifest), "--target"])


@functools.cache
def bytewax_packages():
    """Returns the folder of what `examples/bytewax` needs. It has no wheel for the newest Python."""
    manifest = EXAMPLES / "bytewax" / "requirements.txt"
    return _install("bytewax", manifest, [*_pip_install(manifest), "--only-binary", ":all:", "--target"])


@functools.cache
def schemathesis():
    """Returns the folder of schemathesis."""
    manifest = CLIENTS / "schemathesis.txt"
    return _install("schemathesis", manifest, [*_pip_install(manifest), "--target"])


def _pip_install(manifest):
    return [sys.executable, "-m", "pip", "install", "--quiet", "--requirement", manifest]
