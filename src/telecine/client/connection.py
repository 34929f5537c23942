"""One connection to a service: who asks, what is asked again, and what went wrong.

A request that may be carried out twice, or that carries an Idempotency-Key, is asked again when the
connection breaks or the service is out of order (502, 503, 504, 500), and when the service says
to come back (429). An access token that has expired is renewed once, without the caller noticing.

What removes something may have done so before its answer was lost: that it is gone, when asked
again, is then the answer that was wanted.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2

from telecine.client.errors import ApiError, ConnectionFailed, UnexpectedAnswer
from telecine.client.tokens import TokenKeeper, Tokens

TRIES = 6
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
IN_FLIGHT_S = 90.0  # longer than the service takes to find out that a first try died half-way
TIMEOUT = httpx2.Timeout(60.0, connect=10.0)

# What the service may answer while it is started anew, or while a first try of the same
# Idempotency-Key still runs.
_PASSING = frozenset({500, 502, 503, 504})
_IN_FLIGHT = "idempotency_in_flight"


def pause_s(failures: int, asked_s: float | None = None) -> float:
    """How long to wait after so many failures in a row: twice as long each time, up to a quarter
    less by chance, so that many clients do not come back at once; at least as long as was asked."""
    longest = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE_S)
    by_chance = longest * (0.75 + 0.25 * secrets.randbelow(1000) / 1000)
    return max(by_chance, asked_s or 0.0)


def origin(url: str) -> str:
    """The URL of a service, which has no path. Raises `ValueError`, with what is wrong with it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is no address such as http://127.0.0.1:8000")
    if parts.username is not None:
        raise ValueError("leave the password out of the address")
    if parts.path.rstrip("/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r}: an address ends with its host and port, without a path")
    return f"{parts.scheme}://{parts.netloc}"


def passes(error: Exception) -> bool:
    """Whether the same request may go better in a while."""
    if isinstance(error, ApiError):
        soon = error.retry_after_s is None or error.retry_after_s <= LONGEST_PAUSE_S
        return soon and (error.status in _PASSING | {429} or error.code == _IN_FLIGHT)
    return isinstance(error, ConnectionFailed)


