"""`vcap consume`: take units of a cap from a volumecap server, as a client would."""

from typing import Annotated

import httpx2
from cyclopts import Parameter
from cyclopts.validators import Number

from vcap_es.cli.control import (
    DATA,
    TIMEOUT_SECONDS,
    KeyFile,
    Where,
    cap_path,
    checked,
    decoded,
    unreachable,
)
from vcap_es.cli.output import Json, print_fields, print_json
from vcap_es.cli.refusal import Refusal
from vcap_es.events.amounts import MAX_AMOUNT

SERVER = "http://127.0.0.1:7101"


def consume(
    cap: str,
    amount: Annotated[
        int, Parameter(help="How many units.", validator=Number(gte=1, lte=MAX_AMOUNT))
    ] = 1,
    *,
    server: Annotated[
        str, Parameter(env_var="VCAP_SERVER", help="The volumecap server's address.")
    ] = SERVER,
    key_file: KeyFile = None,
    idempotency_key: Annotated[
        str | None, Parameter(help="The same key gives the same answer.")
    ] = None,
    json: Json = False,
) -> None:
    """Take and spend AMOUNT units of a cap. Exit code 1 where it is refused."""
    headers = {
        "Authorization": f"Bearer {Where(key_file=key_file).key(DATA / 'client.key')}",
        "Content-Type": "application/json",
    }
    if idempotency_key is not None:
        headers["Idempotency-Key"] = f'"{idempotency_key}"'
    try:
        response = httpx2.post(
            f"{server}{cap_path(cap, 'consume')}",
            content=f'{{"amount": {amount}}}',
            headers=headers,
            timeout=TIMEOUT_SECONDS,
        )
    except httpx2.TransportError as error:
        raise unreachable(server, error) from error
    try:
        answer = decoded(checked(response))
    except Refusal as refusal:
        if json:
            print_json(refusal.problem)
        raise
    if json:
        print_json(answer)
    else:
        print_fields(answer)
