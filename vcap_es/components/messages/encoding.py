"""How messages between nodes are written: MessagePack, each with the name of its kind."""

from msgspec import msgpack

from vcap_es.components.messages.centre import BetweenCentres
from vcap_es.components.messages.master import (
    BetweenMasters,
    Greeting,
    Leading,
    ToVoter,
)
from vcap_es.components.messages.order import InOrder
from vcap_es.components.messages.server import FromMaster, FromServer, Readmitted

AtMaster = FromServer | BetweenMasters
"""What a master may hear, from servers, witnesses and the other master."""

AtServer = FromMaster | Readmitted | Greeting | Leading | ToVoter
"""What a server may hear from a master; a witness is greeted before it is asked for anything."""

encode = msgpack.Encoder().encode
decode_at_master = msgpack.Decoder(AtMaster).decode
decode_at_server = msgpack.Decoder(AtServer).decode
InLetters = BetweenCentres | InOrder
"""What data centres tell each other."""

decode_between_centres = msgpack.Decoder(InLetters).decode
