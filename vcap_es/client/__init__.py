"""For programs that consume: clients of volumecap servers, and one inside the caller's process.

    with VolumecapClient(["http://10.0.0.5:7101"], api_key=key) as caps:
        answer = caps.consume("campaign:4711", 3)
        if isinstance(answer, Consumed):
            serve()

A refusal is an answer, not an exception. `AsyncVolumecapClient` has the same methods to be awaited;
`EmbeddedVolumecap` answers from memory, in less than a microsecond.
"""

from vcap_es.client.embedded import EmbeddedVolumecap
from vcap_es.client.http import AsyncVolumecapClient, VolumecapClient
from vcap_es.components.messages.outcomes import (
    Consumed,
    ConsumedAll,
    ConsumedEach,
    Held,
    Level,
    Refunded,
    Refused,
    Settled,
)

__all__ = [
    "AsyncVolumecapClient",
    "Consumed",
    "ConsumedAll",
    "ConsumedEach",
    "EmbeddedVolumecap",
    "Held",
    "Level",
    "Refunded",
    "Refused",
    "Settled",
    "VolumecapClient",
]
