"""A client of OpenAI-compatible chat-completions endpoints that is patient with faults and with rate limits.

A request is tried again, after a wait, when its fault may pass: the statuses of `_PASSING`, a time-out, a broken
connection, a body that is no chat completion. Anything else that the server refuses would be refused again, so it
ends the run (`EndpointError`), except where it refuses one conversation only (`Refused`).

What is left out: streaming, and everything of an answer beside its first choice and its usage.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Self

import msgspec

from mentor_gym.protocol import clean

DEFAULT_KEY_VARIABLE = "OPENAI_API_KEY"
# A chat completion is kilobytes long; what is longer is not read to its end.
MAX_BODY_BYTES = 16_000_000
_CONNECT_S = 10.0
_PASSING = frozenset({408, 409, 425, 429, *range(500, 600)})
# Codes of errors that concern one conversation, not the run.
_REFUSALS = frozenset({"context_length_exceeded", "content_filter"})
# A status that usually passes, with a code that says it will not.
_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
# What the client itself writes into a request.
_OWN_FIELDS = ("model", "messages", "tools", "stream", "n")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class EndpointError(ValueError):
    """The endpoint refuses what every request needs (key, model, address); says what it answered."""


class RequestFailed(Exception):
    """A request failed in a way that may pass, as often as it was to be tried; says how, the last time."""


class Refused(Exception):
    """The endpoint refuses this conversation: it is too long, or a filter stopped it."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask for chat completions.

    Attributes:
        base_url: What stands before `/chat/completions`, for example `http://localhost:8000/v1`. A query is kept.
        model: The model's name there.
        temperature: Sampling temperature; None leaves it to the endpoint, as with the next two.
        max_tokens: Tokens of one assistant turn at most.
        seed: Base of the seeds that are sent, one for every try of a task.
        extra_body: Further fields of every request, over those above, for example `{"top_p": 0.9}`.
        api_key_env: The environment variable that holds the key. Without a key there, none is sent, unless another
            variable than the default one is named: then it must be set. The key is written nowhere.
        requests_per_minute: Requests start at least 60 divided by this many seconds apart; None sets no limit.
        retries: How often a request is tried again.
        backoff_s: The wait before the first of these; later ones are each twice as long, and all vary by half.
        max_wait_s: The longest wait, also where a `Retry-After` asks for more.
        timeout_s: Seconds for a whole request, from connecting to the last byte.
    """

    base_url: str
    model: str
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    api_key_env: str = DEFAULT_KEY_VARIABLE
    requests_per_minute: float | None = None
    retries: int = 5
    backoff_s: float = 1.0
    max_wait_s: float = 60.0
    timeout_s: float = 120.0

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model is empty: name a model of the endpoint")
        try:
            _encoder.encode(self.extra_body)
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra_body must be what JSON holds: {error}") from None
        for name in self.extra_body:
            if name in _OWN_FIELDS:
                raise ValueError(f"extra_body cannot set {name!r}, which the recording writes itself")
        if self.requests_per_minute is not None and not self.requests_per_minute > 0:
            raise ValueError(f"requests_per_minute must be more than 0 or None, got {self.requests_per_minute!r}")
        if type(self.retries) is not int or self.retries < 0:
            raise ValueError(f"retries must be a whole number of at least 0, got {self.retries!r}")
        for name in ("backoff_s", "max_wait_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, got {getattr(self, name)!r}")


@dataclass
class Ledger:
    """What the requests of one attempt cost, and what went wrong with them.

    Attributes:
        requests: Requests sent, repeated ones included.
        prompt_tokens: As the endpoint reports them; answers that did not arrive are not in it.
        completion_tokens: The same.
        faults: How often each kind of fault was met.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Reply:
    """The first choice of a chat completion.

    Attributes:
        message: The assistant message, as it came.
        finish_reason: Why it ended, `"length"` for example; None when the endpoint does not say.
    """

    message: dict[str, Any]
    finish_reason: str | None


