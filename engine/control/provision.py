"""What a worker is given to work with, by the rights of what it works on: the tools that it may call and the files that it reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.contract.definitions import WorkerDefinition
from engine.control.contexts import Contexts
from engine.control.instances import Instance
from engine.ports import ContextFile, ToolBox
from engine.tools.service import Rights


class Provision:
    """`toolbox` makes the tools of whoever has these rights, `read` reads a file by them; an engine without has None."""

    def __init__(
        self,
        contexts: Contexts,
        toolbox: Callable[[Rights], ToolBox] | None,
        read: Callable[[Rights, str], Awaitable[str]] | None,
    ) -> None:
        self._contexts = contexts
        self._toolbox = toolbox
        self._read = read

    def tools_of(self, seq: int, instance: Instance) -> ToolBox | None:
        """The tools of a task that starts on an instance."""
        rights = self._contexts.rights(seq, instance.definition, instance.pool)
        return None if rights is None or self._toolbox is None else self._toolbox(rights)

    def tools_as(self, definition: WorkerDefinition, principal: str) -> ToolBox | None:
        """The tools of a definition that works outside of any task: in a chat, or as a supervisor of others."""
        if self._toolbox is None or not definition.tools_allow:
            return None
        return self._toolbox(self._contexts.rights_as(definition, principal))

    def tools_as_supervisor(self, definition: WorkerDefinition) -> ToolBox | None:
        """The tools of a definition that reviews the work of others: its own, whoever's work it is."""
        return self.tools_as(definition, f"supervisor:{definition.name}")

    async def files_of(self, seq: int, instance: Instance) -> tuple[ContextFile, ...]:
        """The file contexts of a task that starts on an instance."""
        rights = self._contexts.rights(seq, instance.definition, instance.pool)
        return () if rights is None else await self._files(rights, instance.definition.files)

    async def files_as(
        self, definition: WorkerDefinition, principal: str, files: tuple[str, ...]
    ) -> tuple[ContextFile, ...]:
        """The file contexts of a chat."""
        return await self._files(self._contexts.rights_as(definition, principal), files)

    async def _files(self, rights: Rights, files: tuple[str, ...]) -> tuple[ContextFile, ...]:
        if self._read is None:
            return ()
        return tuple([ContextFile(name=name, text=await self._read(rights, name)) for name in files])
