"""Byte-level tokenizer: frequent template words are one token, every other byte is its own, so that copying is spelling.

The split pattern is the one Llama 3 made common, with no merges and ignore_merges: llama.cpp's "llama-bpe" type, exllamav2 and
transformers all split text alike. Digits come out one by one since no group of digits is in the vocabulary.
"""

from __future__ import annotations

import collections
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from training import words
from training.curriculum import Message, conversation
from training.untaught import UNTAUGHT
from training.words import Rng

VOCABULARY = 1280
SPECIAL = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|reserved|>")
PAD, BOS, END = 0, 1, 2
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{{ bos_token }}{% if tools %}<|system|>You can call tools.<|end|>{% endif %}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build(out: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template to `out`."""
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *sorted(ByteLevel.alphabet())))}
    for piece in _frequent(splitter):
        if len(vocabulary) == VOCABULARY:
            break
        vocabulary[piece] = len(vocabulary)
    for i in range(len(vocabulary), VOCABULARY):
        vocabulary[f"<|unused{i}|>"] = i
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    core.pre_tokenizer = splitter
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(str(out))
    path = out / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("backend", None)  # known to transformers 5 alone; the older name below works in both
    config.update(tokenizer_class="PreTrainedTokenizerFast", chat_template=TEMPLATE)
    path.write_text(json.dumps(config, indent=2) + "\n")


def _frequent(splitter: pre_tokenizers.PreTokenizer) -> list[str]:
    """Pieces of generated text by falling count, without those that are (or look like) payload to copy."""
    payload = {w.lower() for w in (*words.REAL_NAMES, *words.REAL_CITIES, *words.REAL_ITEMS)}
    rng = Rng(99)
    counts: collections.Counter[str] = collections.Counter()
    for _ in range(60_000):
        for _, text in conversation(rng, 0.99):
            counts.update(piece for piece, _ in splitter.pre_tokenize_str(text))
    for skill in UNTAUGHT.values():  # only the words of their phrasings; their answers stay unknown
        for form in skill.phrasings.seen:
            counts.update({piece: 40 for piece, _ in splitter.pre_tokenize_str(form.replace("{", " {"))})
    kept = [
        (piece, count)
        for piece, count in counts.items()
        if len(piece) > 1 and not any(c.isdigit() for c in piece) and piece.lstrip("Ġ").lower() not in payload
    ]
    return [piece for piece, count in sorted(kept, key=lambda pair: (-pair[1], pair[0])) if count >= 20]


def encode(core: Tokenizer, conversation_: list[Message]) -> tuple[list[int], list[float]]:
    """Token ids and loss weights of a conversation. Only answers count, end mark included.

    An answer of n tokens weighs sqrt(n): by plain token mean a JSON record would count fifteen times as much as a sum.
    """
    ids, weights = [BOS], [0.0]
    for role, text in conversation_:
        body = [*core.encode(text, add_special_tokens=False).ids, END]
        ids += [SPECIAL.index(f"<|{role}|>"), *body]
        weights += [0.0, *[len(body) ** -0.5 if role == "assistant" else 0.0] * len(body)]
    return ids, weights
