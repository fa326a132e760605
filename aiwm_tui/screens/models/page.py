"""The page of all models: a bar of letters a device above the table."""

from __future__ import annotations

from collections.abc import Sequence

from aiwm_tui.live.text import Line
from aiwm_tui.live.views import LiveView
from aiwm_tui.screens.charted import Charted
from aiwm_tui.screens.headed import HeadedPage
from aiwm_tui.screens.models.memory import bar, legend, no_gpu, not_ours
from engine.contract.records import DeviceRow

_MOST = 16


class ModelsPage(HeadedPage, Charted):
    devices: LiveView | None = None

    def on_mount(self) -> None:
        self.devices = self.console.hub.open(":devices", _MOST, self.show_head)
        super().on_mount()

    def head_lines(self, cells: int) -> Sequence[Line]:
        state = self.devices.state if self.devices is not None else None
        rows = [row for row in state.records() if isinstance(row, DeviceRow)] if state is not None else []
        if not rows:
            return ()
        gpus_first = sorted(rows, key=lambda row: (row.id == "CPU", row.id))
        foreign = not_ours(gpus_first)
        return [
            legend(rows),
            *(bar(row, cells) for row in gpus_first),
            *([foreign] if foreign else []),
            *([no_gpu(rows)] if all(row.id == "CPU" for row in rows) else []),
            (),
        ]

    def leave(self) -> None:
        super().leave()
        if self.devices is not None:
            self.devices.close()
