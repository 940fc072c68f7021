from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_learned_from_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what gateways under test learn out of the developer's state directory, and his out of them."""
    directory: Path = tmp_path_factory.mktemp("state")
    os.environ.pop("STATE_DIRECTORY", None)
    os.environ["XDG_STATE_HOME"] = str(directory)
