"""A RabbitMQ of our own: Debian's package, its own node name, ports and directory.

It never touches a broker that the machine may run, and needs no root. `python -m compose.broker`
runs one in the foreground.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from compose.packages import Unavailable, unpacked

PACKAGES = (
    "rabbitmq-server",
    *(
        f"erlang-{each}"
        for each in (
            *("base", "asn1", "crypto", "eldap", "ftp", "inets", "mnesia", "os-mon"),
            *("parsetools", "public-key", "runtime-tools", "snmp", "ssl", "syntax-tools"),
            *("tftp", "tools", "xmerl"),
        )
    ),
)
PLUGINS = "[rabbitmq_mqtt]."
START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.1
HOST = "127.0.0.1"
INSTALLED = Path("/usr/lib/rabbitmq")


class Broker:
    """One broker with its data in `directory`, on this machine alone."""

    def __init__(self, directory: Path, *, name: str = "vcap", ports: list[int] | None = None):
        """It listens on four ports, free ones where none are given: AMQP, MQTT, and its own two."""
        self.directory, self.name = directory, name
        self.port, self.mqtt_port, self._distribution, self._mapper = ports or free_ports(4)
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is reached, with the name of its user; the password is `guest` as well."""
        return f"amqp://guest@{HOST}:{self.port}/%2F"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The running broker."""
        assert self._process is not None, "the broker is not running"
        return self._process

    def start(self) -> None:
        """Start it, and wait until it listens; raises Unavailable where it cannot be had."""
        found = _found()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._configure()
        environment = self._environment(found)
        with (self.directory / "output").open("ab") as output:
            if self._epmd is None:
                epmd = next((found / "usr/lib/erlang").glob("erts-*/bin/epmd"), None)
                self._epmd = subprocess.Popen(
                    [str(epmd or "epmd"), "-port", str(self._mapper), "-address", HOST],
                    env=environment,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            server = next((found / "usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"))
            self._process = subprocess.Popen(
                [str(server)],
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._wait()

    def stop(self) -> None:
        """End it in order, and what it needs."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def kill(self) -> None:
        """SIGKILL: what it has on disk stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: it answers nothing, and no connection ends."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.process.pid, signal.SIGCONT)

    def _configure(self) -> None:
        (self.directory / "enabled_plugins").write_text(PLUGINS)
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {HOST}:{self.port}\n"
            f"mqtt.listeners.tcp.1 = {HOST}:{self.mqtt_port}\n"
            "log.file.level = warning\n"
        )

    def _environment(self, found: Path) -> dict[str, str]:
        own = self.directory.absolute()
        kernel = "-kernel inet_dist_use_interface {127,0,0,1}"
        paths = [str(found / "usr/lib/erlang/bin"), os.environ.get("PATH", "")]
        return {
            **os.environ,
            "PATH": os.pathsep.join(paths),
            "HOME": str(own),
            "RABBITMQ_NODENAME": f"{self.name}@localhost",
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_PID_FILE": str(own / "pid"),
            "RUNNING_UNDER_SYSTEMD": "true",  # its script becomes the broker, whom signals reach
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": kernel,
            "ERL_EPMD_PORT": str(self._mapper),
            "ERL_EPMD_ADDRESS": HOST,
        }

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if _speaks_amqp(self.port):
                return
            time.sleep(POLL_SECONDS)
        told = (self.directory / "output").read_text(errors="replace")[-2000:]
        self.stop()
        raise Unavailable(f"RabbitMQ does not start: {told}")


def _speaks_amqp(port: int) -> bool:
    """Whether it answers to the protocol's first word; listening alone is not enough."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1.0) as connection:
        connection.settimeout(2.0)
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        return bool(connection.recv(8))
    return False


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens now."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _found() -> Path:
    """The root under which RabbitMQ and Erlang are: the machine's own, or what is fetched."""
    if INSTALLED.exists() and shutil.which("erl") is not None:
        return Path("/")
    root = unpacked("rabbitmq", PACKAGES)
    _relocate(root)
    return root


def _relocate(root: Path) -> None:
    """Debian's `erl` names where it is installed: let it name where it is."""
    for script in (root / "usr/lib/erlang").glob("**/bin/erl"):
        told, here = script.read_text(), f"ROOTDIR={(root / 'usr/lib/erlang').absolute()}"
        moved = re.sub(r"ROOTDIR=\S*/usr/lib/erlang", here, told)
        if moved != told:
            script.write_text(moved)


def main() -> int:
    """Run one broker in `vcap-data/broker` until SIGINT."""
    broker = Broker(Path("vcap-data/broker"), ports=[7172, 7173, 7174, 7175])
    try:
        broker.start()
        print(f"RabbitMQ is up at {broker.url} (Ctrl-C ends it)", flush=True)
        broker.process.wait()
    except KeyboardInterrupt:
        pass
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        broker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