class Connection:
    """Requests to one service. Safe to use from many threads.

    `sleep` is how it waits between tries. Raises `ValueError` for a URL that is none of a service.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        keeper: TokenKeeper,
        transport: httpx2.BaseTransport | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = origin(url)
        self.keeper = keeper
        self.sleep = sleep
        self._api_key = api_key
        # The library reads no environment; who needs a proxy or a CA gives a transport.
        self._http = httpx2.Client(
            headers={"User-Agent": f"telecine-client/{version('telecine')}"},
            timeout=TIMEOUT,
            transport=transport,
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    # --- asking

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON answer to a GET."""
        return self._json(self._again("GET", path, params=params))

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, sign: bool = True) -> Any:
        """The JSON answer to a POST, which carries a key of its own: however often it is asked, it
        happens once. `sign=False`: without saying who asks."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        answer = self._again("POST", path, json=body or {}, headers=headers, sign=sign)
        return self._json(answer)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._json(self._again("PATCH", path, json=body))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer to a PUT, which is asked once: what it says may hold but the first time,
        as a password that it changes."""
        with self.once("PUT", path, json=body) as response:
            return self._json(self._read(response))

    def delete(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        gone: Collection[int] = (httpx2.codes.NOT_FOUND,),
    ) -> None:
        """DELETE. `gone`: what the service answers to who asks for it a second time."""
        lost: list[Exception] = []
        try:
            self._again("DELETE", path, lost=lost, json=body)
        except ApiError as error:
            if not lost or error.status not in gone:
                raise

    def _again(
        self,
        method: str,
        path: str,
        *,
        sign: bool = True,
        lost: list[Exception] | None = None,
        **how: Any,
    ) -> httpx2.Response:
        """Asked until it is answered. `lost` hears of tries that may have been carried out."""
        failures, waits, waited_s = 0, 0, 0.0
        while True:
            try:
                with self.once(method, path, sign=sign, **how) as response:
                    return self._read(response)
            except (ApiError, ConnectionFailed) as error:
                in_flight = isinstance(error, ApiError) and error.code == _IN_FLIGHT
                if not in_flight or waited_s >= IN_FLIGHT_S:
                    failures += 1
                if failures >= TRIES or not passes(error):
                    raise
                answered = isinstance(error, ApiError) and error.status not in _PASSING
                if lost is not None and not answered:
                    lost.append(error)
                waits += 1
                pause = pause_s(waits, getattr(error, "retry_after_s", None))
                waited_s += pause if in_flight else 0.0
                self.sleep(pause)

    @contextmanager
    def once(
        self,
        method: str,
        path: str,
        *,
        sign: bool = True,
        renewed: Callable[[], Mapping[str, Any]] | None = None,
        **how: Any,
    ) -> Iterator[httpx2.Response]:
        """One request; its answer with the body still to be read.

        An access token that the service no longer takes is renewed and the request sent again,
        once; `renewed` makes anew what the first sending used up (a body that streams). Raises
        `ApiError`, `ConnectionFailed`.
        """
        tokens = self.keeper.current() if sign and self._api_key is None else None
        response = self._send(method, path, self._authorization(tokens) if sign else {}, how)
        if response.status_code == 401 and tokens is not None:
            self._closing(response)
            fresh = self.keeper.renew(tokens.access, self._exchange)
            how = {**how, **(renewed() if renewed is not None else {})}
            response = self._send(method, path, self._authorization(fresh), how)
        try:
            if response.status_code >= 400:
                raise api_error(self._read(response))
            yield response
        except httpx2.TransportError as error:
            raise self._lost(error) from error
        finally:
            self._closing(response)

    def _send(
        self, method: str, path: str, authorization: Mapping[str, str], how: Mapping[str, Any]
    ) -> httpx2.Response:
        url = self.absolute(path)
        headers = {**how.get("headers", {}), **(authorization if self._ours(url) else {})}
        request = self._http.build_request(method, url, **{**how, "headers": headers})
        try:
            return self._http.send(request, stream=True)
        except httpx2.TransportError as error:
            raise self._lost(error) from error

    def absolute(self, path: str) -> str:
        """The URL of a path of this service; a whole URL stays."""
        return urljoin(self.url + "/", path)

    def _ours(self, url: str) -> bool:
        """Tokens and keys go to the service that gave them, wherever its answers point."""
        asked, own = urlsplit(url), urlsplit(self.url)
        return (asked.scheme, asked.netloc) == (own.scheme, own.netloc)

    def _authorization(self, tokens: Tokens | None) -> dict[str, str]:
        bearer = self._api_key or (tokens.access if tokens is not None else None)
        return {} if bearer is None else {"Authorization": f"Bearer {bearer}"}

    def _exchange(self, refresh: str) -> Tokens:
        answer = self.post("/v1/sessions/refresh", {"refresh_token": refresh}, sign=False)
        return read_tokens(answer)

    # --- answers

    def _read(self, response: httpx2.Response) -> httpx2.Response:
        try:
            response.read()
        except httpx2.TransportError as error:
            raise self._lost(error) from error
        return response

    def _json(self, response: httpx2.Response) -> Any:
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            text = f"{response.request.url} did not answer in JSON: is it a Telecine service?"
            raise UnexpectedAnswer(text) from None

    def _closing(self, response: httpx2.Response) -> None:
        try:
            response.close()
        except httpx2.TransportError:
            pass  # the answer was read as far as it is wanted

    def _lost(self, error: httpx2.TransportError) -> ConnectionFailed:
        return ConnectionFailed(f"no answer from {self.url}: {error or type(error).__name__}")


def read_tokens(answer: Any) -> Tokens:
    """The pair in the answer to a log-in or a refresh. Raises `UnexpectedAnswer`."""
    try:
        return Tokens(access=answer["access_token"], refresh=answer["refresh_token"])
    except (KeyError, TypeError):
        raise UnexpectedAnswer("the answer holds no tokens") from None


def api_error(response: httpx2.Response) -> ApiError:
    """The error that a problem document (RFC 9457) tells of, or one of the status alone."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    return ApiError(
        response.status_code,
        str(problem.get("code") or f"http_{response.status_code}"),
        str(problem.get("detail") or problem.get("title") or response.reason_phrase),
        problem.get("request_id") or response.headers.get("X-Request-ID"),
        _seconds(response.headers.get("Retry-After")),
    )


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
