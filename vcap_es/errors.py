"""Everything that vcap_es raises, in one tree.

    VcapError
    ├── InvalidAmount       an amount is not an integer of the allowed range
    ├── InvalidDefinition   a definition of a cap cannot be used; says which field and why
    ├── InvalidInput        a file or argument cannot be read; says where and why
    ├── SettingsError       a setting is unknown, missing or of the wrong type
    ├── LogError
    │   ├── EpochRefused    a writer of an older epoch tried to append
    │   ├── OutcomeUnknown  a COMMIT failed: the batch may or may not be there
    │   ├── DiskFull        there is no room: nothing was recorded, it may be tried again
    │   ├── LogDamaged      what is stored is not what was written
    │   ├── UnknownFact     the log holds a fact that this version cannot read
    │   ├── InvalidFact     a fact holds a value that its schema does not allow
    │   ├── PrefixLost      two masters differ in an event that was acknowledged
    │   ├── CopyUnsound     a master's copy of the log may lack what was acknowledged
    │   ├── ClusterMixed    the files of two clusters are in one directory
    │   ├── ClockBehind     the clock of a machine is far behind the log that it has
    │   ├── BallotDamaged   a voter's ballot is not what was written
    │   ├── BallotLocked    another process has the ballot
    │   ├── LogLocked       another process has the log open for writing
    │   └── LogClosed       the log was closed
    ├── BackupUnusable      a backup is not what was written, or of something else
    ├── ProjectionStopped   a fact could not be folded; the projection stands still, loudly
    ├── JournalError
    │   └── JournalDamaged  a server's journal is not what was written
    ├── ServerMoves         a server moves to the cluster that was restored from its own
    ├── SuspectServer       a volumecap server tells what cannot be true
    ├── LetterRefused       what came from another data centre cannot be opened; says why
    ├── BrokerLost          there is no connection to a broker; says which and what to do
    ├── RequestRefused      a request over HTTP cannot be carried out; has the problem's code
    └── Unreachable         a node did not answer

A refusal (`capped`, `paced`, ...) is a result, not an error.
"""

from collections.abc import Callable


class VcapError(Exception):
    """Anything that vcap_es itself raises."""


class InvalidAmount(VcapError, ValueError):
    """An amount is not an integer of the allowed range."""


class InvalidDefinition(VcapError, ValueError):
    """A definition of a cap cannot be used; the message names the field and what to do."""


class InvalidInput(VcapError, ValueError):
    """A file or argument cannot be read; the message names the place and what to do."""


class SettingsError(VcapError, ValueError):
    """A setting is unknown, missing or of the wrong type."""


class LogError(VcapError):
    """The log cannot do what was asked."""


class EpochRefused(LogError):
    """A writer of an older epoch tried to append; it is not the primary any more."""


class OutcomeUnknown(LogError):
    """A COMMIT failed: the batch may or may not be there. Stop, replay, retry with the same ids."""


class DiskFull(LogError):
    """There is no room for the batch: nothing of it was recorded, and it may be tried again."""


class LogDamaged(LogError):
    """What is stored is not what was written."""


class UnknownFact(LogError):
    """The log holds a fact that this version cannot read: upgrade before going on."""


class InvalidFact(LogError, ValueError):
    """A fact holds a value that its schema does not allow; nothing was written."""


class PrefixLost(LogError):
    """Two masters differ in an event that was acknowledged: stop both, and let people look."""


class CopyUnsound(LogError):
    """A master's copy may lack what was acknowledged: set it aside, and copy the log anew.

    `cluster` is the one that it belongs to: the new copy joins that one alone.
    """

    def __init__(self, reason: str, cluster: str) -> None:
        super().__init__(reason)
        self.cluster = cluster


class ClusterMixed(LogError):
    """A log and a ballot of two clusters are in one directory; the message names both."""


class ClockBehind(LogError):
    """The clock of a machine is far behind the last stamp of the log that it has."""


class BallotDamaged(LogError):
    """A voter's ballot is not what was written: who forgot its promises must not vote."""


class BallotLocked(LogError):
    """Another process has the ballot: one store serves one process."""


class LogLocked(LogError):
    """Another process has the log open for writing; the message names its files."""


class LogClosed(LogError):
    """The log was closed before it was used."""


class BackupUnusable(VcapError):
    """A backup is not what was written, or is of something else; nothing was restored."""


class ProjectionStopped(VcapError):
    """A fact could not be folded; the projection stands still at the position before it."""


class JournalError(VcapError):
    """The journal of a volumecap server cannot do what was asked."""


class JournalDamaged(JournalError):
    """The journal is not what was written: this incarnation must not go on."""


class ServerMoves(VcapError):
    """A server moves to the cluster that was restored from its own; `move` makes that durable.

    It starts again then: epochs that it heard of and promises that it gave are of the one before.
    """

    def __init__(self, detail: str, move: Callable[[], None]) -> None:
        super().__init__(detail)
        self.move = move


class SuspectServer(VcapError):
    """A volumecap server tells what cannot be true; it is not listened to."""


class LetterRefused(VcapError):
    """What came as a letter of another data centre is not listened to; `reason` is one of a few."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class BrokerLost(VcapError):
    """A broker cannot be used (any more); the message names it, and says what to do."""


class RequestRefused(VcapError):
    """A request over HTTP cannot be carried out; `code` is that of the problem that answers it.

    `primary` is the address of the node that can, where another one is known to.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        cap: str | None = None,
        retry_after_ms: int | None = None,
        primary: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.cap = cap
        self.retry_after_ms = retry_after_ms
        self.primary = primary


class Unreachable(VcapError):
    """A node did not answer; the message names its address."""
