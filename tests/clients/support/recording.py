"""A transport that remembers what went over the wire, and under which waiting costs no time.

It is the SDKs' own transport in all else: their default pipelines run on it unchanged. Where an SDK would sleep, between
two polls or before a retry, the simulator's clock moves by that much instead.
"""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from azure.core.pipeline.transport import RequestsTransport


@dataclass
class Exchange:
    """One request and its answer."""

    method: str
    host: str
    path: str
    api_version: str
    sent: Any
    """The request's JSON, or None."""
    status: int
    headers: Any
    received: Any
    """The answer's JSON, or None."""

    def __str__(self):
        return f"{self.method} {self.host}{self.path}?api-version={self.api_version} -> {self.status}"


class Recorder:
    """The exchanges of one test, oldest first."""

    def __init__(self):
        self.exchanges = []

    def on(self, method, end):
        """Exchanges with this method and with a path that ends so, without regard to case."""
        return [e for e in self.exchanges if e.method == method and e.path.lower().endswith(end.lower())]


def _json(raw):
    if isinstance(raw, str):
        raw = raw.encode()
    if not isinstance(raw, bytes) or not raw.strip():
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return None


class RecordingTransport(RequestsTransport):
    """One per client, as the SDKs have it. `recorder` and `wait` are the test's."""

    def __init__(self, recorder, wait):
        super().__init__()
        self._recorder = recorder
        self._wait = wait

    def send(self, request, **kwargs):
        sent = getattr(request, "content", None) or getattr(request, "data", None) or getattr(request, "body", None)
        streamed = kwargs.get("stream") and ".blob." in request.url
        answer = super().send(request, **kwargs)
        url = urlsplit(request.url)
        query = {name.lower(): values for name, values in parse_qs(url.query).items()}
        received = None
        if not streamed and "json" in (answer.headers.get("Content-Type") or ""):
            received = _json(answer.internal_response.content)
        self._recorder.exchanges.append(
            Exchange(
                method=request.method,
                host=url.netloc,
                path=unquote(url.path),
                api_version=(query.get("api-version") or [""])[0],
                sent=_json(sent),
                status=answer.status_code,
                headers=dict(answer.headers),
                received=received,
            )
        )
        return answer

    def sleep(self, duration):
        self._wait(duration)
