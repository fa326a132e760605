"""What is sampled of pools and models, as it is now."""

from __future__ import annotations

from collections.abc import Callable

from engine.contract.records import ModelRow
from engine.contract.states import InstanceState, TaskState
from engine.control.catalogue import Catalogue
from engine.control.instances import Instances
from engine.control.tally import Tally
from engine.control.tempo import Tempo

_OF_MODELS = ("tokens_per_s", "running", "waiting", "rss_bytes", "hits", "misses", "evictions")
"""What is sampled of each model process, by the names of its row."""


class Series:
    """Reads off the pools' and the model processes' numbers."""

    def __init__(
        self,
        catalogue: Catalogue,
        instances: Instances,
        tally: Tally,
        tempo: Tempo,
        models: Callable[[], list[ModelRow]],
    ) -> None:
        self._catalogue = catalogue
        self._instances = instances
        self._tally = tally
        self._tempo = tempo
        self._models = models

    def tokens_per_s(self) -> float:
        """Of all models together."""
        return sum(row.tokens_per_s for row in self._models())

    def waiting_for(self, pool: str) -> int:
        """Tasks that wait for a pool, among others perhaps."""
        queues = [queue.name for queue in self._catalogue.queues.values() if pool in queue.pools]
        return sum(self._tally.count(queue, TaskState.pending) for queue in queues)

    def values(self) -> dict[str, float]:
        """The value of each series by its name: `model.ID.FIELD`, `pool.NAME.instances`, `.busy`, `.waiting`, `.out`."""
        found = {
            f"model.{row.id}.{field}": float(getattr(row, field)) for row in self._models() for field in _OF_MODELS
        }
        for pool in self._catalogue.pools:
            mine = self._instances.of_pool(pool)
            found[f"pool.{pool}.instances"] = float(len(mine))
            found[f"pool.{pool}.busy"] = float(sum(instance.state is InstanceState.busy for instance in mine))
            found[f"pool.{pool}.waiting"] = float(self.waiting_for(pool))
            found[f"pool.{pool}.out"] = self._tempo.out(pool)
        return found
