"""Problems as documents describe them (RFC 9457)."""

from msgspec import UNSET, Struct, UnsetType


class Problem(Struct, frozen=True, kw_only=True):
    """Why a call was not carried out (RFC 9457); `code` is for programs, `detail` for people.

    `primary` is the address of the master that can carry it out, where that is another one.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    retry: bool
    primary: str | UnsetType = UNSET
