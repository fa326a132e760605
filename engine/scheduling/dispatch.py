"""Starting tasks: which waiting task gets which idle instance, and when a pool needs another one."""

from __future__ import annotations

from engine.scheduling import gates
from engine.scheduling.affinity import pick
from engine.scheduling.backlog import Backlog
from engine.scheduling.classes import ReadyClass
from engine.scheduling.decisions import Decision, StartTask
from engine.scheduling.fleet import Fleet
from engine.scheduling.inputs import Now
from engine.scheduling.pools import Pool
from engine.scheduling.routing import choose, ranked
from engine.scheduling.task import RUNNING, Task


class Dispatch:
    """Brings backlog and fleet together. `running` counts tasks from StartTask to their end."""

    def __init__(self, fleet: Fleet, backlog: Backlog, *, affinity_wait_ms: int) -> None:
        self.fleet = fleet
        self.backlog = backlog
        self._wait_ms = affinity_wait_ms
        self.running = 0

    def settle(self, now: Now, out: list[Decision]) -> None:
        """Start and spawn what can be on the pools that something happened to. What scaling touches is looked at in the next round."""
        pools = list(self.fleet.touched)
        self.fleet.touched.clear()
        for pool in pools:
            self._fill(pool, now, out)
        for model in {pool.model: None for pool in pools} if len(pools) > 1 else [pool.model for pool in pools]:
            if model is not None and model.told:
                self.fleet.ahead.look(model, now, out)
        scaling, quotas = self.fleet.scaling, self.fleet.quotas
        scaling.order(pools)
        for pool in pools:
            scaling.scale(pool, now, out)
            held = gates.held_gate(pool, quotas, now.mono_ns) if pool.offered else None
            if held != pool.held:
                pool.held, pool.held_since_ms = held, now.wall_ms

    def _fill(self, pool: Pool, now: Now, out: list[Decision]) -> None:
        model = pool.model
        if model is None or model.free is None or len(model.pools) == 1:
            while pool.offered and gates.pool_gate(pool) is None:
                cls = pool.best()
                if cls is None:
                    return
                self._start(cls, pool, now, out)
            return
        # Pools that share a model's slots: the task with the smallest (rank, seq) of all of them goes first.
        while True:
            heads = []
            for index, sharer in enumerate(model.pools):
                if sharer.offered and gates.pool_gate(sharer) is None and (first := sharer.first()) is not None:
                    heads.append((first, index))
            if not heads:
                return
            pool = model.pools[min(heads)[1]]
            cls = pool.best()
            if cls is None:
                return
            self._start(cls, pool, now, out)

    def _start(self, cls: ReadyClass, pool: Pool, now: Now, out: list[Decision]) -> None:
        """Start the first task of this class, or one that goes before it because its adapters are at hand."""
        backlog, model, replica = self.backlog, pool.model, None
        row = cls.window.first()
        assert row is not None
        task = row[2]
        if model is not None:
            if pool.adapters_of(task.ref):
                task, cls, pool, replica = pick(task, cls, pool, model, now, self._wait_ms)
            else:
                replica = choose(model)
        pool.lines[cls.key.queue].started(cls)
        backlog.ready.take(cls, task, now, out)
        ref = task.ref
        if ref.deadline_ms is not None:
            if ref.deadline_ms <= now.wall_ms:
                backlog.expire_taken(task, out)
                return
            backlog.deadlines.remove(ref.deadline_ms, ref.seq)
        if replica is not None and len(replica.model.replicas) > 1:
            task.route = tuple((one.name, its) for one, its in ranked(replica.model, pool.adapters_of(ref)))
        instance = self.fleet.take(pool, task, replica, now)
        task.state = RUNNING
        task.attempt += 1
        self.running += 1
        out.append(StartTask(ref.seq, task.attempt, instance.id, pool.name, None if replica is None else replica.name))

    def stop(self, task: Task, now: Now, out: list[Decision]) -> None:
        """The task runs no more and is out of memory."""
        self.fleet.release(task, now, out)
        task.verdict = None
        self.running -= 1
        del self.backlog.tasks[task.ref.seq]
