"""Who holds memory: ours, others by pid and owner, and what one more process may take. The GPUs are a fake NVML's."""

from __future__ import annotations

import os

import pytest

from engine.inference.memory.estimate import Estimate
from engine.inference.memory.gpus import Gpus
from engine.inference.memory.ledger import Ledger, Use
from tests.support.fake_nvml import FakeGpu, FakeNvml

G = 1_000_000_000
RESERVE = 192_000_000


def ledger(*gpus: FakeGpu, host: tuple[int, int] = (64 * G, 50 * G), limit: int = 0, rss: int = 0) -> Ledger:
    return Ledger(limit, Gpus(lambda: FakeNvml(*gpus)), host=lambda: host, measure=lambda _: rss)


def use(process: str, device: str, total: int, **more: object) -> Use:
    values = {"pid": 7, "loaded": True, **more}
    return Use(process, devices=(device,), estimate=Estimate(weights=total), **values)  # type: ignore[arg-type]


def test_without_a_gpu_it_says_so_and_why() -> None:
    book = Ledger(gpus=Gpus(lambda: FakeNvml(broken=True)), host=lambda: (64 * G, 50 * G))
    (row,) = book.rows([])
    assert (row.id, row.total_bytes) == ("CPU", 64 * G)
    assert "no GPU: driver not loaded" in row.note
    assert [space.id for space in book.spaces([])] == ["CPU"]
    assert book.gpu_words() == ()


def test_the_machine_line_says_how_full_each_gpu_is() -> None:
    words = ledger(FakeGpu(total=24 * G, used=21 * G), FakeGpu(total=80 * G)).gpu_words()
    assert words == (f"GPU0 {21 * G / 2**30:.1f}/{24 * G / 2**30:.1f}G", f"GPU1 0.0/{80 * G / 2**30:.1f}G")


def test_without_the_library_it_says_so() -> None:
    def missing() -> object:
        raise ImportError

    gpus = Gpus(missing)
    assert gpus.look() == ()
    assert "nvidia-ml-py is not installed" in gpus.note


def test_models_may_take_a_share_of_the_host_and_never_what_is_not_there() -> None:
    assert ledger().spaces([])[0].free == 48 * G  # three quarters of 64
    assert ledger(limit=10 * G).spaces([])[0].free == 10 * G
    assert ledger(host=(64 * G, 5 * G)).spaces([])[0].free == 5 * G


def test_the_host_gives_memory_later_so_what_was_planned_is_set_aside() -> None:
    # Planned 4 GB, touched 1 GB of them so far: of the 12 GB that are available 3 are promised.
    loading = use("a.0", "CPU", 4 * G)
    book = ledger(host=(64 * G, 12 * G), rss=1 * G)
    assert book.held([loading]) == {"a.0": {"CPU": 4 * G}}
    assert book.spaces([loading])[0].free == 9 * G
    grown = ledger(host=(64 * G, 50 * G), rss=6 * G)
    assert grown.held([loading]) == {"a.0": {"CPU": 6 * G}}


def test_gpus_with_what_is_ours_and_what_is_not() -> None:
    gpu = FakeGpu(processes=[(7, 16 * G), (os.getpid(), 4 * G), (424_242, None)])
    book = ledger(gpu)
    ours = use("qwen.0", "GPU0", 15 * G, weights=9 * G, kv=6 * G)
    row = book.rows([ours])[1]
    assert (row.id, row.name, row.free_bytes, row.others_bytes) == ("GPU0", "Test GPU", 4 * G, 4 * G)
    assert (row.weights_bytes, row.kv_bytes) == (9 * G, 6 * G)
    assert (row.utilisation, row.temperature_c, row.power_w, row.power_limit_w) == (97.0, 71.0, 250.0, 450.0)
    assert row.pcie_bytes_per_s == 1.1e9
    assert book.spaces([ours])[1].free == 4 * G - RESERVE
    assert book.held([ours])["qwen.0"] == {"GPU0": 16 * G}
    assert book.measured(ours) == 16 * G


async def test_others_are_named_by_pid_and_owner() -> None:
    import getpass

    gpu = FakeGpu(processes=[(7, 1 * G), (os.getpid(), 4 * G)])
    book = ledger(gpu)
    found = [it for it in await book.strangers(frozenset({7})) if it.device == "GPU0"]
    (stranger,) = found
    assert (stranger.pid, stranger.owner, stranger.bytes) == (os.getpid(), getpass.getuser(), 4 * G)
    assert str(os.getpid()) in book.rows([])[1].others[0]
    assert any(it.pid != os.getpid() or it.device == "CPU" for it in await book.strangers(frozenset()))


def test_what_loads_is_promised_its_whole_estimate() -> None:
    gpu = FakeGpu(processes=[(7, 2 * G)])
    loading = use("new.0", "GPU0", 10 * G, loaded=False)
    assert ledger(gpu).spaces([loading])[1].free == 24 * G - 2 * G - 8 * G - RESERVE


def test_a_driver_that_names_no_bytes_is_helped_by_the_process() -> None:
    gpu = FakeGpu(used=12 * G, processes=[(7, None)])
    counted = use("a.0", "GPU0", 12 * G, weights=9 * G, kv=2 * G, scratch=1 * G)
    assert ledger(gpu).measured(counted) == 12 * G


def test_a_reading_that_the_board_does_not_give_is_none() -> None:
    row = ledger(FakeGpu(watts=None)).rows([])[1]
    assert (row.power_w, row.temperature_c) == (None, 71.0)


async def test_the_next_start_waits_until_the_driver_has_forgotten_a_pid() -> None:
    gpu = FakeGpu(processes=[(7, 2 * G)])
    looks = 0

    class Leaving(FakeNvml):
        def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[object]:
            nonlocal looks
            looks += 1
            if looks == 3:
                gpu.processes.clear()
            return super().nvmlDeviceGetComputeRunningProcesses(gpu)

    await Ledger(gpus=Gpus(lambda: Leaving(gpu)), host=lambda: (64 * G, 50 * G)).gone(7)
    assert looks == 3


@pytest.mark.parametrize("spread", [1, 2])
def test_a_model_over_two_gpus_counts_its_share_on_each(spread: int) -> None:
    gpus = [FakeGpu(processes=[(7, 5 * G)]) for _ in range(2)]
    devices = ("GPU0", "GPU1")[:spread]
    both = Use("big.0", 7, devices, Estimate(weights=10 * G), loaded=True, weights=10 * G)
    rows = ledger(*gpus).rows([both])[1:]
    assert [row.weights_bytes for row in rows] == ([5 * G, 5 * G] if spread == 2 else [10 * G, 0])
