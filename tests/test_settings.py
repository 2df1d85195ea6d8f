"""Settings: a file, then the environment, then what was given."""

from pathlib import Path

import pytest

from vcap_es.errors import SettingsError
from vcap_es.settings import Settings, load, read_secret


def test_without_anything_there_are_defaults() -> None:
    """Every setting has one."""
    assert load(None, {}) == Settings()


def test_the_file_yields_to_the_environment_and_that_to_what_is_given(tmp_path: Path) -> None:
    """The nearer to the one who starts it, the stronger."""
    # Given
    file = tmp_path / "vcap.toml"
    file.write_text(
        'data_centre = "ffm"\n[primary]\nport = 1\nname = "file"\n'
        "[server.limits]\nmax_wait_ms = 7\n"
    )
    environment = {"VCAP__PRIMARY__PORT": "2", "VCAP__LOG_LEVEL": "debug", "VCAP_URL": "unused"}
    # When
    settings = load(file, environment, {"primary.port": 3, "primary.name": None})
    # Then
    assert settings.primary.port == 3
    assert settings.primary.name == "file"
    assert settings.data_centre == "ffm"
    assert settings.log_level == "debug"
    assert settings.server.limits.max_wait_ms == 7
    assert load(file, environment).primary.port == 2
    assert load(file, {}).primary.port == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("prot = 1", "prot"),
        ("[primary]\nprot = 1", "prot"),
        ("[server.limits]\nmax_wait = 1", "max_wait"),
        ('[primary]\nport = "many"', "primary.port"),
        ("[primary]\nport = 65536", "primary.port"),
        ("[primary]\nport = -1", "primary.port"),
        ('log_level = "loud"', "log_level"),
        ('[server]\nmaster = "http://x"', "server.master"),
        ("primary = 1", "primary"),
        ("[primary\n", "line 1"),
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
    with pytest.raises(SettingsError, match="primary"):
        load(None, {"VCAP__PRIMARY": "x", "VCAP__PRIMARY__PORT": "1"})


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
