"""`python -m vcap_es.sim.mutations`: hunt all planted bugs; fails if one comes through."""

import sys

from vcap_es.sim.mutations import primacy, transfers
from vcap_es.sim.mutations.gate import pass_gate
from vcap_es.sim.mutations.readmissions import READMISSIONS
from vcap_es.sim.mutations.restores import RESTORES
from vcap_es.sim.mutations.slices import SLICES

CATALOGUES = {
    "slices": SLICES,
    "primacy": primacy.MUTATIONS,
    "transfers": transfers.MUTATIONS,
    "restores": RESTORES,
    "readmissions": READMISSIONS,
}


def main(names: list[str]) -> int:
    """Hunt the bugs of these catalogues, of all where none is named; 1 if one came through."""
    unknown = [each for each in names if each not in CATALOGUES]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(CATALOGUES)}", file=sys.stderr)
        return 2
    mutations = [each for name in names or CATALOGUES for each in CATALOGUES[name]]
    through = pass_gate(mutations, lambda line: print(line, flush=True))
    print(f"{len(mutations) - len(through)} of {len(mutations)} planted bugs found")
    return 1 if through else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
