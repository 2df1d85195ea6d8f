"""What `import vcap_es` gives, and what it costs."""

import subprocess
import sys

import pytest

import vcap_es
from vcap_es import client


def test_every_public_name_is_there() -> None:
    """Each name of the front door is the client's own."""
    for name in vcap_es.__all__:
        if name != "__version__":
            assert getattr(vcap_es, name) is getattr(client, name)


def test_another_name_is_an_attribute_error() -> None:
    """A name that is not there is refused as by any module."""
    with pytest.raises(AttributeError, match="no attribute 'Limiter'"):
        vcap_es.Limiter  # noqa: B018  # the look itself is what is tested


def test_the_front_door_loads_no_client_until_it_is_used() -> None:
    """A server or a command does not load what only clients use."""
    script = "import sys, vcap_es; print('vcap_es.client' in sys.modules, 'httpx2' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert printed.stdout == b"False False\n"
