"""`vcap consume`: take units of a cap from a volumecap server, as a client would."""

import sys
from pathlib import Path
from typing import Annotated

import httpx2
from cyclopts import Parameter

from vcap_es.cli.control import (
    DATA,
    TIMEOUT_SECONDS,
    Refusal,
    Where,
    cap_path,
    checked,
    decoded,
)
from vcap_es.cli.output import Json, print_fields, print_json
from vcap_es.errors import Unreachable

SERVER = "http://127.0.0.1:7101"


def consume(
    cap: str,
    amount: int = 1,
    *,
    server: Annotated[
        str, Parameter(env_var="VCAP_SERVER", help="The volumecap server's address.")
    ] = SERVER,
    key_file: Annotated[Path | None, Parameter(env_var="VCAP_KEY_FILE")] = None,
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
        raise Unreachable(f"{server} does not answer ({error}): is it running?") from error
    try:
        answer = decoded(checked(response))
    except Refusal as refusal:
        if json:
            print_json(refusal.problem)
        else:
            sys.stderr.write(f"{refusal.problem.get('code', 'refused')}: {refusal}\n")
        sys.exit(1)
    print_json(answer) if json else print_fields(answer)
