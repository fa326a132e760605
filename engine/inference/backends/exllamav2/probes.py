"""Whether what was loaded computes what it should, asked before the first request.

Wrong attention and wrong adapters are not seen in the text: it stays fluent and gets worse. So every load is checked in the way in which
requests will be computed, with the cache's own pages: what comes later must not change what came before, what came before must change
what comes later, a token alone must be what it is in a prompt, and an adapter must work while it takes part, add up, and leave nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from engine.contract.definitions import KvPrecision
from engine.contract.errors import AiwmError, Code
from engine.inference.backends.exllamav2.plan import PAGE
from engine.inference.backends.exllamav2.staging import Linear, Piece, Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.inference.backends.exllamav2.loras import Lora, Loras

SAME = 1e-3  # two results are the same up to this share of the largest logit: kernels add up in another order
# Least correlation of logits that were computed in two ways: what a cache of so few bits costs a model of random weights, the worst
# there is. Trained ones stay above 0.99; a wrong page or position gives 0.5 and less.
ALIKE = {KvPrecision.fp16: 0.99, KvPrecision.q8: 0.97, KvPrecision.q6: 0.9, KvPrecision.q4: 0.7}
RANK = 8
DIGEST, OPPOSITE = "probe", "probe turned round"


@dataclass(frozen=True, slots=True)
class Probe:
    """Computes logits as lanes do, in a cache of `pages` pages. `vocabulary` bounds the tokens."""

    model: Any
    cache: Any
    pages: int
    precision: KvPrecision
    vocabulary: int

    def logits(
        self,
        rows: Sequence[Sequence[int]],
        pasts: Sequence[int],
        pages: Sequence[Sequence[int]],
        loras: list[Lora] | None = None,
    ) -> torch.Tensor:
        """Logits [rows, tokens, vocabulary] of these tokens, which follow `pasts` tokens that are in each row's pages."""
        from exllamav2.attn import ExLlamaV2Attention

        count = len(rows[0])
        params = ExLlamaV2Attention.PagedParams(
            batch_size=len(rows),
            block_index=torch.tensor([list(row) for row in pages], dtype=torch.int32),
            cache_seqlens=torch.tensor(list(pasts), dtype=torch.int32),
            max_cache_seqlen=max(pasts),
            page_size=PAGE,
            q_len=count,
        )
        tokens = torch.tensor([list(row) for row in rows], dtype=torch.long)
        with torch.inference_mode():
            result = self.model.forward_chunk(input_ids=tokens, attn_params=params, cache=self.cache, loras=loras)
            logits: torch.Tensor = result["logits"][..., : self.vocabulary].float().cpu()
        return logits

    def text(self, length: int, seed: int) -> list[int]:
        """Some tokens."""
        generator = torch.Generator().manual_seed(seed)
        return [int(token) for token in torch.randint(0, self.vocabulary, (length,), generator=generator)]


def check_attention(probe: Probe) -> None:
    """Raises model_refused with what attention does wrong."""
    text = probe.text(8, seed=1)
    other = (text[-1] + 1) % probe.vocabulary
    first = probe.logits([text], [0], [[0]])
    if not bool(torch.isfinite(first).all()):
        raise _refused("its logits are not numbers: the weights are damaged, or need more than 16 bits")
    changed = probe.logits([[*text[:-1], other]], [0], [[0]])
    if _differ(first[:, :-1], changed[:, :-1]):
        raise _refused("attention is not causal: a token changes what was computed before it")
    began = probe.logits([[(text[0] + 1) % probe.vocabulary, *text[1:]]], [0], [[0]])
    if not _differ(first[:, -1], began[:, -1]):
        raise _refused("attention does not see the beginning of a text")
    _check_steps(probe)


def _check_steps(probe: Probe) -> None:
    """Texts of unlike length, read in pieces and then on together, must come to what each comes to in one piece."""
    texts, where = [probe.text(PAGE // 2, seed=2)], [[0]]
    if probe.pages >= 3:
        texts, where = [probe.text(PAGE + 40, seed=2), probe.text(5, seed=3)], [[1, 0], [2, 2]]
    whole = [probe.logits([text], [0], [pages])[0, -1] for text, pages in zip(texts, where, strict=True)]
    for text, pages in zip(texts, where, strict=True):
        for begin in range(0, len(text) - 1, PAGE):
            probe.logits([text[begin : min(begin + PAGE, len(text) - 1)]], [begin], [pages])
    together = probe.logits([text[-1:] for text in texts], [len(text) - 1 for text in texts], where)[:, -1]
    least = ALIKE[probe.precision]
    if any(_alike(one, other) < least for one, other in zip(whole, together, strict=True)):
        raise _refused("a text that is read in pieces comes to something else than in one piece")


def check_adapters(probe: Probe, linears: Mapping[str, Linear], loras: Loras) -> None:
    """Raises model_refused with what adapters do wrong. Leaves none behind."""
    text = probe.text(8, seed=4)
    base = probe.logits([text], [0], [[0]])
    loras.attach(DIGEST, _pieces(linears, 1.0))
    loras.attach(OPPOSITE, _pieces(linears, -1.0))
    lone = loras.take(((DIGEST, 1.0),))
    none = loras.take(((DIGEST, 1.0), (OPPOSITE, 1.0)))
    same = loras.take(((DIGEST, 2.0), (OPPOSITE, 1.0)))
    try:
        adapted = probe.logits([text], [0], [[0]], lone)
        if not _differ(base, adapted):
            raise _refused("an adapter has no effect")
        most = 0.2 * float((adapted - base).abs().max())
        if float((probe.logits([text], [0], [[0]], none) - base).abs().max()) > most:
            raise _refused("two adapters do not add up")
        if float((probe.logits([text], [0], [[0]], same) - adapted).abs().max()) > most:
            raise _refused("an adapter of twice the weight does not work twice")
        if _differ(base, probe.logits([text], [0], [[0]])):
            raise _refused("an adapter changes texts without it")
    finally:
        loras.give_back(same)
        loras.detach(DIGEST)
        loras.detach(OPPOSITE)
    if _differ(base, probe.logits([text], [0], [[0]])):
        raise _refused("an adapter leaves something behind")


def _pieces(linears: Mapping[str, Linear], sign: float) -> tuple[Piece, ...]:
    """An adapter of small random numbers on all projections."""
    generator = torch.Generator().manual_seed(7)
    pieces = []
    for number, (path, linear) in enumerate(linears.items()):
        a = torch.randn((linear.inputs, RANK), generator=generator) * linear.inputs**-0.5
        b = torch.zeros((RANK, linear.width))
        b[:, : linear.outputs] = torch.randn((RANK, linear.outputs), generator=generator) * 0.05 * sign
        data = torch.cat([a.flatten(), b.flatten()]).half().to(linear.device)
        places = (
            Place(path, "A", 0, (linear.inputs, RANK)),
            Place(path, "B", a.numel(), (RANK, linear.width)),
        )
        pieces.append(Piece(linear.device, data, places))
        if number >= 32:
            break
    return tuple(pieces)


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).abs().max()) > SAME * float(one.abs().max())


def _alike(one: torch.Tensor, other: torch.Tensor) -> float:
    """Their correlation."""
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def _refused(why: str) -> AiwmError:
    return AiwmError(
        Code.model_refused,
        f"exllamav2 does not compute this model rightly here, so it is not served: {why}",
        field="model",
        fix="use another backend for it, and report the model and the versions that `aiwm doctor` names",
    )
