"""The kinds of sources there are, and how one is made of what the configuration says."""

from __future__ import annotations
