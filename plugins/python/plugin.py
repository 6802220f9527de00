"""A task in Python: fetches a page. World `http-task` of the package in wit/.

The host connects only where it was granted: --grant 'http GET https://example.com'
"""

import json
from urllib.parse import urlsplit

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import log, outgoing_handler
from wit_world.imports.horarium_task_types import (
    RetryAdvice_ByPolicy,
    RetryAdvice_Never,
    TaskError,
)
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.wasi_http_types import (
    Fields,
    IncomingBody,
    OutgoingRequest,
    Scheme_Http,
    Scheme_Https,
)

DESCRIPTION = {
    "version": "0.1.0",
    "summary": "Fetches a page and counts it",
    "parameters_schema": {
        "type": "object",
        "required": ["url"],
        "additionalProperties": False,
        "properties": {"url": {"type": "string", "pattern": "^https?://"}},
    },
}
CHUNK = 64 * 1024


class Describe(exports.Describe):
    def describe(self) -> str:
        return json.dumps(DESCRIPTION)


class Run(exports.Run):
    """Parameters come as JSON text, checked against the schema above; the result is JSON text too."""

    def run(self, parameters: str) -> str:
        url = json.loads(parameters)["url"]
        status, body = fetch(url)
        log.write(log.Level.INFO, f"{url} answered {status}", json.dumps({"bytes": len(body)}))
        print("what is printed is log as well")
        if status >= 500:
            raise failure(RetryAdvice_ByPolicy(), f"{url} answered {status}")
        if status >= 400:
            raise failure(RetryAdvice_Never(), f"{url} answered {status}")
        text = body.decode("utf-8", "replace")
        return json.dumps({"status": status, "bytes": len(body), "words": len(text.split())})


def failure(retry, message: str) -> Err:
    """What `run` raises to fail: `by-policy` lets the host try again."""
    return Err(TaskError(message, retry, None, None))


def fetch(url: str) -> tuple[int, bytes]:
    """GET over wasi:http: status and body. (Python's own sockets lead nowhere in a sandbox.)"""
    parts = urlsplit(url)
    request = OutgoingRequest(Fields.from_list([("accept", b"*/*")]))
    request.set_scheme(Scheme_Https() if parts.scheme == "https" else Scheme_Http())
    request.set_authority(parts.netloc)
    request.set_path_with_query((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    try:
        answer = outgoing_handler.handle(request, None)
        answer.subscribe().block()
        response = answer.get()
        if isinstance(response.value, Err):
            raise response.value
        response = response.value.value
    except Err as error:
        # A denial is in the log with the grant that would allow the request.
        raise failure(RetryAdvice_ByPolicy(), f"{url}: {type(error.value).__name__}") from error
    return response.status(), read(response)


def read(response) -> bytes:
    body = response.consume()
    chunks = []
    with body.stream() as stream:
        while True:
            try:
                chunks.append(stream.blocking_read(CHUNK))
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    break
                raise failure(RetryAdvice_ByPolicy(), "the body broke off") from error
    IncomingBody.finish(body)
    return b"".join(chunks)
