"""The mode of CUDA's check for waits is restored; shown with a stand-in, so no GPU is needed."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.dream.test_no_waiting import wanted
from tests.gpu.sync_debug import PROTOTYPE, waits_as_set
from tests.models import golden_engine


class Mode:
    """What torch does: a warning at the first call that sets the mode."""

    def __init__(self) -> None:
        self.value: int | str = 0
        self.is_new = True

    def set(self, value: int | str) -> None:
        if self.is_new:
            self.is_new = False
            warnings.warn(
                "Synchronization debug mode is a prototype feature and does not yet detect all "
                "synchronizing operations",
                UserWarning,
                stacklevel=2,
            )
        self.value = value


@pytest.fixture
def mode(monkeypatch):
    mode = Mode()
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", mode.set)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: mode.value)
    return mode


@pytest.mark.filterwarnings(PROTOTYPE)
def test_the_mode_is_restored_after_a_step_that_waits(mode):
    def wait(stage: str) -> None:
        torch.cuda.set_sync_debug_mode("error")
        raise RuntimeError("called a synchronizing operation")

    engine = golden_engine()
    engine.add(wanted("a"))
    engine.trace(wait)

    with pytest.raises(RuntimeError, match="synchronizing"), waits_as_set():
        engine.step()

    assert mode.value == 0


def test_the_mode_is_restored_where_its_own_warning_is_an_error(mode):
    def set_mode() -> None:
        torch.cuda.set_sync_debug_mode("error")

    with pytest.raises(UserWarning, match="prototype"), waits_as_set():
        set_mode()

    assert mode.value == 0
