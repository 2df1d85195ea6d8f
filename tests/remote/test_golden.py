"""The original's golden scenarios, for two and for three data centres over a real broker."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from compose.broker import Broker
from tests.support.centres import Centres, centres_in
from tests.support.deployment import PATIENT, eventually
from tests.support.people import Caller, Fields, books, events, intervals, refused, taken

LIMITS = {
    **PATIENT,
    "VCAP__SERVER__LIMITS__REFUND_WINDOW_MS": "200",
    "VCAP__SERVER__LIMITS__REPORT_MS": "200",
}


class People(Centres):
    """Data centres with a client in each."""

    def __init__(self, centres: Centres) -> None:
        super().__init__(centres.deployments)
        self.names = list(self.deployments)
        self._clients = {name: Caller(each, each.make_key()) for name, each in self.items()}

    def close(self) -> None:
        """No more calls."""
        for each in self._clients.values():
            each.close()

    def consume(self, name: str, cap: str, amount: int = 1, server: int = 0) -> int:
        """The units that a client gets there: what it asks for, or nothing as it is capped."""
        answer = self._clients[name].consume(server, cap, amount)
        if answer.status_code == 200:
            return int(answer.json()["consumed"])
        refused(answer, "capped")
        return 0

    def client(self, name: str) -> Caller:
        return self._clients[name]

    def exhaust(self, name: str, cap: str) -> int:
        """Consume unit by unit until it is capped; gives how many."""
        return sum(iter(partial(self.consume, name, cap), 0))

    def all_books(self, cap: str) -> dict[str, Fields]:
        """The books of the current interval in each data centre."""
        return {name: books(each, cap) for name, each in self.items()}

    def sums(self, cap: str) -> dict[str, int]:
        """The books of the current interval, summed; what is on its way is in transit."""
        found = self.all_books(cap).values()
        keys = ("total", "available", "held", "spent", "expired", "received", "sent")
        summed = {key: sum(int(each[key]) for each in found) for key in keys}
        return {**summed, "in_transit": summed.pop("sent") - summed.pop("received")}

    def settles(self, cap: str, **wanted: int) -> None:
        """The sums come to what is wanted, and the equation holds in each of them."""
        found: dict[str, int] = {}

        def is_so() -> bool:
            nonlocal found
            found = self.sums(cap)
            return wanted.items() <= found.items()

        try:
            eventually(is_so, "")
        except AssertionError:
            raise AssertionError(f"{cap} never came to {wanted}, but is {found}") from None
        places = ("available", "held", "spent", "expired", "in_transit")
        assert found["total"] == sum(found[each] for each in places), found

    def define(self, at: str, cap: str, total: int, **more: object) -> None:
        """Define a cap for all data centres at one, and wait until all have that definition."""
        body = {"interval": "month", "placement": "even", **more, "total": total}
        version = self[at].control("PUT", f"/v1/caps/{cap}", body)["version"]
        for name, each in self.items():
            eventually(
                lambda each=each: version in versions(each.control("GET", "/v1/caps"), cap),
                f"{cap} {version} is known in {name}",
            )


def versions(listed: Fields, cap: str) -> list[str]:
    """The version of a cap as a list of caps has it."""
    return [each["version"] for each in listed["caps"] if each["id"] == cap]


def instant(seconds: float) -> str:
    """So many seconds from now, as RFC 3339."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.fixture(scope="module", params=[2, 3], ids=["two", "three"])
def centres(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, broker: Broker
) -> Iterator[People]:
    """Data centres with two servers each, for all tests here; each test has caps of its own."""
    count: int = request.param
    names = [f"of{count}-{number}" for number in range(1, count + 1)]
    directory = tmp_path_factory.mktemp("centres")
    urls = dict.fromkeys(names, broker.url)
    with centres_in(directory, names, urls, servers=2, environment=LIMITS) as found:
        people = People(found)
        yield people
        people.close()
        found.verify()


