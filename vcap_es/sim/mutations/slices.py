"""All planted bugs of the slice protocol: a rule that none of them breaks is not shown."""

from vcap_es.sim.mutations.edits import EDITS
from vcap_es.sim.mutations.slices_clients import CLIENTS
from vcap_es.sim.mutations.slices_master import MASTER
from vcap_es.sim.mutations.slices_server import SERVER

SLICES = (*MASTER, *SERVER, *CLIENTS, *EDITS)
