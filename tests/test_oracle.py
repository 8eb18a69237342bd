"""The stateful oracle: whatever is done to a database, it answers like brute force."""

from __future__ import annotations

from pathlib import Path

import pytest
from torture import oracle


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_random_operations_agree_with_brute_force(tmp_path: Path, seed: int) -> None:
    tally = oracle.run(tmp_path, 100, seed * 1000)
    assert not tally.failures
    assert tally.tried == 100
