"""The connection to Google Cloud Storage: one client a process, its credentials, and what its errors mean.

Called by `replace.py`, which changes single objects, by `publishing.py`, which uploads files, and by all that reads and
lists through the file system of a bucket, which has connections of its own. The client libraries
are an optional extra, imported here at the first connection and nowhere else.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Protocol

from upath import UPath

from lanepaint_assets.remote_errors import as_os_errors
from lanepaint_assets.store.errors import StoreError
from lanepaint_assets.store.gcs_requests import ANSWER_S, CONNECT_S, HttpSender
from lanepaint_assets.store.gcs_uploads import (
    FIRST_WAIT_S,
    GIVE_UP_AFTER_S,
    LONGEST_WAIT_S,
    MEMORY_BYTES,
    REMEDY,
    THREADS,
    Answer,
    Budget,
    GcsUploads,
    Send,
)

GCS_PROTOCOLS: Final = frozenset({"gs", "gcs"})

_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.read_write"

_SERVICE: Final = "https://storage.googleapis.com"


class GcsBlob(Protocol):
    """What is used of `google.cloud.storage.Blob`."""

    generation: int | None

    def download_as_bytes(self, *, if_generation_match: int | None = None, retry: object) -> bytes:
        """Content, checked against the server's checksum; of exactly that generation where one is given."""
        ...

    def upload_from_string(
        self, data: bytes, content_type: str, *, if_generation_match: int, checksum: str, retry: object
    ) -> None:
        """Write if the object still has that generation; 0: only if there is no object."""
        ...


class GcsBucket(Protocol):
    """What is used of `google.cloud.storage.Bucket`."""

    name: str

    def blob(self, blob_name: str) -> GcsBlob:
        """A handle, without asking the server."""
        ...

    def get_blob(self, blob_name: str, *, retry: object) -> GcsBlob | None:
        """The object with its current generation."""
        ...


@dataclass(frozen=True)
class GcsErrors:
    """What the client library raises, by meaning; its classes are not at hand where the extra is not installed.

    Attributes:
        again: another writer came first, or an answer was damaged on its way.
        not_found: no such object; of a write, no such bucket.
        failures: all others: refused, or still out of reach after every retry.
    """

    again: tuple[type[Exception], ...]
    not_found: tuple[type[Exception], ...]
    failures: tuple[type[Exception], ...]


@dataclass(frozen=True)
class GcsConnection:
    """A bucket.

    Attributes:
        bucket: for single objects.
        uploads: for files.
        errors: of `bucket`.
        retry: how `bucket` repeats what failed for the moment.
        sleep: waiting, in seconds.
    """

    bucket: GcsBucket
    uploads: GcsUploads
    errors: GcsErrors
    retry: object
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def refused(self, name: str, error: Exception) -> StoreError:
        """What to tell people where the bucket does not do what it was asked for."""
        said = str(error).strip() or "no reason was given"
        return StoreError(f"gs://{self.bucket.name}/{name}: {type(error).__name__}: {said}; {REMEDY}")


@contextmanager
def file_system_asked(path: UPath, wanted: str) -> Iterator[None]:
    """What is asked of a bucket through its file system: where that gives up, the error names the file and the remedy.

    Other file systems' errors stay what they are, and so does that of a file that is not there.

    Args:
        path: file or folder that is asked for.
        wanted: what is done with it, as in "cannot be read".

    Raises:
        StoreError: the bucket refused, or did not answer however often it was asked.
    """
    try:
        with as_os_errors():
            yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if path.protocol not in GCS_PROTOCOLS:
            raise
        said = " ".join(str(error).split())
        raise StoreError(f"{path} cannot be {wanted}: {said}; {REMEDY}") from error


