"""Tries every CPython that can be had here, 3.11 to 3.14: make test-pythons, or python deploy/pythons.py [--suite newest].

Looks for them on PATH and where pyenv keeps them. The wheel is built once; with each it is installed with all extras into an
empty environment, and must serve from another directory; then the fast tests run in that environment. Needs the network.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from package import ROOT, build, install_and_serve, run

WANTED = tuple((3, minor) for minor in range(11, 15))
EXTRAS = "acme,auth,dns,geo,http2,otel,test"
ALONE = "tests/server/test_garbage.py"
"""From 3.12 on it counts, in one process with all others, more than what its own requests leave behind; why is not known."""

ASK = "import sys; print(sys.implementation.name, *sys.version_info[:3])"


def main() -> int:
    """Do all of it; whatever is wrong is an exception."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=("all", "newest", "none"), default="all", help="with which of them the fast tests run")
    parser.add_argument("--only", metavar="3.N", action="append", help="take this one alone; may be repeated")
    arguments = parser.parse_args()
    pythons = find_pythons(os.environ)
    if arguments.only:
        pythons = {version: path for version, path in pythons.items() if f"{version[0]}.{version[1]}" in arguments.only}
    if not pythons:
        raise SystemExit(f"no CPython from {named(WANTED[0])} to {named(WANTED[-1])} is on PATH or in pyenv's folder")
    absent = [named(one) for one in WANTED if not any(version[:2] == one for version in pythons)]
    print(f"found: {', '.join(map(named, pythons))}; not here: {', '.join(absent) or 'none'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="smartedge-pythons-") as folder:
        wheel, _ = build(Path(folder))
        for version, python in pythons.items():
            began, own = time.monotonic(), Path(folder) / named(version)
            own.mkdir()
            install_and_serve(own, wheel, str(python), extras=EXTRAS)
            done = "installed with all extras, and served"
            # What runs us has run the suite already, where only one is wanted (.ci/run).
            is_newest = version == max(pythons) and version[:2] != sys.version_info[:2]
            if arguments.suite == "all" or (arguments.suite == "newest" and is_newest):
                test(own / "env", wheel)
                done += "; the fast tests pass"
            print(f"Python {named(version)}: {done} ({time.monotonic() - began:.0f} s)", flush=True)
    return 0


def find_pythons(env: Mapping[str, str]) -> dict[tuple[int, ...], Path]:
    """Return the newest CPython of each wanted version, by its whole version, in order."""
    folders = [Path(folder) for folder in env.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(env.get("PYENV_ROOT") or Path(env.get("HOME", "/")) / ".pyenv") / "versions"
    places = [folder / f"python{major}.{minor}" for folder in folders for major, minor in WANTED]
    places += sorted(pyenv.glob("3.*/bin/python"))
    found: dict[tuple[int, ...], Path] = {}
    for place in places:
        version = version_of(place) if os.access(place, os.X_OK) else None
        if version is not None and version[:2] in WANTED:
            found.setdefault(version, place)
    newest = {version[:2]: version for version in sorted(found)}
    return {version: found[version] for version in sorted(newest.values())}


def version_of(python: Path) -> tuple[int, ...] | None:
    """Return the version of a CPython; None for what is none, or does not run (as one of pyenv's shims may not)."""
    try:
        done = subprocess.run([python, "-c", ASK], capture_output=True, text=True, check=True, timeout=30)
        name, *numbers = done.stdout.split()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return tuple(map(int, numbers)) if name == "cpython" else None


def named(version: Sequence[int]) -> str:
    """Write a version as people do."""
    return ".".join(map(str, version))


def test(env: Path, wheel: Path) -> None:
    """Run the fast tests of the tree with an environment's Python."""
    run(env / "bin" / "pip", "install", "-q", f"{wheel}[dev]", cwd=env)
    run(env / "bin" / "pip", "uninstall", "-q", "-y", "smartedge", cwd=env)  # the tree's own is the one to test
    words = [env / "bin" / "python", "-m", "pytest", "-p", "tests.forks", "--forks", "4", "-q", "-m", "not long"]
    words += ["-p", "no:cacheprovider"]
    run("nice", "-n", "5", *words, ALONE, cwd=ROOT)
    run("nice", "-n", "5", *words, "--ignore", "tests/live", "--ignore", ALONE, "tests", cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
