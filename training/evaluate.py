"""Greedy exact match of a model directory on held-out samples, through transformers and the shipped chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from training.bounds import Score
from training.grammar import Sample
from training.tokenizer import END, PAD

MAX_NEW_TOKENS = 72


class Runner:
    """A model directory, with adapters (PEFT directories by name) that can be switched on one at a time."""

    def __init__(self, directory: Path, adapters: dict[str, Path] | None = None, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(directory), padding_side="left")
        self.model: Any = LlamaForCausalLM.from_pretrained(str(directory), dtype=torch.float32).eval()
        if adapters:
            from peft import PeftModel

            (first, path), *rest = adapters.items()
            self.model = PeftModel.from_pretrained(self.model, str(path), adapter_name=first).eval()
            for name, path in rest:
                self.model.load_adapter(str(path), adapter_name=name)

    def answers(self, samples: list[Sample], batch: int = 64) -> list[str]:
        """Greedy answers in the order of the samples; near-equal lengths share a batch."""
        texts = [self.prompt(sample) for sample in samples]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = [""] * len(texts)
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            for i, text in zip(part, self._generate([texts[i] for i in part]), strict=True):
                found[i] = text
        return found

    def prompt(self, sample: Sample) -> str:
        messages = [{"role": "system", "content": sample.system}] if sample.system else []
        messages.append({"role": "user", "content": sample.prompt})
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _generate(self, texts: list[str]) -> list[str]:
        batch = self.tokenizer(
            texts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
        )
        with torch.inference_mode():
            out = self.model.generate(
                **batch, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, eos_token_id=END, pad_token_id=PAD
            )
        answers: list[str] = self.tokenizer.batch_decode(
            out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return answers

    def score(self, samples: list[Sample], keep: int = 5) -> Score:
        pairs = list(zip(samples, self.answers(samples), strict=True))
        wrong = [(s.prompt, s.answer, got) for s, got in pairs if got.strip() != s.answer]
        return Score(len(pairs) - len(wrong), len(pairs), tuple(wrong[:keep]))