def test_a_day_cap_is_shared_by_all(centres: People) -> None:
    """1 and 11: 1000 are 500 each, or 334 + 333 + 333; today's interval and tomorrow's exist."""
    home, *others = centres.names
    centres.define(others[-1], "day", 1000, interval="day")
    shares = {2: [500, 500], 3: [333, 333, 334]}[len(centres.names)]
    centres.settles("day", available=1000, in_transit=0)
    for number in (0, 1):
        found = [intervals(each, "day")[number]["available"] for _, each in centres.items()]
        assert sorted(found) == shares
    today, tomorrow = intervals(centres[home], "day")
    assert today["end"] == tomorrow["start"]


def test_a_hundred_is_shared_to_the_last_unit(centres: People) -> None:
    """11: 100 over three data centres is 34 + 33 + 33."""
    centres.define(centres.names[0], "hundred", 100)
    centres.settles("hundred", available=100, in_transit=0)
    found = sorted(each["available"] for each in centres.all_books("hundred").values())
    assert found == {2: [50, 50], 3: [33, 33, 34]}[len(centres.names)]


def test_a_definition_told_again_changes_nothing_anywhere(centres: People) -> None:
    """2: nothing is recorded, at home or elsewhere; a future cap has no interval, nor an ended."""
    home = centres.names[0]
    centres.define(home, "same", 1000)
    centres.settles("same", available=1000, in_transit=0)
    eventually(lambda: settled_transfers(centres, "same"), "every transfer is settled")
    before = {name: events(each, "same") for name, each in centres.items()}
    centres.define(home, "same", 1000)
    centres.define(home, "future", 10, start="2999-01-01")
    centres.define(home, "over", 10, start="2020-01-01", end="2020-02-01")
    assert {name: events(each, "same") for name, each in centres.items()} == before
    for name, each in centres.items():
        assert intervals(each, "future") == intervals(each, "over") == []
        refused(centres.client(name).consume(0, "future"), "not_started")
        refused(centres.client(name).consume(0, "over"), "ended")


def settled_transfers(centres: People, cap: str) -> bool:
    """Whether what was sent is known to have come, and no more of it will be told."""
    kinds = [each["kind"] for _, centre in centres.items() for each in events(centre, cap)]
    return kinds.count("TransferSent") == kinds.count("TransferSettled") > 0


def test_a_raised_total_can_be_had_at_once_anywhere(centres: People) -> None:
    """3: 1000 become 2000 in both intervals; who was exhausted serves again."""
    home, other = centres.names[:2]
    centres.define(home, "raised", 1000)
    assert centres.consume(other, "raised", 1000) == 1000
    assert centres.consume(home, "raised") == 0
    centres.define(home, "raised", 2000)
    assert centres.consume(other, "raised", 1000) == 1000
    assert [each["total"] for each in intervals(centres[home], "raised")] == [2000, 2000]
    assert all(centres.consume(name, "raised") == 0 for name in centres.names)
    centres.settles("raised", spent=2000, in_transit=0)


def test_a_lowered_total_is_a_debt_in_the_sum(centres: People) -> None:
    """3: 2000 become 500 with 900 spent: -400 in the sum, nothing is granted, slices come back."""
    home, *others = centres.names
    centres.define(home, "lowered", 2000)
    for name, amount in ((home, 500), (others[-1], 400)):
        assert centres.consume(name, "lowered", amount) == amount
    client = centres.client(others[0])
    client.refund(1, taken(client.consume(1, "lowered", 100)))
    # When
    centres.define(home, "lowered", 500)
    # Then
    centres.settles("lowered", available=-400, held=0, spent=900, in_transit=0)
    assert all(centres.consume(name, "lowered") == 0 for name in centres.names)
    # When it is raised again, only the rest is served
    centres.define(home, "lowered", 1000)
    assert centres.consume(others[0], "lowered", 100) == 100
    assert all(centres.consume(name, "lowered") == 0 for name in centres.names)


