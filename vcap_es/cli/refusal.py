"""The answer no, as the command line tells it."""

from typing import Any

from vcap_es.errors import VcapError


class Refusal(VcapError):
    """The control plane or a server said no; the message begins with the code of what it said."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status, self.problem = status, problem
        detail = problem.get("detail") or problem.get("title") or f"HTTP {status}"
        super().__init__(f"{problem.get('code', 'refused')}: {detail}")

    def about(self, what: str) -> "Refusal":
        """The same, saying that it is about `what`."""
        detail = f"{what}: {self.problem.get('detail')}"
        return Refusal(self.status, {**self.problem, "detail": detail})
