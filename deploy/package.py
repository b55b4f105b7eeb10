"""Builds wheel and sdist, and shows that they work: make package, or python deploy/package.py [--python PYTHON] [--keep FOLDER].

In a folder of its own: builds both from a clean copy of the tree, checks them as PyPI would, installs the wheel into an
empty environment, and from another directory starts an edge with it that must serve. Needs the network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 20.0


def main() -> int:
    """Do all of it; whatever is wrong is an exception."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="what the empty environment is made with")
    parser.add_argument("--keep", type=Path, help="put what was built here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smartedge-package-") as folder:
        wheel, sdist = build(Path(folder))
        check_contents(wheel, sdist)
        install_and_serve(Path(folder), wheel, arguments.python)
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            for path in (wheel, sdist):
                shutil.copy(path, arguments.keep)
    print(f"{wheel.name} and {sdist.name} are right")
    return 0


def run(*words: str | Path, cwd: Path, **more: object) -> None:
    """Run a command, which must succeed; what it said is shown when it does not."""
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")


def build(folder: Path) -> tuple[Path, Path]:
    """Build both with `python -m build`, and check them with twine; return wheel and sdist."""
    tree, tools = folder / "tree", folder / "tools"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, files):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    venv.create(tools, with_pip=True)
    run(tools / "bin" / "pip", "install", "-q", "build", "twine", cwd=folder)
    run(tools / "bin" / "python", "-m", "build", "--outdir", folder / "dist", tree, cwd=folder)
    built = sorted((folder / "dist").iterdir())
    run(tools / "bin" / "twine", "check", "--strict", *built, cwd=folder)
    sdist, wheel = (next(path for path in built if path.name.endswith(end)) for end in (".tar.gz", ".whl"))
    return wheel, sdist


def check_contents(wheel: Path, sdist: Path) -> None:
    """All that runs must be in the wheel, and nothing else; the sdist must have what builds it again."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "smartedge"
    wanted = {str(path.relative_to(ROOT)) for path in package.rglob("*.py")} | {"smartedge/py.typed"}
    wanted |= {str(path.relative_to(ROOT)) for path in (package / "admin" / "static").iterdir() if path.is_file()}
    missing, other = wanted - names, [name for name in names if name.split("/")[0] in ("tests", "docs", "bench", "deploy")]
    if missing or other:
        raise SystemExit(f"{wheel.name}: missing {sorted(missing)[:9]}, not wanted {other[:9]}")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    if lacking := {"pyproject.toml", "README.md", "LICENSE", "smartedge/app.py"} - inside:
        raise SystemExit(f"{sdist.name}: missing {sorted(lacking)}")


def install_and_serve(folder: Path, wheel: Path, python: str, extras: str = "") -> None:
    """Install the wheel into an empty environment, and have it serve from another directory. extras: with these, "a,b"."""
    home = folder / "elsewhere"
    home.mkdir()
    run(python, "-m", "venv", folder / "env", cwd=folder)
    run(folder / "env" / "bin" / "pip", "install", "-q", f"{wheel}[{extras}]" if extras else wheel, cwd=home)
    program = folder / "env" / "bin" / "smartedge"
    state = folder / "state"
    state.mkdir(mode=0o700)
    environment = {"PATH": os.environ["PATH"], "SMARTEDGE_STATE_DIR": str(state)}
    run(program, "version", cwd=home, env=environment)
    with backend(python) as url:
        words = [str(program), "run", "--backend", url, "--bind", "127.0.0.1:0"]
        edge = subprocess.Popen(words, cwd=home, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        try:
            assert edge.stdout is not None
            port = next(line for line in edge.stdout if line.startswith("🚀")).rsplit(None, 1)[-1]  # a probe may be told first
            with urllib.request.urlopen(wait_for(f"http://127.0.0.1:{port}/"), timeout=WAIT_S) as answer:
                assert b"server1" in answer.read(), "the backend's answer came through"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/smartedge/", timeout=WAIT_S) as page:
                assert b"<html" in page.read(), "the page is in the package"
            health = subprocess.run(
                [program, "healthcheck", "--json"], cwd=home, env=environment, capture_output=True, check=True
            )
            assert json.loads(health.stdout)["up"] == 1
        finally:
            edge.send_signal(signal.SIGTERM)
            assert edge.wait(WAIT_S) == 0, "it ends with 0"


def wait_for(url: str) -> str:
    """Wait until there is an answer other than 503: a backend has been probed."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=WAIT_S).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return url


@contextlib.contextmanager
def backend(python: str) -> Iterator[str]:
    """The example backend; gives its URL."""
    with subprocess.Popen([python, ROOT / "server1.py", "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().rsplit(None, 1)[-1]
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main())
