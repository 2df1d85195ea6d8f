"""Templates and named placements, given at one data centre, hold at all; by the command line."""

import json
from collections.abc import Iterator

import pytest

from compose.broker import Broker
from tests.support.centres import Centres, centres_in
from tests.support.deployment import PATIENT, eventually
from tests.support.people import Caller

NAMES = ("left", "right")


@pytest.fixture(scope="module")
def centres(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Centres]:
    """Two data centres that share what is placed so."""
    directory = tmp_path_factory.mktemp("settings")
    urls = dict.fromkeys(NAMES, broker.url)
    with centres_in(directory, NAMES, urls, environment=PATIENT) as found:
        yield found
        found.verify()


def test_a_cap_of_a_template_is_one_cap_wherever_it_is_used_first(centres: Centres) -> None:
    """A user of ten units asks where the template is not: ten in all, and the home is told."""
    left, right = centres["left"], centres["right"]
    left.control("PUT", "/v1/templates/user:*", {"total": 10, "placement": "even"})
    eventually(lambda: right.control("GET", "/v1/templates")["templates"], "right knows")
    assert right.control("GET", "/v1/templates/user:*")["home"] == "left"
    callers = [Caller(each, each.make_key()) for each in (right, left)]
    taken = 0

    def is_capped() -> bool:
        nonlocal taken
        answers = [each.consume(0, "user:7", 1).status_code for each in callers]
        taken += answers.count(200)
        return answers == [429, 429]

    eventually(is_capped, "nothing is left")
    assert taken == 10
    assert right.control("GET", "/v1/caps/user:7")["home"] == "left"
    for each in callers:
        each.close()


def test_a_placement_has_a_name(centres: Centres) -> None:
    """It is defined at one side and used at the other; its change holds for what opens then."""
    left, right = centres["left"], centres["right"]
    refused = left.vcap("cap", "change", "user:7", "--placement", "mostly-right")
    assert (refused.returncode, "no placement" in refused.stderr) == (1, True)
    done = right.vcap("placement", "set", "mostly-right", "weighted left=1 right=3")
    assert done.returncode == 0, done.stderr
    eventually(lambda: left.control("GET", "/v1/placements")["placements"], "left knows")
    left.control("PUT", "/v1/caps/new", {"total": 80, "placement": "mostly-right"})
    resolved = json.loads(right.vcap("cap", "resolve", "new", "--json").stdout)
    assert (resolved["placement"], resolved["terms"]) == (
        "mostly-right",
        "weighted left=1 right=3",
    )
    eventually(
        lambda: right.control("GET", "/v1/caps/new")["current"]["available"] == 60,
        "right has its share",
    )
    assert "1 caps or templates have" in right.vcap("placement", "retire", "mostly-right").stderr
    assert "mostly-right  weighted left=1 right=3" in right.vcap("placement", "list").stdout
    wrong = right.vcap("placement", "set", "local", "even")
    assert (wrong.returncode, "cannot name" in wrong.stderr) == (1, True)
