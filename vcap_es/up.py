"""A whole data centre on one machine, for a first look: `vcap up`.

It founds a cluster where its folder is new, starts each node as a process of its own, waits until
they are ready, prints where they are, and ends them in order: servers first, so that they give back
what they hold. Any node may die, and any one of their folders may be lost: it is started again, and
an empty one joins the others.
"""

import fcntl
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx2

from vcap_es.app import ADMIN_KEY_FILE, LOG_FILE, check_port, found_cluster
from vcap_es.children import Child, end_all
from vcap_es.errors import SettingsError, Unreachable, VcapError
from vcap_es.secret_files import ensure_node_secret, write_secret
from vcap_es.settings import load

HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.05
DEMO_PAUSE_SECONDS = 0.1
SLOTS = (0, 1)
FOUNDER = "master0"
LEADS = "leads epoch"

DEMO_CAPS: dict[str, dict[str, object]] = {
    "demo:impressions": {"total": 10_000, "interval": "hour", "group": "demo"},
    "demo:tokens": {"total": 500_000, "interval": "day", "group": "demo"},
    "demo:coupons": {"total": 100, "interval": "day", "group": "demo"},
}


class LocalDeployment:
    """Two masters and some volumecap servers as child processes."""

    def __init__(self, data: Path, *, servers: int, port: int, demo: bool) -> None:
        """Keep everything in `data`; listen on `port` and the `servers` + 1 ports after it."""
        self._data, self._demo = data, demo
        first, second = port, port + 1 + servers
        self._masters = [f"http://{HOST}:{first}", f"http://{HOST}:{second}"]
        self._servers = [f"http://{HOST}:{port + 1 + index}" for index in range(servers)]
        self._witnesses = 3 if servers >= 3 else 1
        self._ports = range(port, second + 1)
        self._children: list[Child] = []
        self._master_children: list[Child] = []
        self._is_up = self._is_stopping = False

    def run(self) -> None:
        """Run until SIGINT or SIGTERM, or until a node ends."""
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._stop)
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Held as long as this process lives: two would mix up the logs and the ports of the nodes.
        lock = (self._data / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise SettingsError(
                f"{self._data} is in use by another `vcap up`: stop it, or give another --data"
            ) from None
        with lock:
            self._run()

    def _run(self) -> None:
        for port in self._ports:
            check_port(HOST, port)
        try:
            self._start()
            self._is_up = True
            self._welcome()
            self._watch()
        finally:
            self._end()

    def _stop(self, *_: object) -> None:
        self._is_stopping = True

    def _start(self) -> None:
        """Start all nodes at once: whoever lost its folder needs the others' votes."""
        ensure_node_secret(self._data / "node.secret")
        for slot in SLOTS:
            self._write_settings(slot)
        self._found_if_new()
        for slot in SLOTS:
            self._spawn_master(slot)
        for index, url in enumerate(self._servers, 1):
            witness = ["--witness"] if index <= self._witnesses else []
            self._children += [
                self._spawn(
                    "a server",
                    f"server{index}",
                    "server",
                    *("--name", f"s{index}"),
                    *("--data", str(self._data / f"server{index}")),
                    *("--port", url.rpartition(":")[2]),
                    *("--master", self._masters[0], "--master", self._masters[1]),
                    *("--node-secret-file", str(self._data / "node.secret")),
                    *witness,
                )
            ]
        self._leader()
        self._keep_admin_key()
        self._make_client_key()
        for url in (*self._servers, *self._masters):
            self._wait_for(url)
        if self._demo:
            self._define_demo_caps()

    def _found_if_new(self) -> None:
        """A folder in which nothing was ever kept is a new cluster; one that lost all is none."""
        if any((self._data / f"master{slot}" / LOG_FILE).exists() for slot in SLOTS):
            return
        if (self._data / "client.key").exists() or any(self._data.glob("server*/frames")):
            raise SettingsError(
                f"{self._data} has been in use, and no master there has its log any more: restore "
                f"a backup by `vcap restore`, or move {self._data} away to begin anew"
            )
        found_cluster(load(self._data / "master0.toml", {}))

    def _write_settings(self, slot: int) -> None:
        """What a master must know to start the other one, which may be started so itself."""
        settings = self._data.absolute() / "master{slot}.toml"
        command = [sys.executable, "-m", "vcap_es", "run", "secondary", "--config", str(settings)]
        lines = (
            f"node_secret_file = {_quoted(str(self._data.absolute() / 'node.secret'))}",
            "[master]",
            f"slot = {slot}",
            f"directory = {_quoted(str(self._data.absolute() / f'master{slot}'))}",
            f"port = {self._masters[slot].rpartition(':')[2]}",
            f"peers = [{_quoted(self._masters[1 - slot])}]",
            f"secondary_command = [{', '.join(map(_quoted, command))}]",
        )
        path = self._data / f"master{slot}.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _spawn_master(self, slot: int) -> None:
        """The founder has slot 0; whoever of them leads is their own affair."""
        kind = "primary" if slot == 0 else "secondary"
        settings = str(self._data / f"master{slot}.toml")
        self._master_children.append(self._spawn("a master", kind, kind, "--config", settings))

    def _spawn(self, who: str, name: str, kind: str, *arguments: str) -> Child:
        command = [sys.executable, "-m", "vcap_es", "run", kind, *arguments]
        return Child(who, command, self._data / f"{name}.log")

    def _leader(self) -> str:
        """The address of the master that leads, as soon as one does."""
        deadline = time.monotonic() + START_SECONDS
        while not self._is_stopping:
            self._check_children()
            for url in self._masters:
                if self._leads(url):
                    return url
            if time.monotonic() > deadline:
                raise Unreachable(f"no master leads: see the logs in {self._data}")
            time.sleep(POLL_SECONDS)
        return self._masters[0]

    def _leads(self, url: str) -> bool:
        try:
            return f" {LEADS} " in httpx2.get(f"{url}/readyz?verbose", timeout=1.0).text
        except httpx2.TransportError:
            return False  # not listening, or not yet

    def _wait_for(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_stopping:
            self._check_children()
            try:
                if httpx2.get(f"{url}/readyz", timeout=1.0).is_success:
                    return
            except httpx2.TransportError:
                pass  # not listening yet
            if time.monotonic() > deadline:
                raise Unreachable(f"{url} is not ready: see the logs in {self._data}")
            time.sleep(POLL_SECONDS)

    def _check_children(self) -> None:
        """Whoever ends before all is up is an end of all; later, it is news."""
        if self._is_stopping:
            return
        ended = [each for each in self._all if each.has_ended]
        if ended and not self._is_up:
            raise VcapError(ended[0].obituary())
        for child in ended:
            self._tend(child)

    @property
    def _all(self) -> list[Child]:
        return [*self._children, *self._master_children]

    def _tend(self, child: Child) -> None:
        """See to a child that has ended. A master that lives starts the other one itself."""
        if child.is_due:
            child.start()
        elif child.waits:
            return
        elif child in self._master_children and self._has_master:
            if not child.is_told:
                ended = f"a master ended ({child.process.returncode})"
                print(f"{ended}: the other one leads, and starts it again", flush=True)
            child.is_told = True
        else:
            words = child.obituary()
            print(f"{words}: started again in {child.start_later():g} s", flush=True)

    @property
    def _has_master(self) -> bool:
        return any(self._master_at(slot) for slot in SLOTS)

    # ---- keys and demo

    def _admin(self, method: str, path: str, body: object) -> httpx2.Response:
        key = (self._data / FOUNDER / ADMIN_KEY_FILE).read_text(encoding="utf-8").strip()
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.request(method, f"{self._leader()}{path}", json=body, headers=headers)

    def _keep_admin_key(self) -> None:
        """The first master's folder may be lost, and the key of the cluster not with it."""
        own, copy = self._data / FOUNDER / ADMIN_KEY_FILE, self._data / ADMIN_KEY_FILE
        for there, missing in ((own, copy), (copy, own)):
            if there.exists() and not missing.exists():
                write_secret(missing, there.read_text(encoding="utf-8").strip())

    def _make_client_key(self) -> None:
        """A key for the first curl, once."""
        path = self._data / "client.key"
        if not path.exists():
            answer = self._admin("POST", "/v1/keys", {"role": "client", "scopes": ["*"]})
            answer.raise_for_status()
            write_secret(path, answer.json()["secret"])

    def _define_demo_caps(self) -> None:
        for cap, definition in DEMO_CAPS.items():
            self._admin("PUT", f"/v1/caps/{cap}", definition).raise_for_status()

    def _demo_traffic(self) -> Callable[[], None]:
        key = (self._data / "client.key").read_text(encoding="utf-8").strip()
        client = httpx2.Client(headers={"Authorization": f"Bearer {key}"}, timeout=2.0)

        def one() -> None:
            cap = random.choice(list(DEMO_CAPS))  # noqa: S311  # gentle traffic, no secret
            url = random.choice(self._servers)  # noqa: S311  # the same
            with suppress(httpx2.TransportError):  # the next one will do
                client.post(f"{url}/v1/caps/{cap}/consume", json={"amount": 1})

        return one

    # ---- words and waiting

    def _welcome(self) -> None:
        servers = " ".join(self._servers)
        print(
            f"vcap_es is up; everything is in {self._data}/ (Ctrl-C ends it)\n"
            f"\n"
            f"  control plane   {self._masters[0]}        API page {self._masters[0]}/docs\n"
            f"  secondary       {self._masters[1]}        kill either: the other one leads\n"
            f"  servers         {servers}\n"
            f"  admin key       {self._data}/{FOUNDER}/{ADMIN_KEY_FILE}\n"
            f"  client key      {self._data}/client.key",
            flush=True,
        )

    def _watch(self) -> None:
        traffic = self._demo_traffic() if self._demo and not self._is_stopping else None
        while not self._is_stopping:
            self._check_children()
            if traffic is not None:
                traffic()
            time.sleep(DEMO_PAUSE_SECONDS)

    def _end(self) -> None:
        """Servers first: what they give back must find its master."""
        self._is_stopping = True
        end_all([each.process for each in self._children], STOP_SECONDS)
        own = {child.process.pid for child in self._master_children}
        others = {pid for pid in map(self._master_at, SLOTS) if pid} - own
        for pid in others:  # a master that the other one started
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        end_all([each.process for each in self._master_children], STOP_SECONDS)
        for pid in others:
            _await_end(pid)

    def _master_at(self, slot: int) -> int:
        """The process that serves a slot by the lock of its log; 0 where none does."""
        path = self._data / f"master{slot}" / "log.sqlite-lock"
        try:
            with path.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(path.read_text(encoding="ascii").strip() or 0)
        except FileNotFoundError:
            pass
        return 0


def _await_end(pid: int) -> None:
    """Wait until a process that is not our child is gone, and end it where it stays."""
    deadline = time.monotonic() + STOP_SECONDS
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(POLL_SECONDS)
        os.kill(pid, signal.SIGKILL)


def _quoted(text: str) -> str:
    """Text as TOML has it."""
    return json.dumps(text)
