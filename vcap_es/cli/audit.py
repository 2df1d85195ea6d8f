"""What auditors ask: balances, explanations, and whether a whole log is sound."""

import asyncio
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from vcap_es.adapters.past.messages import BalancesThen, ConsumeOf, ReasonsOf
from vcap_es.cli.control import DEFAULT, Control, Where, cap_path
from vcap_es.cli.output import Json, print_fields, print_json, print_table
from vcap_es.cli.past import LogFile, opened
from vcap_es.cli.reading import LOG, LogPath, chunks
from vcap_es.errors import InvalidInput, LogDamaged
from vcap_es.events.consume_ids import parse_consume_id
from vcap_es.events.instants import parse_instant
from vcap_es.projections.balances import encode
from vcap_es.projections.replay import evolve
from vcap_es.projections.states.data_centre import Fold
from vcap_es.projections.verification import Verification

Fields = dict[str, Any]

AMOUNTS = (
    *("total", "received", "sent", "available", "withheld", "held"),
    *("spent", "refused", "expired", "unreported"),
)


def balance(
    cap: str,
    *,
    at: Annotated[str | None, Parameter(help="As it was at this RFC 3339 instant.")] = None,
    position: Annotated[int | None, Parameter(help="As it was after this event.")] = None,
    log: LogFile = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Show where the units of a cap are, now or as it was, interval by interval."""
    if log is not None:
        instant = None if at is None else parse_instant(at)
        if instant is not None and position is not None:
            raise InvalidInput("give --at or --position, not both")
        with opened(log) as past:
            found = past.ask(BalancesThen(cap, position, instant))
    else:
        with Control(where) as control:
            found = control.call("GET", cap_path(cap, "balances"), at=at, position=position)
    if json:
        print_json(found)
        return
    columns = ["number", "start", "end", *AMOUNTS]
    if not any(each["withheld"] for each in found["intervals"]):
        columns.remove("withheld")
    print_table(columns, [[each.get(name) for name in columns] for each in found["intervals"]])


def explain(
    cap: str,
    *,
    at: Annotated[str | None, Parameter(help="As it was at this RFC 3339 instant.")] = None,
    id: Annotated[str | None, Parameter(help="The id of a consume.")] = None,  # noqa: A002  # the option's name
    log: LogFile = None,
    where: Where = DEFAULT,
    json: Json = False,
) -> None:
    """Tell where every unit of a cap went, or what became of one consume, event by event."""
    if log is not None:
        found = _explained(log, cap, at, id)
    else:
        with Control(where) as control:
            found = control.call("GET", cap_path(cap, "explain"), at=at, id=id)
    print_json(found) if json else sys.stdout.write(found["text"] + "\n")


def _explained(log: Path, cap: str, at: str | None, consume: str | None) -> Fields:
    """The same from a log file, in which it is as late as its last event."""
    if at is not None and consume is not None:
        raise InvalidInput("give --at or --id, not both")
    if consume is not None and parse_consume_id(consume).cap != cap:
        raise InvalidInput(f"{consume} is a consume of another cap: ask there")
    with opened(log) as past:
        if consume is not None:
            found = past.ask(ConsumeOf(cap, consume))
        else:
            instant = past.last_instant() if at is None else parse_instant(at)
            found = past.ask(ReasonsOf(cap, instant))
    return dict(found)


# ---- the whole log


def verify(*, log: LogPath = LOG, json: Json = False) -> None:
    """Check every link of the chain and every equation of the books. Exit code 1 on a finding."""
    found = asyncio.run(_verified(log))
    flaws = found.flaws()
    result = {
        "log": str(log),
        "events": found.position,
        "link": found.link.hex(),
        "sound": not flaws,
    }
    if json:
        print_json({**result, "findings": flaws})
    else:
        print_fields(result)
        for each in flaws:
            sys.stdout.write(f"position {each.position}: {each.rule}: {each.detail}\n")
    if flaws:
        sys.exit(1)


async def _verified(log: Path) -> Verification:
    verification = Verification()
    try:
        async for chunk in chunks(log, "verifying"):
            verification.feed_links(chunk.stored)
            verification.feed_books(await chunk.read())
            if verification.is_over:
                break
    except LogDamaged as damage:
        verification.broken(str(damage))
    return verification


def rebuild(*, log: LogPath = LOG, json: Json = False) -> None:
    """Fold the whole log from the beginning and print what is true, as a digest of all balances."""
    result = asyncio.run(_rebuilt(log))
    print_json(result) if json else print_fields(result)


async def _rebuilt(log: Path) -> Fields:
    fold, position, began = Fold(), 0, time.monotonic()
    async for chunk in chunks(log, "rebuilding"):
        for event in await chunk.read():
            evolve(fold, event.position, event.fact)
            position = event.position
    seconds = time.monotonic() - began
    return {
        "log": str(log),
        "events": position,
        "caps": len(fold.state.metas),
        "balances": sha256(encode(fold.state)).hexdigest(),
        "seconds": round(seconds, 3),
        "events_per_second": round(position / seconds) if seconds else 0,
    }
