"""The configuration as it is written, for whoever changes a part of it: only while it says what is in use."""

from __future__ import annotations

import json
from typing import Any

from smartedge.balancer.errors import EdgeError
from smartedge.config.model import Config
from smartedge.edge.edge import Edge


class CannotPersist(EdgeError):
    """The file can't say what was asked for, so nothing has changed."""

    status = 409
    title = "Not persisted"
    blame = "client"


def text_in_use(edge: Edge) -> tuple[bytes, Config]:
    """Return what the configuration's file says, and means; raises CannotPersist unless it is what is in use."""
    try:
        text = edge.text_in_use()
    except OSError as error:
        raise CannotPersist(f"The configuration's file cannot be read: {error.strerror}. Nothing has changed.") from error
    if text is None:
        raise CannotPersist("There is no configuration file to write to. Nothing has changed.")
    config = edge.origin.parse_text(text)
    if config.etag != edge.config.etag:
        raise CannotPersist("The configuration's file has changes that are not in use; reload it first. Nothing has changed.")
    return text, config


def laid_out(document: Any, like: bytes) -> bytes:
    """Write a configuration as the text that it was made of is written: over several lines, if that was."""
    indent = 2 if b"\n" in like.strip() else None
    return (json.dumps(document, indent=indent, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
