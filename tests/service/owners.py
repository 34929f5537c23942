"""A user who is logged in and asks over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi.testclient import TestClient
from tests.service.conftest import sign_up

Plain = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """A user who is logged in, and asks."""

    client: TestClient
    headers: dict[str, str]
    user_id: str

    def ask(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        headers = {**self.headers, **more.pop("headers", {})}
        answer = self.client.request(method, path, headers=headers, **more)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def get(self, path: str, status: int = 200, **more: Any) -> Any:
        return self.ask("GET", path, status, **more)

    def post(self, path: str, body: Plain | None, status: int = 200, **more: Any) -> Any:
        return self.ask("POST", path, status, json=body, **more)

    def submit(self, asset_id: str, **more: Any) -> Any:
        asked = {"preset": "stream", **more} if "outputs" not in more else more
        return self.post("/v1/jobs", {"asset_id": asset_id, **asked}, 202)


def owner_of(client: TestClient, email: str = "ada@example.org") -> Owner:
    signed = sign_up(client, email)
    me = client.get("/v1/users/me", headers=signed["headers"]).json()
    return Owner(client, signed["headers"], me["id"])
