"""The program: `python -m smartedge`, or `smartedge` once it is installed."""

from __future__ import annotations

import gc
import os
import sys

from smartedge.process import signals


def main() -> int:
    """Patch the standard library for gevent before anything else is imported, then run the command line."""
    # Next to nothing of what is imported can go again: to look through it at each 700 objects, as usual, is a tenth of the start.
    gc.set_threshold(200_000)
    # Who looks for plugins of pydantic reads a file of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        if sys.argv[1:2] == ["run"]:
            signals.handle_early_signals()

        from gevent import monkey

        from smartedge.process.plugins import plugins_found_once

        with plugins_found_once():
            monkey.patch_all()

        from smartedge.cli import main as cli

        return cli.main()
    except KeyboardInterrupt:
        return 130
    finally:
        gc.freeze()  # Or Python looks through all of it several times as it ends, which takes a quarter of a short command.


if __name__ == "__main__":
    sys.exit(main())