def test_one_data_centre_may_have_it_all(centres: People) -> None:
    """4: transfers let it serve on, up to 100 in all; the 101st consume anywhere is capped."""
    home, *others = centres.names
    centres.define(home, "hot", 100)
    assert centres.exhaust(others[-1], "hot") == 100
    assert all(centres.consume(name, "hot") == 0 for name in centres.names)
    centres.settles("hot", spent=100, available=0, held=0, in_transit=0)


def test_a_donor_gives_what_it_can_spare(centres: People) -> None:
    """5: who needs more than there is hears of it, and has the rest to the last unit."""
    home, *others = centres.names
    centres.define(home, "donor", 100)
    assert centres.consume(home, "donor", 30) == 30
    assert centres.consume(others[-1], "donor", 75) == 0
    assert centres.consume(others[-1], "donor", 70) == 70
    centres.settles("donor", spent=100, in_transit=0)


def test_who_has_six_and_is_asked_for_seven_asks_for_more(centres: People) -> None:
    """6: the rest comes from elsewhere, and what is left of it can be had there."""
    count, (home, *others) = len(centres.names), centres.names
    centres.define(home, "six", 6 * count)
    assert centres.consume(others[-1], "six", 7) == 7
    assert centres.exhaust(home, "six") == 6 * count - 7


def test_a_first_partial_period_is_shared_as_well(centres: People) -> None:
    """7: `initial_total` is that of the first period, wherever it is consumed."""
    centres.define(centres.names[0], "partial", 100, start=instant(-1), initial_total=3)
    centres.settles("partial", total=3, in_transit=0)
    assert centres.exhaust(centres.names[-1], "partial") == 3


def test_a_retired_cap_closes_everywhere(centres: People) -> None:
    """8: slices come back with what was spent, and every data centre closes its books."""
    home = centres.names[0]
    centres.define(home, "retired", 300)
    for name in centres.names:
        assert centres.consume(name, "retired", 5) == 5
    # When
    centres[home].control("DELETE", "/v1/caps/retired")
    # Then
    for name, each in centres.items():
        eventually(lambda each=each: intervals(each, "retired") == [], f"{name} closes its books")
        refused(centres.client(name).consume(0, "retired"), "ended")
    closed = [
        each.control("GET", "/v1/caps/retired/intervals")["intervals"][0]
        for _, each in centres.items()
    ]
    assert sum(each["spent"] for each in closed) == 5 * len(centres.names)
    assert sum(each["expired"] for each in closed) == 300 - 5 * len(centres.names)
    assert sum(each["unreported"] for each in closed) == 0


def test_what_a_server_gives_back_can_be_had_elsewhere(centres: People) -> None:
    """9: shut down in order, nothing is held there; killed, its journal tells on restart."""
    home, other = centres.names[:2]
    centres.define(home, "orderly", 1000)
    assert centres.consume(other, "orderly", 7, server=1) == 7
    centres[other].stop_server(1)
    assert centres.consume(home, "orderly", 993) == 993
    # And given one that is killed with what it holds
    centres[other].start_server(1)
    centres.define(home, "killed", 1000)
    assert centres.consume(other, "killed", 5, server=1) == 5
    centres[other].kill_server(1)
    known = books(centres[other], "killed")
    rest = 1000 - known["held"] - known["spent"]
    assert centres.consume(home, "killed", rest) == rest
    assert centres.consume(home, "killed", 1) == 0
    # When it is there again
    centres[other].start_server(1)
    # Then what it held is to be had
    centres.settles("killed", total=1000, in_transit=0)
    exhausted = 0

    def is_had() -> bool:  # what was refused while it was away may be refused for some seconds
        nonlocal exhausted
        exhausted += centres.exhaust(home, "killed") + centres.exhaust(other, "killed")
        return exhausted == 1000 - 5 - rest

    eventually(is_had, "what it held is to be had")
