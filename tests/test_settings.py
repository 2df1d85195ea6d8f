"""Settings: a file, then the environment, then what was given."""

from pathlib import Path

import pytest

from vcap_es.errors import SettingsError
from vcap_es.settings import Settings, load, read_secret


def test_keys_are_kept_for_ten_minutes_at_least() -> None:
    """A shorter retention time is refused by name: who repeats a call would do it twice."""
    name = "VCAP__SERVER__LIMITS__KEY_RETENTION_MS"
    assert load(None, {name: "600000"}).server.limits.key_retention_ms == 600_000
    with pytest.raises(SettingsError, match="key_retention_ms"):
        load(None, {name: "599999"})


def test_without_anything_there_are_defaults() -> None:
    """Every setting has one."""
    assert load(None, {}) == Settings()


def test_the_file_yields_to_the_environment_and_that_to_what_is_given(tmp_path: Path) -> None:
    """The nearer to the one who starts it, the stronger."""
    # Given
    file = tmp_path / "vcap.toml"
    file.write_text(
        'data_centre = "ffm"\n[master]\nport = 1\nname = "file"\n[server.limits]\nmax_wait_ms = 7\n'
    )
    environment = {"VCAP__MASTER__PORT": "2", "VCAP__LOG_LEVEL": "debug", "VCAP_URL": "unused"}
    # When
    settings = load(file, environment, {"master.port": 3, "master.name": None})
    # Then
    assert settings.master.port == 3
    assert settings.master.name == "file"
    assert settings.data_centre == "ffm"
    assert settings.log_level == "debug"
    assert settings.server.limits.max_wait_ms == 7
    assert load(file, environment).master.port == 2
    assert load(file, {}).master.port == 1


def test_a_server_that_joins_needs_to_know_no_master(tmp_path: Path) -> None:
    """Told neither a master nor a node to ask, it looks for one on its own machine."""
    file = tmp_path / "vcap.toml"
    assert load(None, {}).server.masters == ["http://127.0.0.1:7100"]
    file.write_text('[server]\njoin = ["http://h:7101"]\n')
    assert (load(file, {}).server.masters, load(file, {}).server.join) == ([], ["http://h:7101"])
    two = {"VCAP__SERVER__MASTERS": '["http://a:1", "http://b:2"]'}
    assert load(None, two).server.masters == ["http://a:1", "http://b:2"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("prot = 1", "prot"),
        ("[master]\nprot = 1", "prot"),
        ("[server.limits]\nmax_wait = 1", "max_wait"),
        ('[master]\nport = "many"', "master.port"),
        ("[master]\nport = 65536", "master.port"),
        ("[master]\nport = -1", "master.port"),
        ('log_level = "loud"', "log_level"),
        ('[server]\nmasters = ["x"]', "server.masters"),
        ('[server]\njoin = ["h:7101"]', "server.join"),
        ("master = 1", "master"),
        ("[master\n", "line 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, word: str) -> None:
    """Unknown, of the wrong type, out of range, or no TOML."""
    file = tmp_path / "vcap.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=word) as raised:
        load(file, {})
    assert str(file) in str(raised.value)


def test_a_value_in_the_place_of_a_table_is_told() -> None:
    """From the environment too."""
    with pytest.raises(SettingsError, match="master"):
        load(None, {"VCAP__MASTER": "x", "VCAP__MASTER__PORT": "1"})


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load(tmp_path / "none.toml", {})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """And the message says how to mend it, but not the secret."""
    file = tmp_path / "secret"
    file.write_text("s" * 64)
    file.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600") as raised:
        read_secret(file)
    assert "s" * 64 not in str(raised.value)


def test_a_secret_is_read_and_stripped(tmp_path: Path) -> None:
    """Its owner's, and of at least 32 characters."""
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text("0" * 32 + "\n")
    assert read_secret(file) == "0" * 32
    file.write_text("0" * 31)
    with pytest.raises(SettingsError, match="32"):
        read_secret(file)
    file.write_bytes(b"\xff" * 64)
    with pytest.raises(SettingsError, match="secret"):
        read_secret(file)


def test_a_master_is_called_and_kept_by_its_slot() -> None:
    """Two masters on one machine have two names and two directories without being told."""
    first, second = load(None, {}).master, load(None, {}, slot=1).master
    assert (first.name, first.directory) == ("m0", "vcap-data/master0")
    assert (second.name, second.directory) == ("m1", "vcap-data/master1")
    assert load(None, {"VCAP__MASTER__SLOT": "0"}, slot=1).master == first
    assert load(None, {}, {"master.slot": 0}, slot=1).master == first
    assert load(None, {}, {"master.name": "a", "master.directory": "b"}).master.name == "a"


@pytest.mark.parametrize("url", ["http://h:65536", "http://h:x", "http://[::1", "http://", "h:1"])
def test_an_address_that_nobody_can_dial_is_named(url: str) -> None:
    """Others would be told of it, and would try."""
    with pytest.raises(SettingsError, match="address"):
        load(None, {}, {"master.address": url})
    for good in ("http://h:65535", "https://[::1]:7100", "http://10.0.0.2", "http://a-b.c_d:0"):
        assert load(None, {}, {"master.address": good}).master.address == good


def test_a_list_in_the_environment_is_json() -> None:
    """And what only begins like one is named."""
    found = load(None, {"VCAP__MASTER__PEERS": '["http://a:1", "http://b:2"]'}).master.peers
    assert found == ["http://a:1", "http://b:2"]
    for text in ("[http://a:1]", "http://a:1", '["a:1"]'):
        with pytest.raises(SettingsError, match=r"(?i)peers"):
            load(None, {"VCAP__MASTER__PEERS": text})
