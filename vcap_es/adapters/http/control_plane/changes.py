"""How a change is asked of the core, and when it is answered."""

from typing import Literal

import msgspec

from vcap_es.adapters.http.control_plane.routes import (
    ControlCall,
    Query,
)
from vcap_es.adapters.http.problems import not_primary
from vcap_es.adapters.http.request_bodies import parse
from vcap_es.components.decisions.denied import Denied
from vcap_es.components.master.outputs import Elsewhere
from vcap_es.components.meta_handler import OperatorCommand
from vcap_es.components.primary_master.approvals import Approved
from vcap_es.components.primary_master.outputs import Done
from vcap_es.errors import RequestRefused
from vcap_es.events.definitions import definition_from
from vcap_es.events.facts import Definition

Value = bool | int | float | str | list[str] | dict[str, str] | None


_definition = msgspec.json.Decoder(dict[str, Value])

EXAMPLE = {"total": 1000, "interval": "day", "timezone": "Europe/Berlin", "placement": "even"}
"""A definition, as documents show one."""


class Acknowledged(Query, frozen=True, kw_only=True):
    """When a change is answered: when it is durable, or when its place in the order is for ever."""

    ack: Literal["durable", "permanent"] = "durable"


def definition_in(call: ControlCall) -> Definition:
    """The definition that the body of a call has."""
    given = parse(call.body, _definition)
    return definition_from(given, "the definition")


async def submit(call: ControlCall, command: OperatorCommand) -> Done:
    """Do it, durably; raises RequestRefused where the master says no."""
    done = await submit_one(call, command)
    assert isinstance(done, Done), f"{command} needs no second operator"
    return done


async def submit_one(call: ControlCall, command: OperatorCommand) -> Done | Approved:
    """Do it, or approve it where another operator must want it as well."""
    done = await call.node.submit(command, actor=call.client.key, correlation=call.request_id)
    if isinstance(done, Elsewhere):
        raise not_primary(done.leader, done.address)
    if isinstance(done, Denied):
        raise RequestRefused(done.code, done.detail, cap=getattr(command, "cap", None))
    return done
