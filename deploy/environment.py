"""Makes the virtual environment that `make` works in, or finds that the one already there will do.

Usage: `python3 deploy/environment.py .venv requirements.txt`. Standard library only; exit status 0, or 2
after one line on stderr that says what to do. Nothing is remembered that could be wrong: an environment will
do when it was made by this very Python, when its interpreter runs, when no installation was cut short in it
and when it holds every pinned version. Looking takes a tenth of a second.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

UNFINISHED = ".installing"  # there while pip works: a package may be half copied
UNREACHABLE = re.compile(r"connection broken by|Connection refused|Name or service not known|resolution|timed out|ProxyError")

# Runs inside the environment: what it is, and which versions it holds.
DESCRIBE = """
import importlib.metadata, json, sys
found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
print(json.dumps({"python": [sys.version, sys.base_prefix], "packages": found}))
"""


class RefusedError(Exception):
    """The environment cannot be made; the text says why and what to do."""


def pins(requirements: Path) -> dict[str, str]:
    """Read `name==version` lines, following `-r`; names are normalized (PEP 503)."""
    found: dict[str, str] = {}
    for line in requirements.read_text(encoding="utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r "):
            found |= pins(requirements.parent / line[3:].strip())
        elif line:
            name, _, version = line.partition("==")
            found[normal(name.partition("[")[0])] = version.strip()
    return found


def normal(name: str) -> str:
    """Spell a package's name in the one way in which names compare equal (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def describe(venv: Path) -> tuple[list[str], dict[str, str]]:
    """Ask the environment which Python made it and what it holds; two empty answers when it does not run."""
    try:
        answer = subprocess.run([venv / "bin" / "python", "-I", "-c", DESCRIBE], capture_output=True, check=True, timeout=60)
        told = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return [], {}
    return told["python"], {normal(name): version for name, version in told["packages"].items()}


def create(venv: Path) -> None:
    """Make an empty environment with pip in it."""
    try:
        import ensurepip  # noqa: F401 - Debian ships venv without it unless python3-venv is installed
        import venv as factory
    except ImportError:
        raise RefusedError("python3-venv is missing; install it with: sudo apt install python3-venv") from None
    print(f"making {venv} with Python {sys.version.split()[0]} ...", flush=True)
    if venv.is_symlink() or venv.is_file():
        venv.unlink()
    elif venv.is_dir():
        shutil.rmtree(venv)
    try:
        factory.create(venv, with_pip=True, symlinks=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise RefusedError(f"cannot make {venv}: {error}") from error


def install(venv: Path, requirements: Path) -> None:
    """Install the pinned packages; pip's own words go to a log beside them."""
    log = venv / "pip.log"
    unfinished = venv / UNFINISHED
    unfinished.touch()
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2"]
    with log.open("wb") as words:
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", *options]
        status = subprocess.call([*pip, "-r", str(requirements)], stdout=words, stderr=words)
    if status:
        text = log.read_text(encoding="utf-8", errors="replace")
        if UNREACHABLE.search(text):
            raise RefusedError(f"cannot reach the package index: check the network or PIP_INDEX_URL, then repeat (see {log})")
        last = next((line for line in reversed(text.splitlines()) if line.startswith("ERROR:")), "pip failed")
        raise RefusedError(f"{requirements} could not be installed: {last.removeprefix('ERROR: ')} (all of it: {log})")
    unfinished.unlink()


def ensure(venv: Path, requirements: Path) -> None:
    """Leave an environment behind that holds every pin, doing only what is missing."""
    python, packages = describe(venv)
    if python != [sys.version, sys.base_prefix] or "pip" not in packages:
        create(venv)
        packages = {}
    wanted = pins(requirements)
    if (venv / UNFINISHED).exists() or any(packages.get(name) != version for name, version in wanted.items()):
        print(f"installing {requirements} into {venv} (once; some seconds) ...", flush=True)
        install(venv, requirements)


def main() -> int:
    """Do it for the two paths on the command line."""
    if sys.version_info < (3, 11):  # noqa: UP036  the Makefile asks too, this file may be run by hand
        print("Python 3.11 or newer is needed", file=sys.stderr)
        return 2
    venv, requirements = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        with Path(__file__).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # `make run` and `make test` in two terminals must not build one house at once
            ensure(venv, requirements)
    except (RefusedError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the next run starts over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
