"""Asking a server whether it is ready, over HTTP."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any
from urllib.parse import urljoin

from engine.contract.errors import AiwmError, Code

TIMEOUT_S = 3.0
MODELS = "/v1/models"
_UNTRIED = (401, 403)  # it is there, and wants a key before it says more


class Prober:
    """One server's health. Not told of proxies: it asks this machine and the operator's own servers."""

    def __init__(self, base: str, health: str) -> None:
        self._base = base
        self._paths = [health or MODELS, MODELS]
        self._client: Any = None

    async def ready(self) -> str:
        """Empty when it is ready, else why it is not. Raises AiwmError (model_unavailable) when nothing answers."""
        httpx = await asyncio.to_thread(importlib.import_module, "httpx")  # 0.1 s, once
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)
        path = self._paths[0]
        try:
            # Nobody knows what answers there: its status says all, and nothing of a body without end is read.
            async with asyncio.timeout(TIMEOUT_S), self._client.stream("GET", urljoin(self._base, path)) as answer:
                pass
        except TimeoutError:
            text = f"{self._base}: no answer within {TIMEOUT_S:g} s"
            raise AiwmError(Code.model_unavailable, text, retryable=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise AiwmError(Code.model_unavailable, f"{self._base}: {reason}", retryable=True) from None
        if answer.is_success or answer.status_code in _UNTRIED:
            return ""
        if answer.status_code == 404 and len(self._paths) > 1:
            del self._paths[0]  # it knows no such address: the list of models will tell
            return await self.ready()
        return f"{path} says {answer.status_code}"

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
