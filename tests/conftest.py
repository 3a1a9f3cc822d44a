import os
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: the first example of a kernel compiles it.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real inputs and of other systems' test vectors, beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.fail(f"these tests read real inputs from {folder}, which is not there", pytrace=False)
    return folder
