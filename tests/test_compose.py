"""Two data centres, as the files in `compose` start them."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from compose.broker import INSTALLED, PACKAGES
from compose.packages import Unavailable, unpacked
from compose.two_dc import CAP, TOTAL
from tests.support.deployment import ROOT, ports_in_a_row
from vcap_es.cli import app
from vcap_es.settings import load

TEXT = (ROOT / "compose" / "two-dc.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
NODES = {name: each for name, each in COMPOSE["services"].items() if name.startswith("dc")}


@pytest.mark.parametrize("node", NODES)
def test_every_node_can_read_its_settings(node: str) -> None:
    """Each variable is a setting, each word of the command one that `vcap` knows."""
    environment = NODES[node]["environment"]
    settings = load(None, environment)
    assert settings.data_centre == node[:3]
    assert len(settings.remote.centres) == 1
    command = NODES[node]["command"].split()
    app.parse_args(command, exit_on_error=False, print_error=False)
    volumes = {each.partition(":")[0] for each in NODES[node]["volumes"]}
    assert volumes <= COMPOSE["volumes"].keys()


def test_the_commands_that_it_tells_are_known() -> None:
    """Whoever does what its first lines say uses nodes and verbs that there are."""
    told = re.findall(r"yml (?:run --rm|exec) (\S+)(?: \\\n# *vcap)? (.*)", TEXT)
    assert len(told) == 3
    for node, words in told:
        assert node in NODES
        app.parse_args(words.split(), exit_on_error=False, print_error=False)


def test_the_demonstration_serves_the_last_unit(tmp_path: Path) -> None:
    """All traffic is at one data centre, and has exactly what both have; then it ends in order."""
    try:
        if not INSTALLED.exists():
            unpacked("rabbitmq", PACKAGES)
    except Unavailable as reason:
        pytest.skip(str(reason))
    command = [
        sys.executable,
        "-m",
        "compose.two_dc",
        str(tmp_path / "data"),
        str(ports_in_a_row(24)),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = []
        for line in process.stdout:
            told.append(line)
            if "Ctrl-C ends it" in line:
                break
        process.send_signal(signal.SIGINT)
        told += process.stdout.readlines()
        assert process.wait(60) == 0, "".join(told)
    text = "".join(told)
    assert f"{TOTAL} of {TOTAL} were consumed" in text
    assert CAP in text
    assert re.search("gather", text)
