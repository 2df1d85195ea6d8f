"""What a user of volume caps sees, over HTTP and real processes."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from random import Random

import pytest

from tests.support.deployment import PATIENT, Deployment, deployed, eventually
from tests.support.people import (
    Caller,
    Fields,
    books,
    define,
    drain,
    events,
    intervals,
    refused,
    settled,
    taken,
)

SERVERS = 3
LIMITS = {
    **PATIENT,
    "VCAP__SERVER__LIMITS__REFUND_WINDOW_MS": "200",
    "VCAP__SERVER__LIMITS__REPORT_MS": "200",
}
PLENTY = 2_560
"""A total of which a server takes more than it is asked for."""


@pytest.fixture(scope="module")
def dc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A data centre with three servers, for all tests here; each has caps of its own."""
    with deployed(tmp_path_factory.mktemp("golden"), SERVERS, LIMITS) as deployment:
        yield deployment
        deployment.verify()


@pytest.fixture(scope="module")
def caller(dc: Deployment) -> Iterator[Caller]:
    """A client that may consume from every cap."""
    found = Caller(dc, dc.make_key())
    yield found
    found.close()


def instant(seconds: float) -> str:
    """So many seconds from now, as RFC 3339."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def spends_above(deployment: Deployment, cap: str, amount: int) -> bool:
    """Whether more than `amount` is spent."""
    return bool(books(deployment, cap)["spent"] > amount)


def answers(caller: Caller, server: int, status: int) -> bool:
    """Whether a consume of the cap `revoked` is answered so."""
    return caller.consume(server, "revoked").status_code == status


# ---- the original's golden scenarios


def test_a_day_cap_has_an_interval_of_today_and_one_of_tomorrow(dc: Deployment) -> None:
    """1: both exist at once, each with the whole total, one behind the other."""
    define(dc, "day", 1000, interval="day")
    today, tomorrow = intervals(dc, "day")
    assert [today["total"], tomorrow["total"]] == [1000, 1000]
    assert today["end"] == tomorrow["start"]
    assert today["start"] <= instant(0) < tomorrow["end"]


def test_what_is_defined_again_unchanged_records_nothing(dc: Deployment) -> None:
    """2: the same definition has the same version, and the log has no event more."""
    first = define(dc, "same", 1000)
    before = events(dc, "same")
    assert define(dc, "same", 1000) == first
    assert events(dc, "same") == before


def test_a_future_cap_gets_its_interval_when_it_is_due(dc: Deployment, caller: Caller) -> None:
    """2: it is known and has not started; then it serves."""
    # Given
    define(dc, "far", 10, start="2999-01-01")
    define(dc, "soon", 10, start=instant(1.5))
    # Then
    assert intervals(dc, "far") == []
    refused(caller.consume(0, "far"), "not_started")
    refused(caller.consume(0, "soon"), "not_started")
    eventually(lambda: caller.consume(0, "soon").status_code == 200, "the cap starts")


def test_an_ended_cap_has_no_interval(dc: Deployment, caller: Caller) -> None:
    """2: a cap that was over before it was defined never serves."""
    define(dc, "ended", 10, start="2020-01-01", end="2020-02-01")
    assert intervals(dc, "ended") == []
    refused(caller.consume(0, "ended"), "ended")


def test_a_raised_total_grows_both_intervals_at_once(dc: Deployment, caller: Caller) -> None:
    """3: 1000 to 2000: what was exhausted serves again."""
    define(dc, "raised", 1000)
    taken(caller.consume(0, "raised", 1000))
    refused(caller.consume(1, "raised"), "capped")
    define(dc, "raised", 2000)
    assert [each["total"] for each in intervals(dc, "raised")] == [2000, 2000]
    taken(caller.consume(1, "raised", 1000))
    refused(caller.consume(2, "raised"), "capped")


def test_a_lowered_total_leaves_a_debt_and_calls_idle_slices_back(
    dc: Deployment, caller: Caller
) -> None:
    """3: 2000 to 500 with 900 spent: available is -400, over by 400, and nothing is granted."""
    # Given
    define(dc, "lowered", 2000)
    for server, amount in enumerate((500, 400)):
        taken(caller.consume(server, "lowered", amount))
    held = taken(caller.consume(2, "lowered", 100))
    taken(caller.refund(2, held))
    assert settled(dc, "lowered", spent=900)["held"] >= 100
    # When
    define(dc, "lowered", 500)
    # Then
    found = settled(dc, "lowered", held=0)
    assert (found["available"], found["over"], found["spent"]) == (-400, 400, 900)
    for server in range(SERVERS):
        refused(caller.consume(server, "lowered"), "capped")
    assert "over" in dc.vcap("cap", "show", "lowered").stdout


def test_a_total_lowered_and_raised_again_serves_only_what_is_left(
    dc: Deployment, caller: Caller
) -> None:
    """100, spend 80, lower to 50, raise to 100: 20 more are served, not 50."""
    define(dc, "clamp", 100)
    taken(caller.consume(0, "clamp", 80))
    define(dc, "clamp", 50)
    refused(caller.consume(0, "clamp"), "capped")
    define(dc, "clamp", 100)
    assert drain(caller, "clamp", range(SERVERS)) == 20


def test_a_server_with_too_little_asks_for_more(dc: Deployment, caller: Caller) -> None:
    """6: a server with 6 left, asked for 7, gets one more instead of refusing for ever."""
    # Given
    define(dc, "six", 100)
    first = taken(caller.consume(0, "six", 6))
    taken(caller.refund(0, first))
    assert taken(caller.look_up(0, "six"))["here"] == 6
    # When / Then
    assert taken(caller.consume(0, "six", 7))["consumed"] == 7


def test_of_two_servers_with_three_each_one_gets_five(dc: Deployment, caller: Caller) -> None:
    """Both are asked for 5 of 6 at once: one gets them, one is capped, and 1 is left to be had."""
    # Given
    define(dc, "threes", 6)
    for consumed in [taken(caller.consume(server, "threes", 3)) for server in (0, 1)]:
        taken(caller.refund(2, consumed))
    # When
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda server: caller.consume(server, "threes", 5), (0, 1)))
    # Then
    assert sorted(each.status_code for each in answers) == [200, 429]
    assert drain(caller, "threes", range(SERVERS)) == 1


def test_a_first_partial_period_can_have_its_own_total(dc: Deployment, caller: Caller) -> None:
    """7: `initial_total` is that of the first period, which the start cuts short."""
    define(dc, "partial", 100, start=instant(-1), initial_total=3)
    assert [each["total"] for each in intervals(dc, "partial")] == [3, 100]
    assert drain(caller, "partial", range(SERVERS)) == 3


def test_a_retired_cap_closes_with_what_was_spent(dc: Deployment, caller: Caller) -> None:
    """8: it serves no more, slices come back, and its books close on what was consumed."""
    # Given
    define(dc, "retired", PLENTY)
    for server in range(SERVERS):
        taken(caller.consume(server, "retired", 5))
    # When
    dc.control("DELETE", "/v1/caps/retired")
    # Then
    eventually(lambda: intervals(dc, "retired") == [], "all intervals close")
    first, second = dc.control("GET", "/v1/caps/retired/intervals")["intervals"]
    assert (first["spent"], first["expired"], first["unreported"]) == (15, PLENTY - 15, 0)
    assert (second["spent"], second["expired"]) == (0, PLENTY)
    for server in range(SERVERS):
        refused(caller.consume(server, "retired"), "ended")


def test_a_cap_defined_again_after_its_end_serves_what_is_left_of_its_period(
    dc: Deployment, caller: Caller
) -> None:
    """No period is ever minted twice: what was served before is not there again."""
    define(dc, "again", 5, interval="day")
    taken(caller.consume(0, "again", 3))
    dc.control("DELETE", "/v1/caps/again")
    define(dc, "again", 5, interval="day")
    assert drain(caller, "again", range(SERVERS)) == 2
    refused(caller.consume(0, "again"), "capped")


def test_a_paused_cap_refuses_and_a_resumed_one_goes_on(dc: Deployment, caller: Caller) -> None:
    """The total in force is 0 meanwhile; what was spent stays spent."""
    define(dc, "paused", 10)
    taken(caller.consume(0, "paused", 4))
    dc.control("POST", "/v1/caps/paused/pause")
    refused(caller.consume(0, "paused"), "paused")
    dc.control("POST", "/v1/caps/paused/resume")
    assert drain(caller, "paused", range(SERVERS)) == 6


# ---- 9: servers that stop, die, and lose their journal


def test_a_server_shut_down_in_order_gives_everything_back(dc: Deployment, caller: Caller) -> None:
    """9: nothing is held when it is gone, and every unit can be had elsewhere."""
    define(dc, "orderly", PLENTY)
    taken(caller.consume(2, "orderly", 7))
    assert books(dc, "orderly")["held"] > 0
    dc.stop_server(2)
    found = books(dc, "orderly")
    assert (found["held"], found["spent"], found["available"]) == (0, 7, PLENTY - 7)
    dc.start_server(2)


def test_a_killed_server_goes_on_with_its_slice(dc: Deployment, caller: Caller) -> None:
    """9: what it holds stays held; its journal tells what was spent when it is there again."""
    define(dc, "killed", PLENTY)
    taken(caller.consume(2, "killed", 5))
    dc.kill_server(2)
    held = books(dc, "killed")["held"]
    assert held > 0
    dc.start_server(2)
    assert settled(dc, "killed", spent=5)["total"] == PLENTY
    taken(caller.consume(0, "killed", PLENTY - 5))
    refused(caller.consume(2, "killed"), "capped")


def test_what_a_lost_journal_held_stays_held(dc: Deployment, caller: Caller) -> None:
    """9: nothing is reclaimed on silence; the others serve the rest and not one unit more."""
    # Given
    define(dc, "lost", PLENTY)
    taken(caller.consume(2, "lost", 5))
    settled(dc, "lost", spent=5)
    dc.kill_server(2)
    held = books(dc, "lost")["held"]
    assert held > 0
    # When
    shutil.rmtree(dc.directory / "server3")
    dc.start_server(2)
    # Then
    assert taken(caller.consume(0, "lost", PLENTY - 5 - held))
    for server in range(SERVERS):
        refused(caller.consume(server, "lost"), "capped")
    found = books(dc, "lost")
    assert (found["available"], found["held"], found["spent"]) == (0, held, PLENTY - held)


# ---- what an operator does in the middle of load


def test_totals_change_and_a_cap_retires_under_load(dc: Deployment, caller: Caller) -> None:
    """Up, down and retired while clients call: no more than the largest total, each unit booked."""
    # Given
    define(dc, "restless", 300)
    stop = threading.Event()
    key = dc.make_key()

    def load(seed: int) -> int:
        random, client, mine = Random(seed), Caller(dc, key), 0
        while not stop.is_set():
            answer = client.consume(random.randrange(SERVERS), "restless", random.randint(1, 3))
            mine += answer.json()["consumed"] if answer.status_code == 200 else 0
        client.close()
        return mine

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, seed) for seed in range(4)]
        # When
        for total in (500, 200, 400, 100, 600):
            before = books(dc, "restless")["spent"]
            define(dc, "restless", total)
            if total > before:
                eventually(partial(spends_above, dc, "restless", before), "it serves")
        dc.control("DELETE", "/v1/caps/restless")
        eventually(lambda: intervals(dc, "restless") == [], "it closes")
        stop.set()
        consumed = sum(each.result() for each in loads)
    # Then
    closed = dc.control("GET", "/v1/caps/restless/intervals")["intervals"][0]
    assert consumed == closed["spent"] <= 600
    assert closed["unreported"] == 0


# ---- what a client can do


def test_a_template_defines_a_cap_on_first_use(dc: Deployment, caller: Caller) -> None:
    """Every user has a budget of their own; an id that fits no template is unknown."""
    dc.control("PUT", "/v1/templates/user:*", {"total": 2, "interval": "month"})
    for user in ("user:ann", "user:bob"):
        taken(caller.consume(0, user, 2))
        refused(caller.consume(1, user), "capped")
    refused(caller.consume(0, "nobody:ann"), "unknown_cap")


def test_a_shadow_cap_says_yes_and_what_it_would_have_refused(
    dc: Deployment, caller: Caller
) -> None:
    """Shadow mode counts and never refuses."""
    define(dc, "shadow", 5, mode="shadow")
    assert "shadow" not in taken(caller.consume(0, "shadow", 5))
    answer = taken(caller.consume(1, "shadow", 3))
    assert (answer["consumed"], answer["shadow"]) == (3, "capped")


def test_even_pacing_releases_the_total_over_the_interval(dc: Deployment, caller: Caller) -> None:
    """Half way through the interval half is there; more is refused as paced, with the time."""
    hour = 3600
    define(
        dc,
        "paced",
        1000,
        interval="single",
        start=instant(-hour),
        end=instant(hour),
        pacing="even",
    )
    taken(caller.consume(0, "paced", 450))
    problem = refused(caller.consume(1, "paced", 100), "paced")
    assert 0 < problem["retry_after_ms"] < hour * 1000


def test_a_hold_is_committed_in_part_at_another_server(dc: Deployment, caller: Caller) -> None:
    """The id names its server; the call is forwarded there, and the rest comes back."""
    define(dc, "held", 10)
    hold = taken(caller.post(0, "/v1/holds", {"cap": "held", "amount": 10, "lifetime_ms": 60_000}))
    refused(caller.consume(1, "held"), "capped")
    answer = taken(caller.post(1, f"/v1/holds/{hold['id']}/commit", {"amount": 4}))
    assert (answer["committed"], answer["refunded"]) == (4, 6)
    refused(caller.post(2, f"/v1/holds/{hold['id']}/cancel", {}), "settled")
    assert drain(caller, "held", range(SERVERS)) == 6


def test_a_hold_is_cancelled_or_expires_and_comes_back(dc: Deployment, caller: Caller) -> None:
    """Nothing of it is spent."""
    define(dc, "back", 10)
    body = {"cap": "back", "amount": 10, "lifetime_ms": 60_000}
    hold = taken(caller.post(0, "/v1/holds", body))
    taken(caller.post(1, f"/v1/holds/{hold['id']}/cancel", {}))
    taken(caller.post(1, "/v1/holds", {**body, "lifetime_ms": 100}))
    eventually(lambda: caller.consume(2, "back", 10).status_code == 200, "it expires")


def test_a_commit_above_its_hold_takes_the_difference_or_is_short(
    dc: Deployment, caller: Caller
) -> None:
    """What its server has idle is taken too; what it has not is told."""
    define(dc, "above", 10)
    body = {"cap": "above", "amount": 4, "lifetime_ms": 60_000}
    first, second = (taken(caller.post(0, "/v1/holds", body)) for _ in range(2))
    taken(caller.refund(0, taken(caller.consume(0, "above", 2))))
    answer = taken(caller.post(0, f"/v1/holds/{first['id']}/commit", {"amount": 6}))
    assert (answer["committed"], answer["short"]) == (6, 0)
    answer = taken(caller.post(0, f"/v1/holds/{second['id']}/commit", {"amount": 9}))
    assert (answer["committed"], answer["short"]) == (4, 5)


def test_a_refund_gives_no_more_than_was_consumed(dc: Deployment, caller: Caller) -> None:
    """At any server, in parts, and never twice."""
    define(dc, "refund", 10)
    consumed = taken(caller.consume(0, "refund", 10))
    assert taken(caller.refund(1, consumed, 4))["refunded"] == 4
    assert taken(caller.refund(2, consumed))["refunded_in_all"] == 10
    assert caller.refund(0, consumed, 1).status_code != 200
    assert drain(caller, "refund", range(SERVERS)) == 10


def test_several_caps_are_taken_all_or_none(dc: Deployment, caller: Caller) -> None:
    """Campaign, advertiser and account: where one lacks, nothing of the others is gone."""
    define(dc, "campaign", 10)
    define(dc, "advertiser", 5)
    items = [{"cap": "campaign", "amount": 3}, {"cap": "advertiser", "amount": 3}]
    answer = taken(caller.post(0, "/v1/consume", {"items": items}))
    assert [each["consumed"] for each in answer["items"]] == [3, 3]
    assert refused(caller.post(1, "/v1/consume", {"items": items}), "capped")["cap"] == "advertiser"
    assert drain(caller, "campaign", range(SERVERS)) == 7


def test_a_batch_answers_each_item_for_itself(dc: Deployment, caller: Caller) -> None:
    """With `atomic` false one refusal does not stop the rest."""
    define(dc, "batch", 4)
    items = [{"cap": cap, "amount": 4} for cap in ("batch", "batch", "never-defined")]
    answer = taken(caller.post(0, "/v1/consume", {"items": items, "atomic": False}))
    first, second, third = answer["items"]
    assert first["consumed"] == 4
    assert (second["code"], third["code"]) == ("capped", "unknown_cap")


def test_min_and_max_take_what_there_is(dc: Deployment, caller: Caller) -> None:
    """As much as there is, at least min; too little for min is capped and takes nothing."""
    define(dc, "range", 7)
    path = "/v1/caps/range/consume"
    assert taken(caller.post(0, path, {"min": 1, "max": 5}))["consumed"] == 5
    refused(caller.post(1, path, {"min": 3, "max": 5}), "capped")
    assert taken(caller.post(1, path, {"min": 1, "max": 5}))["consumed"] == 2


def test_the_same_key_gives_the_same_answer(dc: Deployment, caller: Caller) -> None:
    """A repeat takes nothing more; a refusal sticks; another body is another call."""
    define(dc, "keyed", 10)
    first = caller.consume(0, "keyed", 6, key="one")
    assert caller.consume(0, "keyed", 6, key="one").content == first.content
    refused(caller.consume(0, "keyed", 5, key="one"), "key_reused")
    refused(caller.consume(0, "keyed", 6, key="two"), "capped")
    define(dc, "keyed", 100)
    refused(caller.consume(0, "keyed", 6, key="two"), "capped")
    assert settled(dc, "keyed", spent=6)


def test_a_look_up_says_what_is_left(dc: Deployment, caller: Caller) -> None:
    """Here and in the data centre, of which total."""
    define(dc, "level", 10)
    taken(caller.consume(0, "level", 4))
    answer = caller.look_up(1, "level")
    level = taken(answer)
    assert (level["remaining"], level["total"]) == (6, 10)
    assert answer.headers["ratelimit"].startswith('"level";r=6;t=')


# ---- what an auditor asks


def test_balances_can_be_had_as_they_were(dc: Deployment, caller: Caller) -> None:
    """As of an instant, and as of a position."""
    define(dc, "past", 10)
    taken(caller.consume(0, "past", 3))
    settled(dc, "past", spent=3)
    position, then = events(dc, "past")[-1]["position"], instant(0)
    taken(caller.consume(1, "past", 7))
    settled(dc, "past", spent=10)
    assert books(dc, "past", at=then)["spent"] == 3
    assert books(dc, "past", position=position)["spent"] == 3
    last = events(dc, "past")[-1]["position"]
    assert intervals(dc, "past", position=last) == intervals(dc, "past")


def test_a_consume_is_explained_by_its_id(dc: Deployment, caller: Caller) -> None:
    """The auditor learns from where the units came and whether they are booked."""
    define(dc, "why", 10)
    consumed = taken(caller.consume(0, "why", 3))
    settled(dc, "why", spent=3)
    told = dc.control("GET", f"/v1/caps/why/explain?id={consumed['id']}")
    assert told["status"] == "reported"
    assert "3 units" in dc.control("GET", "/v1/caps/why/explain")["text"]


def test_an_explanation_sums_to_the_live_balance(dc: Deployment, caller: Caller) -> None:
    """Every unit of the total is in exactly one sentence."""
    define(dc, "sums", PLENTY)
    for server in range(SERVERS):
        taken(caller.consume(server, "sums", 11))
    settled(dc, "sums", spent=33)
    reasons = dc.control("GET", "/v1/caps/sums/explain")["reasons"]
    found = books(dc, "sums")
    for place in ("available", "held", "spent"):
        assert sum(each["amount"] for each in reasons if each["place"] == place) == found[place]
    assert sum(each["amount"] for each in reasons if each["place"] != "minted") == PLENTY


def test_a_statement_ends_where_the_balance_is(dc: Deployment, caller: Caller) -> None:
    """Double-entry, line by line, down to today."""
    define(dc, "account", 50)
    taken(caller.consume(0, "account", 20))
    settled(dc, "account", spent=20)
    lines: list[Fields] = dc.control("GET", "/v1/caps/account/statement?interval=0")["lines"]
    found = books(dc, "account")
    assert {name: lines[-1][name] for name in ("available", "held", "spent")} == {
        name: found[name] for name in ("available", "held", "spent")
    }
    assert all(one["position"] <= other["position"] for one, other in pairwise(lines))


# ---- keys


def test_a_key_opens_its_scope_and_nothing_else(dc: Deployment) -> None:
    """By id, by pattern and by group."""
    define(dc, "shop:a", 10)
    define(dc, "other", 10)
    define(dc, "in-group", 10, group="red")
    narrow = Caller(dc, dc.make_key(scopes=["shop:*", "group:red"]))
    taken(narrow.consume(0, "shop:a"))
    taken(narrow.consume(0, "in-group"))
    refused(narrow.consume(0, "other"), "forbidden")
    narrow.close()


def test_a_role_may_do_what_it_says(dc: Deployment, caller: Caller) -> None:
    """An auditor consumes nothing, a client reads no log, and no key opens nothing."""
    define(dc, "roles", 10)
    auditor = Caller(dc, dc.make_key("auditor"))
    refused(auditor.consume(0, "roles"), "forbidden")
    auditor.close()
    stranger = Caller(dc, "vcap_nobody_" + "0" * 64)
    refused(stranger.consume(0, "roles"), "unauthorized")
    stranger.close()


def test_a_revoked_key_opens_no_server_within_two_seconds(dc: Deployment) -> None:
    """The master tells every linked server at once."""
    # Given
    define(dc, "revoked", 1_000_000)
    made = dc.control("POST", "/v1/keys", {"role": "client", "scopes": ["*"]})
    doomed = Caller(dc, made["secret"])
    for server in range(SERVERS):
        eventually(partial(answers, doomed, server, 200), "it opens")
    # When
    before = datetime.now(UTC)
    dc.control("DELETE", f"/v1/keys/{made['id']}")
    # Then
    for server in range(SERVERS):
        eventually(partial(answers, doomed, server, 401), "it is shut")
    assert datetime.now(UTC) - before < timedelta(seconds=2)
    doomed.close()
