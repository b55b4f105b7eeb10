"""What a source of backends is: the protocol that those of the edge and those of its users keep.

A source knows nothing of generations, pools or retries. It says what there is, again and again, and raises SourceError when it
cannot; a `SourceRunner` (discovery/runner.py) does everything else: it begins a source that failed anew, keeps the last good
set, and hands changes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

Entry = Mapping[str, Any] | str
"""One backend as an item of `backends` in the file: a URL, or an object with a "url" and what else may stand there."""


class SourceError(Exception):
    """A source that failed: one plain sentence, without a full stop, that names the address that was asked and the cause.

    Nothing is lost by it: the last good set stays in use, and the source is made anew after a while.
    """


class Source(Protocol):
    """Where the backends of a service come from; made, asked and ended by a `SourceRunner`, in a greenlet of its own."""

    def snapshots(self) -> Iterator[Sequence[Entry]]:
        """Yield all backends, as soon as they are known, and again whenever the source has answered, changed or not.

        Each yield says "this is all there is now"; nothing may be changed in it afterwards. In between it waits, as gevent does.
        Raises SourceError, after which the source is made anew. When its greenlet ends, the generator is closed.
        """