def gcs_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Storage options of a gs:// file system that sees what other machines wrote, and never waits for ever.

    Raises:
        ImportError: gcsfs is not installed.
    """
    import aiohttp

    emulator = _emulator()
    # gcsfs by itself waits for ever, where an answer got lost.
    patience = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S)
    # Without a token, gcsfs looks for credentials in every place it knows, a metadata server among them.
    reached = {} if emulator is None else {"token": "anon", "endpoint_url": emulator}
    return {"use_listings_cache": False, "requests_timeout": patience, **reached, **given}


def connect_gcs(path: UPath) -> tuple[GcsConnection, str]:
    """Connect to the bucket of a gs:// address.

    Credentials are those of the environment (workload identity, GOOGLE_APPLICATION_CREDENTIALS, gcloud). Of the path's
    storage options `project`, `endpoint_url` and `token` count, in gcsfs's meaning.

    Returns:
        The connection, and the name of the path's object.

    Raises:
        StoreError: google-cloud-storage is not installed, there are no credentials, or the token is of a kind that only
            gcsfs reads.
    """
    bucket, _, name = path.path.partition("/")
    options = path.storage_options
    if options.get("token") not in (None, "google_default", "anon"):
        raise StoreError(
            f"gs://{bucket}: the storage option token must be 'anon' or left out; for other credentials set "
            "GOOGLE_APPLICATION_CREDENTIALS, which both client libraries read"
        )
    emulator = _emulator()
    endpoint = options.get("endpoint_url") or emulator
    client = _client(endpoint, options.get("project"), options.get("token") == "anon" or emulator is not None)
    connection = GcsConnection(
        bucket=client.storage.bucket(bucket),
        uploads=GcsUploads(client.send, (endpoint or _SERVICE).rstrip("/"), bucket, client.pool, client.memory),
        errors=client.errors,
        retry=client.retry,
    )
    return connection, name


def _emulator() -> str | None:
    """Address of a server that stands in for Google's; both client libraries read the same variable."""
    named = os.environ.get("STORAGE_EMULATOR_HOST")
    return f"http://{named}" if named and "://" not in named else named or None


@dataclass(frozen=True)
class _Client:
    """What all connections of a process share; safe to use from several threads."""

    storage: Any
    send: Send
    pool: ThreadPoolExecutor
    memory: Budget
    errors: GcsErrors
    retry: object


_LOCK = threading.Lock()


def _client(endpoint: str | None, project: str | None, anonymous: bool) -> _Client:
    with _LOCK:  # a cache alone would let two threads begin with a client each
        return _connected(endpoint, project, anonymous)


@lru_cache(maxsize=8)
def _connected(endpoint: str | None, project: str | None, anonymous: bool) -> _Client:
    try:
        import google.auth
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import exceptions, storage
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
        from google.cloud.storage.retry import DEFAULT_RETRY
        from requests import RequestException
    except ImportError as error:
        raise StoreError(
            f"gs:// needs google-cloud-storage, which is not installed ({error}); install lanepaint with the extra "
            "'gcs'"
        ) from error
    credentials, found = AnonymousCredentials(), None
    if not anonymous:
        try:
            credentials, found = google.auth.default(scopes=[_SCOPE])
        except GoogleAuthError as error:
            raise StoreError(f"gs:// needs credentials: {error}") from error
    return _Client(
        storage=storage.Client(
            # Only lists of buckets ask for the project, and nobody here lists buckets.
            project=project or found or "unknown",
            credentials=credentials,
            client_options={"api_endpoint": endpoint} if endpoint else None,
        ),
        send=_sender(credentials),
        pool=ThreadPoolExecutor(THREADS, thread_name_prefix="lanepaint-upload"),
        memory=Budget(MEMORY_BYTES),
        errors=GcsErrors(
            again=(exceptions.PreconditionFailed, exceptions.Conflict, DataCorruption),
            not_found=(exceptions.NotFound,),
            failures=(GoogleAPIError, GoogleAuthError, InvalidResponse, RequestException),
        ),
        retry=DEFAULT_RETRY.with_delay(FIRST_WAIT_S, LONGEST_WAIT_S, 2.0).with_timeout(GIVE_UP_AFTER_S),
    )


def _sender(credentials: Any) -> Send:
    import certifi
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    http = HttpSender(credentials, Request(), certifi.where())

    def send(method: str, url: str, body: Sequence[bytes], headers: Mapping[str, str]) -> Answer:
        try:
            return http.send(method, url, body, headers)
        except GoogleAuthError as error:
            if error.retryable:
                raise ConnectionError(str(error)) from error
            raise StoreError(f"no credentials for {url.partition('?')[0]}: {error}") from error

    return send


# Sockets and threads do not survive a fork: a forked process connects anew.
def _after_fork() -> None:
    global _LOCK
    _LOCK = threading.Lock()
    _connected.cache_clear()


os.register_at_fork(after_in_child=_after_fork)
