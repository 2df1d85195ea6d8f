"""One real broker for all tests here; each data centre has queues of its own."""

from collections.abc import Iterator

import pytest

from compose.broker import Broker
from tests.support.centres import broker_in


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that nobody breaks."""
    with broker_in(tmp_path_factory.mktemp("broker")) as found:
        yield found
