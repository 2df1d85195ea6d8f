from importlib.metadata import version

import pytest

from vcap_es.errors import InvalidDefinition
from vcap_es.events.zones import check_timezone, tzdata_version, zone, zone_names


def test_every_zone_of_the_database_loads() -> None:
    """Each name that a cap may use has its data in the package."""
    assert len(zone_names()) > 500
    for name in zone_names():
        assert zone(name).key == name


def test_the_version_is_that_of_the_package() -> None:
    """The release letter stands for the package's number: 2026.6 is 2026f."""
    year, number = version("tzdata").split(".")[:2]
    assert tzdata_version() == f"{year}{'_abcdefghijklmnopqrstuvwxyz'[int(number)]}"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("New York", "America/New_York"),
        ("utc", "UTC"),
    ],
)
def test_a_misspelt_zone_is_refused_with_a_hint(wrong: str, meant: str) -> None:
    """A name that is nearly right is refused, and the message offers the right one."""
    with pytest.raises(InvalidDefinition, match=f"did you mean .*{meant}"):
        check_timezone(wrong)


@pytest.mark.parametrize("wrong", ["", "../zones", "Europe", "/etc/passwd", "x" * 10_000, 1, None])
def test_what_is_no_zone_is_refused(wrong: object) -> None:
    """Paths, folders, empty and giant names and other types are no zones."""
    with pytest.raises(InvalidDefinition, match="not a time zone"):
        check_timezone(wrong)
