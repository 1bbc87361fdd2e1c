"""What the tests of this folder start with: a machine on which the lab can be built, and a lab."""

from collections.abc import Iterator

import pytest

from natlab.lab import Lab
from natlab.lab.requirements import require_lab


@pytest.fixture(scope="session")
def lab_is_possible() -> None:
    require_lab()


@pytest.fixture
def lab(lab_is_possible: None) -> Iterator[Lab]:
    with Lab() as lab:
        yield lab
