"""The one typed door to numba: functions that loop over pixels are compiled here, cached on disk, and free the GIL.

numba ships no types, so its decorators would make every compiled function untyped. Nothing else belongs in this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(*, parallel: bool = False, fast_math: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a numeric function at its first call.

    Args:
        parallel: let `numba.prange` loops use all cores. Leave it off for functions that are called from several
            threads at once: numba's default threading layer is not safe there.
        fast_math: let the compiler reorder sums and divide without checks, for loops over pictures that hold neither
            NaN nor infinity.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return cast(
            "Callable[P, R]",
            numba.njit(
                cache=True,
                nogil=True,
                parallel=parallel,
                fastmath=fast_math,
                error_model="numpy" if fast_math else "python",
            )(function),
        )

    return decorate
