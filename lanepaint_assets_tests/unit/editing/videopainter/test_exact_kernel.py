"""The choice of an attention kernel: FlashAttention 4 where it has shown that it works, else torch's own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from lanepaint_assets.editing.videopainter import exact_kernel
from lanepaint_assets.editing.videopainter.exact_kernel import exact_attention, fastest_torch_kernel

HOPPER = (9, 0)
AMPERE = (8, 0)
DEVICE = torch.device("cpu")


def tokens(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(3)
    return [torch.randn(2, 7, 3, 16).to(dtype) for _ in range(3)]


def right(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, None]:
    heads_first = (each.transpose(1, 2) for each in (query, key, value))
    return torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(1, 2), None


def wrong(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, None]:
    return right(query, key, value.flip(1))[0], None


def nan(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, None]:
    return torch.full_like(right(query, key, value)[0], torch.nan), None


def broken(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, None]:
    raise RuntimeError("no compiler for this driver")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a stand-in of the package, on a GPU of that generation; what computes is the CPU all the same."""

    def put(function: Callable[..., object] | None, capability: tuple[int, int] = HOPPER) -> None:
        package = None
        if function is not None:
            package = ModuleType("flash_attn.cute")
            package.flash_attn_func = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "flash_attn", ModuleType("flash_attn"))
        monkeypatch.setitem(sys.modules, "flash_attn.cute", package)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)

    exact_kernel._tried_flash_4.cache_clear()
    yield put
    exact_kernel._tried_flash_4.cache_clear()


def test_torch_finds_nothing_wrong_with_the_operation() -> None:
    torch.library.opcheck(exact_attention, tokens(), test_utils=("test_schema", "test_faketensor"))


def test_it_is_attention_of_all_tokens_to_all() -> None:
    query, key, value = tokens()
    weights = torch.einsum("bqhc,bkhc->bhqk", query, key).div(4).softmax(dim=-1)
    expected = torch.einsum("bhqk,bkhc->bqhc", weights, value)
    torch.testing.assert_close(exact_attention(query, key, value), expected, rtol=0, atol=1e-5)


def test_a_package_that_works_is_used(install: Callable[..., None]) -> None:
    install(right)
    kernel = exact_kernel._tried_flash_4(DEVICE, 16)
    assert kernel is not None
    query, key, value = tokens()
    torch.testing.assert_close(kernel(query, key, value), exact_attention(query, key, value))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (wrong, "its result is off by"),
        (nan, "its result is off by inf"),
        (broken, "RuntimeError: no compiler for this"),
    ],
)
def test_a_package_that_does_not_work_is_named_with_the_reason_and_left_alone(
    install: Callable[..., None], caplog: pytest.LogCaptureFixture, function: Callable[..., object], reason: str
) -> None:
    install(function)
    with caplog.at_level(logging.WARNING):
        assert exact_kernel._tried_flash_4(DEVICE, 16) is None
    assert "installed but does not work" in caplog.text
    assert reason in caplog.text


def test_without_the_package_and_on_older_gpus_torch_computes(install: Callable[..., None]) -> None:
    install(None)
    assert exact_kernel._tried_flash_4(DEVICE, 16) is None
    exact_kernel._tried_flash_4.cache_clear()
    install(broken, AMPERE)
    assert exact_kernel._tried_flash_4(DEVICE, 16) is None


def test_off_a_gpu_the_choice_of_kernels_is_left_alone() -> None:
    with sdpa_kernel([SDPBackend.MATH]), fastest_torch_kernel(torch.device("cpu")):
        assert torch.backends.cuda.math_sdp_enabled()
        assert not torch.backends.cuda.flash_sdp_enabled()
