"""Simulated lives end well, fail where they must, and are the same whenever they are lived."""

import os
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
from msgspec import json

from vcap_es.sim.__main__ import first_seed
from vcap_es.sim.lives.fault_schedule import Mishap
from vcap_es.sim.lives.life import Life
from vcap_es.sim.lives.profiles import FLAPPING, PROFILES, mishaps
from vcap_es.sim.mutations import Mutation, hunt
from vcap_es.sim.mutations.gate import is_sound
from vcap_es.sim.mutations.primacy import MUTATIONS
from vcap_es.sim.runs import live_once
from vcap_es.sim.shrinking import Case, shrink

BY_NAME = {each.name: each for each in MUTATIONS}
CASES = sorted((Path(__file__).parents[1] / "seeds").glob("*.json"))
ROTATING = 4
"""Lives a profile; `.ci/run` lives more, and `make sim` many."""

QUICK = ("no_isr_check", "ack_before_replication", "voters_not_joint", "watermark_off")


@pytest.mark.parametrize("profile", sorted(PROFILES.keys() - {"steps"}))  # see test_steps.py
@pytest.mark.parametrize("first", range(0, 8, 4))
def test_lives_end_well(profile: str, first: int) -> None:
    """Whatever goes wrong, nothing acknowledged is lost, and all is well in the end."""
    for seed in range(first, first + 4):
        outcome = live_once(profile, seed)
        assert not outcome.check, f"{profile} {seed}: {outcome.check} {outcome.finding}"


@pytest.mark.parametrize("profile", sorted(PROFILES.keys() - {"steps"}))
def test_lives_that_no_commit_before_has_lived_end_well(profile: str) -> None:
    """The seeds rotate by the commit; a failure names the profile and the seed to live it again."""
    first = first_seed(commit())
    for seed in range(first, first + ROTATING):
        outcome = live_once(profile, seed)
        assert not outcome.check, f"{profile} {seed}: {outcome.check} {outcome.finding}"


def commit() -> str:
    """The commit that is checked out; "" where this is no checkout."""
    command = ["git", "rev-parse", "HEAD"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_of_primacy_is_found(name: str) -> None:
    """A life fails by the bug, and ends well without it."""
    found = hunt(BY_NAME[name])
    assert found.seed is not None, f"{name} survived: {found.mutation.rule}"
    assert is_sound(found.mutation, found.seed)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_kept_life_ends_well(path: Path) -> None:
    """What once failed, shrunk to the mishaps that mattered, ends well now."""
    case = json.decode(path.read_bytes(), type=Case)
    assert case.live() == ""
    assert not case.shows or case.shows in BY_NAME


def test_there_are_kept_lives() -> None:
    """The folder is found where it is looked for."""
    assert len(CASES) > 10


def test_every_planted_bug_of_primacy_has_a_name_of_its_own() -> None:
    """A report of the gate is read by names."""
    assert len(BY_NAME) == len(MUTATIONS)


def test_a_seed_is_the_same_life_in_every_process() -> None:
    """The trace depends on the seed alone, not on the hashes of text in one process."""
    program = "from vcap_es.sim.runs import live_once; print(live_once('failover', 3).trace)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert traces == {live_once("failover", 3).trace}
    assert live_once("failover", 4).trace not in traces


def test_a_failing_life_shrinks_to_what_matters() -> None:
    """Mishaps that do not matter are taken away, and the rest still fails."""
    for seed in range(30):
        with BY_NAME["no_isr_check"].plant():
            outcome = live_once("solo", seed)
            case = shrink("solo", seed, outcome.check) if outcome.check else None
            assert case is None or case.live() == outcome.check
        if case is not None and len(case.mishaps) < len(mishaps(PROFILES["solo"], seed)):
            assert case.live() == ""
            return
    raise AssertionError("no life was found that fails and shrinks")


def test_what_is_drawn_does_not_depend_on_what_is_left_out() -> None:
    """Without mishaps clients act at the same times: each purpose has its own randomness."""
    whole, alone = Life(FLAPPING, 1), Life(FLAPPING, 1, planned=[])
    whole.live()
    alone.live()
    assert alone.world.streams.times.getstate() == whole.world.streams.times.getstate()
    assert alone.world.scheduler.trace != whole.world.scheduler.trace


def test_a_life_that_nothing_happens_to_is_told() -> None:
    """What happens can be read, with the time and the place."""
    said: list[str] = []
    live_once("failover", 1, planned=[Mishap(100, "crash", "s0", "", 50)], say=said.append)
    assert any("crash s0" in line for line in said)
    assert any("leads epoch 2" in line for line in said)


def test_a_life_that_fails_without_the_bug_is_no_proof() -> None:
    """The gate does not count a finding that is there anyway."""

    def fails(_seed: int) -> None:
        raise AssertionError("always")

    mutation = Mutation(name="none", rule="", plant=partial(nullcontext), life=fails, seeds=1)
    assert not is_sound(mutation, 0)
