"""What pyproject.toml cannot say: with SMARTEDGE_MYPYC=1 mypyc compiles the modules on a request's way (docs/performance.md).

`SMARTEDGE_MYPYC=1 pip wheel .` makes a wheel of this machine and Python; `make fast` compiles in place. Without the variable
nothing here needs a compiler, and the same files run as they are.
"""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup

COMPILED = """
balancer: adaptive_cap backend blame breaker candidates cells evidence ewma kinds learned lease near_first pace past places pool
balancer: retry silence spec tier_views trace waiting_line
http: alike answer_fields answer_head chunked cookies forwarded headers max_forwards request sweep tls_wire wire
server: answer answering front handler http2_answer incoming reader
proxy: adapter affinity answer attempts connection dialer exchange explain forward http2_stream outbound queue service transport
proxy: tried upgrade upload
edge: request_ids short_way
observe: decision_text decisions
"""
"""The modules that are compiled, all of them as one group: calls between compiled and interpreted code eat the gain of a few.

Not among them: what users derive from (strategies), errors, which derive from the interpreter's, and the session, which derives
from requests'."""

MYPY = "mypy[mypyc]==2.4.1"

GROUP = "smartedge"


def extensions() -> list[Extension]:
    """Translate and return what is to be compiled; where pip asks for the metadata, only what these name: the one library.

    pip asks before it builds, first without mypy. Translating takes a minute.
    """
    if not {"egg_info", "dist_info"}.isdisjoint(sys.argv):
        return [Extension(f"{GROUP}__mypyc", sources=[])]
    from mypyc.build import mypycify

    files = []
    for line in COMPILED.strip().split("\n"):
        folder, _, names = line.partition(": ")
        files += [f"smartedge/{folder}/{name}.py" for name in names.split()]
    options = ["--config-file=", "--python-version=3.11", "--ignore-missing-imports"]
    return mypycify([*options, *files], opt_level=os.environ.get("SMARTEDGE_MYPYC_OPT", "2"), debug_level="0", group_name=GROUP)


if os.environ.get("SMARTEDGE_MYPYC") == "1":
    setup(setup_requires=[MYPY], ext_modules=extensions())
else:
    setup()
