"""Writing the answers of a batch to a file while they come, in the order of the batch, over lost connections; the file goes on where it
ended, so stopping loses nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from aiwm_tui.batchfiles.results import ResultsFile, row_ended
from aiwm_tui.live.text import clean
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.batches import BatchResults

if TYPE_CHECKING:
    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.live.link import Link

_PAGE, _WAIT_MS, _AGAIN_S = 500, 2_000, 1.0
_LATER = frozenset({Code.engine_unreachable, Code.connection_lost, Code.engine_stopping, Code.timeout})


class Collection:
    """Answers of `batch` on their way into `path`. `written` are those in the file now, `error` is why no more come."""

    def __init__(self, batch: str, path: Path) -> None:
        self.batch = batch
        self.path = path
        self.written = 0
        self.over = False
        self.error: AiwmError | None = None


async def begin(app: ConsoleApp, collection: Collection) -> None:
    """Begin to write, in the background; one for the same batch and file that is under way goes on. Raises what is wrong with the file."""
    known = app.collections.get(collection.batch)
    if known is not None and not known.over and known.path == collection.path:
        return
    file = ResultsFile(collection.path, collection.batch)
    try:
        with file:
            last = file.last()
    except OSError as error:
        message = f"{collection.path} cannot be written: {error.strerror}"
        raise AiwmError(Code.file_unreadable, message, field="out", fix="another file") from None
    if last is not None:
        file.check(last, await app.link.call(file.question(last)))
        collection.written = last.index + 1
    app.collections[collection.batch] = collection
    app.look_after(_collect(app, collection))


async def _collect(app: ConsoleApp, collection: Collection) -> None:
    try:
        with ResultsFile(collection.path, collection.batch) as file:
            await _into(app.link, collection, file)
        line = f"{collection.batch}: {collection.written:,} answers are in {collection.path}"
        app.say((("✓ ", "done"), (clean(line, 300), "text")))
    except AiwmError as error:
        collection.error = error
        app.fail(error)
    except OSError as error:
        collection.error = AiwmError(
            Code.storage_failed, f"{collection.path}: {error.strerror}", fix="aiwm batch wait NAME --out FILE"
        )
        app.fail(collection.error)
    finally:
        collection.over = True


async def _into(link: Link, collection: Collection, file: ResultsFile) -> None:
    last = file.last()
    after = last.index if last is not None else -1
    while True:
        request = BatchResults(name=collection.batch, after=after, limit=_PAGE, ended_only=True, wait_ms=_WAIT_MS)
        try:
            page = await link.call(request)
        except AiwmError as error:
            if error.code not in _LATER:
                raise
            await asyncio.sleep(_AGAIN_S)
            continue
        for result in page.results:
            file.write(result)
        file.flush()
        after = max(after, page.upto)
        collection.written += len(page.results)
        if not page.more and row_ended(page.row):
            return
