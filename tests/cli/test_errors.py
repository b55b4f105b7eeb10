from __future__ import annotations

import pytest

from smartedge.cli.errors import Declined, Stop


@pytest.mark.parametrize(("error", "status"), [(Stop("not possible"), 2), (Declined("not possible"), 1)])
def test_an_end_is_one_line_on_standard_error_and_an_exit_status(
    error: Stop, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    error.show()
    said = capsys.readouterr()
    assert (said.out, said.err, error.exit_code) == ("", "smartedge: not possible\n", status)