class _Fault(Exception):
    """A fault that may pass.

    Attributes:
        kind: What it is counted as.
        retry_after: How many seconds the server asks to wait; None when it does not say.
    """

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class _Pacer:
    """Lets requests start one interval apart, and none before a moment that the server has named."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = 0.0

    async def wait(self) -> None:
        now = time.monotonic()
        start = max(now, self._next)
        self._next = start + self._interval
        if start > now:
            await asyncio.sleep(start - now)

    def hold(self, seconds: float) -> None:
        self._next = max(self._next, time.monotonic() + seconds)


class ChatClient:
    """Asks an endpoint for chat completions; to be used with `async with`, in one event loop.

    Raises:
        ValueError: httpx2 is missing, the address is no HTTP address, or the variable holds no usable key.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        if importlib.util.find_spec("httpx2") is None:
            raise ValueError("recording needs httpx2, which is not installed: pip install 'mentor-gym[record]'")
        import httpx2

        self.endpoint = endpoint
        self._http = httpx2
        try:
            url = httpx2.URL(endpoint.base_url)
        except httpx2.InvalidURL as error:
            raise ValueError(f"base_url is no address: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("base_url must begin with http:// or https:// and name a host")
        path = url.path.rstrip("/")
        self._url = url.copy_with(
            path=path if path.endswith("/chat/completions") else f"{path}/chat/completions", fragment=None
        )
        #: The address without user, password and query, each of which may be a secret.
        self.public_url = str(url.copy_with(username=None, password=None, query=None, fragment=None)).rstrip("/")
        self._key = _read_key(endpoint.api_key_env)
        if self._key and url.userinfo:
            raise ValueError(
                f"base_url names a user and {endpoint.api_key_env} holds a key: requests show only one of them"
            )
        interval = 60 / endpoint.requests_per_minute if endpoint.requests_per_minute else 0.0
        self._pacer = _Pacer(interval)
        self._client: Any = None

    async def __aenter__(self) -> Self:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        timeout = self._http.Timeout(
            self.endpoint.timeout_s, connect=min(_CONNECT_S, self.endpoint.timeout_s), pool=None
        )
        limits = self._http.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=30.0)
        self._client = self._http.AsyncClient(headers=headers, timeout=timeout, limits=limits)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.aclose()

    async def complete(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
        seed: int | None,
        rng: random.Random,
        ledger: Ledger,
    ) -> Reply:
        """Ask for the next assistant message.

        Args:
            messages: The conversation so far, in OpenAI form.
            tools: OpenAI function schemas of the tools on offer; may be empty.
            seed: What to send as the seed; None sends none.
            rng: Where the waits take their variation from.
            ledger: Where requests, tokens and faults are counted.

        Raises:
            EndpointError: No request can succeed.
            Refused: The endpoint does not take this conversation.
            RequestFailed: The request failed as often as it was to be tried.
        """
        settings = self.endpoint
        given: dict[str, Any] = {
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "seed": seed,
        }
        body: dict[str, Any] = {"model": settings.model, "messages": list(messages)}
        if tools:
            body["tools"] = list(tools)
        body |= {name: value for name, value in given.items() if value is not None}
        content = _encoder.encode({**body, **settings.extra_body})
        for repetition in range(settings.retries + 1):
            await self._pacer.wait()
            ledger.requests += 1
            try:
                return self._read(await self._post(content), ledger)
            except _Fault as fault:
                ledger.faults[fault.kind] += 1
                if repetition == settings.retries:
                    tries = f"{settings.retries + 1} times" if settings.retries else "once"
                    raise RequestFailed(f"tried {tries}, the last time: {fault}") from None
                wait = min(settings.backoff_s * 2**repetition, settings.max_wait_s) * rng.uniform(0.5, 1.0)
                if fault.retry_after is not None:
                    wait = min(max(wait, fault.retry_after), settings.max_wait_s)
                    # The server speaks of this client's key, not of one request.
                    self._pacer.hold(wait)
                await asyncio.sleep(wait)
        raise AssertionError("unreachable: the last repetition returns or raises")

    async def _post(self, content: bytes) -> bytes:
        """Send one request and return the body of its answer."""
        http = self._http
        try:
            # The time-outs of the HTTP library are those of single reads: a body that trickles would never end.
            async with (
                asyncio.timeout(self.endpoint.timeout_s),
                self._client.stream("POST", self._url, content=content) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise _Fault("malformed_body", f"the answer is longer than {MAX_BODY_BYTES:,} bytes")
        except (TimeoutError, http.TimeoutException):
            raise _Fault("timeout", f"no answer within {self.endpoint.timeout_s:g} s") from None
        except http.DecodingError:
            raise _Fault("malformed_body", "the answer's encoding is broken") from None
        except http.UnsupportedProtocol as error:
            raise EndpointError(f"the endpoint cannot be asked: {self._hide(str(error))}") from None
        except http.TransportError as error:
            raise _Fault("connection", self._hide(f"{type(error).__name__}: {error}".rstrip(": "))) from None
        if response.status_code != 200:
            self._refuse(response.status_code, bytes(body), response.headers)
        return bytes(body)

    def _refuse(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Raise what a status other than 200 means."""
        message, code = _error_of(body)
        if 300 <= status < 400 and "location" in headers:
            message = f"moved to {self._public(headers['location'])}"
        message = self._hide(f"HTTP {status}{': ' if message else ''}{message}")
        if code in _REFUSALS:
            raise Refused(message)
        if status in _PASSING and code not in _SPENT:
            raise _Fault(f"http_{status}", message, _retry_after(headers))
        raise EndpointError(f"the endpoint refuses requests with {message}")

    def _read(self, body: bytes, ledger: Ledger) -> Reply:
        try:
            answer = _decoder.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise _Fault("malformed_body", "the answer is not JSON") from None
        if not isinstance(answer, dict):
            raise _Fault("malformed_body", "the answer is not a JSON object")
        usage = answer.get("usage")
        if isinstance(usage, dict):
            ledger.prompt_tokens += _count(usage.get("prompt_tokens"))
            ledger.completion_tokens += _count(usage.get("completion_tokens"))
        choices = answer.get("choices")
        if not choices and answer.get("error"):
            # Some gateways report an error of the server behind them so.
            said, code = _error_of(body)
            if code in _REFUSALS:
                raise Refused(self._hide(said))
            raise _Fault("error_body", self._hide(said or "an error without a message"))
        if not isinstance(choices, list) or not choices:
            raise _Fault("no_choices", "the answer holds no choices")
        choice = choices[0]
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict) or not isinstance(message.get("tool_calls") or [], list):
            raise _Fault("malformed_body", "the answer's choice holds no message")
        reason = choice.get("finish_reason")
        return Reply(message, reason if isinstance(reason, str) else None)

    def _public(self, location: str) -> str:
        """Write where a redirection points, without what may be a secret."""
        try:
            url = self._url.join(location)
        except self._http.InvalidURL:
            return "what is no address"
        return str(url.copy_with(username=None, password=None, query=None, fragment=None))

    def _hide(self, text: str) -> str:
        """Make a text of the server's one short line, without the key that it may quote."""
        # First, so that no cut leaves a part of it.
        for secret in filter(None, (self._key, self._url.password)):
            text = text.replace(secret, "***")
        return " ".join(clean(text).split())[:300]


def _read_key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key and variable != DEFAULT_KEY_VARIABLE:
        raise ValueError(f"the environment variable {variable} holds no API key")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(f"the environment variable {variable} holds no API key: it has blanks or odd characters")
    return key


def _error_of(body: bytes) -> tuple[str, str]:
    """Return the message and the code of an error's body; of one that is not JSON, the text."""
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return body.decode("utf-8", "replace"), ""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(error, dict):
        return str(error), ""
    message = error.get("message") or error.get("detail") or ""
    code = error.get("code") or error.get("type") or ""
    return str(message), code if isinstance(code, str) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3), and the finer `retry-after-ms`."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        else:
            value = headers.get("retry-after", "")
            try:
                seconds = float(value)
            except ValueError:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    # Neither NaN nor a moment that has passed.
    return seconds if seconds > 0 else None


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
