"""A server's links to the masters of its data centre: it serves from the one that leads.

It is linked to all of them all the time, so that the word of a new leader finds it at once. A
witness answers candidates and leaders on the line that they spoke on.
"""

from collections.abc import Callable
from itertools import count

import structlog

from vcap_es.adapters.links.dialler import Dialler
from vcap_es.adapters.links.link import LineRefused, Link, speak
from vcap_es.adapters.links.send_queue import SendQueue
from vcap_es.adapters.stalls import timed
from vcap_es.adapters.storage.ballots import Ballots
from vcap_es.clock import boot_ns
from vcap_es.components.consensus.timings import Timings
from vcap_es.components.consensus.voter import SaveBallot, Voter
from vcap_es.components.messages.encoding import AtServer, decode_at_server
from vcap_es.components.messages.master import (
    Accept,
    FromVoter,
    Greeting,
    Heartbeat,
    Leading,
    Prepare,
    Prevote,
    Promise,
    Refusal,
    ToVoter,
)
from vcap_es.components.messages.server import FromMaster, FromServer, Hello, Readmitted
from vcap_es.components.volumecap_server.belonging import Belonging
from vcap_es.components.volumecap_server.leader_tracker import LeaderTracker
from vcap_es.components.volumecap_server.master_addresses import MasterAddresses

log = structlog.get_logger()


class MasterLinks:
    """Links to every master that is wanted, as far as they are there."""

    def __init__(
        self,
        secret: str,
        *,
        name: str,
        roster: MasterAddresses,
        hello: Callable[[], Hello],
        received: Callable[[FromMaster], None],
        linked: Callable[[], None],
        unlinked: Callable[[], None],
        failed: Callable[[Exception], None],
        belonging: Belonging,
        readmitted: Callable[[Readmitted], None],
        ballots: Ballots | None,
        timings: Timings,
    ) -> None:
        """Say `hello` on each; tell what the leader says, and when there is one and when none.

        By its `belonging`, it speaks to no master of another cluster; `readmitted` is told where
        that one lets it in all the same.

        `failed` is told of an error of our own, such as a ballot that cannot be kept: nothing is
        heard or answered any more then.
        """
        self._name, self._hello = name, hello
        self._received, self._linked, self._unlinked = received, linked, unlinked
        self._failed, self._has_failed = failed, False
        self._belonging, self._ballots = belonging, ballots
        self._readmitted = readmitted
        self._voter = Voter(ballots.ballot, timings, boot_ns()) if ballots is not None else None
        self._numbers = count(1)
        self._links: dict[int, SendQueue] = {}
        self._addresses: dict[int, str] = {}
        self._masters: dict[int, str] = {}
        self._followed = LeaderTracker()
        self._roster = roster
        self._dialler = Dialler(secret, wanted=roster.wanted, serve=self._serve)
        self.switches = 0

    # ---- what is true

    @property
    def is_linked(self) -> bool:
        """Whether a master that leads is linked."""
        return self._followed.line is not None

    @property
    def epoch(self) -> int:
        """The highest epoch that was heard of."""
        return self._followed.epoch

    @property
    def leader(self) -> str:
        """The address of the master that leads, "" where none is linked."""
        return self._addresses.get(self._followed.line or 0, "")

    @property
    def masters(self) -> list[str]:
        """The addresses of all masters that are linked."""
        return sorted(self._addresses.values())

    @property
    def trouble(self) -> str:
        """Why no master could be linked, as it was told last."""
        return "; ".join(f"{at}: {why}" for at, why in self._dialler.troubles.items() if why)

    @property
    def committed(self) -> int:
        """The highest position that is known here, as a witness, to be committed."""
        return self._voter.committed if self._voter is not None else 0

    def post(self, message: FromServer) -> None:
        """Send to the master that leads; without one, nothing is sent."""
        link = self._links.get(self._followed.line or 0)
        if link is not None:
            link.post(message)

    async def run(self) -> None:
        """Keep the links for as long as this runs."""
        await self._dialler.run()

    # ---- one line

    async def _serve(self, line: Link) -> None:
        number, link = next(self._numbers), SendQueue(line.send)
        self._links[number], self._addresses[number] = link, line.address
        link.post(self._hello())
        try:
            await speak(line, link, lambda data: self._let_hear(number, decode_at_server(data)))
        finally:
            self._gone(number)

    def _gone(self, number: int) -> None:
        del self._links[number]
        address = self._addresses.pop(number)
        self._roster.unlinked(address)
        master = self._masters.pop(number, "")
        if self._voter is not None and master and master not in self._masters.values():
            self._voter.lost(master)
        if self._followed.gone(number):
            log.info("link lost", server=self._name, master=address)
            self._unlinked()

    def _let_hear(self, number: int, message: AtServer) -> None:
        """An error of our own is none of the line: it must not end in dialling once more."""
        if self._has_failed:
            return
        try:
            self._hear(number, message)
        except LineRefused:
            raise
        except Exception as error:  # noqa: BLE001  # what is true here nobody knows any more
            self._has_failed = True
            self._failed(error)

    def _hear(self, number: int, message: AtServer) -> None:
        match message:
            case Greeting():
                self._check_cluster(message.cluster)
                self._masters[number] = message.node
                self._roster.linked(self._addresses[number], message.node)
            case Leading():
                self._check_cluster(message.cluster)
                self._belonging.join(message.cluster)
                self._roster.linked(self._addresses[number], message.node)
                self._lead(number, message.epoch)
            case Readmitted():
                obstacle = self._belonging.obstacle_to_moving(message, self._hello().incarnation)
                if obstacle:
                    raise LineRefused(obstacle)
                self._readmitted(message)
            case Prevote() | Prepare() | Accept() | Heartbeat():
                self._vote(number, message)
            case _:
                self._lead(number, message.epoch)
                if number == self._followed.line:
                    self._received(message)

    def _check_cluster(self, theirs: str) -> None:
        obstacle = self._belonging.obstacle(theirs)
        if obstacle:
            raise LineRefused(obstacle)

    def _lead(self, number: int, epoch: int) -> None:
        """A master leads, or speaks as one that does: serve from it, if nobody does since."""
        had_one = self._followed.line is not None
        if not self._followed.leads(number, epoch):
            return
        self.switches += 1
        log.info("linked", server=self._name, master=self._addresses[number], epoch=epoch)
        if had_one:
            self._unlinked()
        self._linked()

    def _vote(self, number: int, message: ToVoter) -> None:
        """Answer as a witness; who is none has no vote, and says nothing."""
        if self._voter is None or self._ballots is None or number not in self._masters:
            return
        for output in self._voter.heard(self._masters[number], message, boot_ns()):
            if isinstance(output, SaveBallot):
                # It is rare, and the answer must not leave before: waiting here is simplest.
                with timed("ballot", epoch=output.ballot.promised):
                    self._ballots.keep(output.ballot)
            else:
                self._links[number].post(output)
                self._tell_vote(self._masters[number], output)

    def _tell_vote(self, master: str, answer: FromVoter) -> None:
        if isinstance(answer, Promise | Refusal):
            kind = type(answer).__name__.lower()
            log.debug(kind, server=self._name, to=master, epoch=answer.epoch)
