#!/usr/bin/env python3
"""A second example backend: server1.py under another name and port; `python3 server2.py --help` tells all."""

from __future__ import annotations

import sys

import server1

if __name__ == "__main__":
    sys.exit(server1.main(name="server2", port=8082))
