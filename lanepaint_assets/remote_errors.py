"""What the file system of a bucket raises when it gives up, as the one kind of error that callers know.

Called by clip sources and by observations of checkpoints, and by the store, which makes a `StoreError` of it
(`store/gcs_client.py`). gcsfs tries again for half a minute by itself; then it raises what its libraries raised last,
most of which is no OSError.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# By name: the libraries are an extra. `requests`' errors are OSErrors.
_GIVEN_UP: Mapping[str, tuple[str, ...]] = {
    "gcsfs.retry": ("HttpError", "ChecksumError"),
    "aiohttp.client_exceptions": ("ClientError",),
    "google.auth.exceptions": ("GoogleAuthError",),
}


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Raise an OSError where the file system of a bucket gives up; what it says stays.

    Raises:
        OSError: a request was refused, or not answered however often it was repeated.
    """
    try:
        yield
    except OSError:
        raise
    except _known() as error:
        raise OSError(f"{type(error).__name__}: {str(error).strip() or 'no reason was given'}") from error


def _known() -> tuple[type[Exception], ...]:
    """The classes that this process can have raised."""
    loaded = ((sys.modules[module], names) for module, names in _GIVEN_UP.items() if module in sys.modules)
    return tuple(getattr(module, name) for module, names in loaded for name in names)
