"""Training of the adapters: PEFT on one core, mild settings and much replay, so that a new skill does not cost the old ones."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from training import tokenizer
from training.base import Row, batches
from training.curriculum import SKILLS, WEIGHTS, messages
from training.grammar import draw
from training.settings import AdapterRun
from training.untaught import UNTAUGHT
from training.words import Rng

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def train(run: AdapterRun, base: Path, out: Path) -> dict[str, Any]:
    """Train one adapter of the model in `base` into `out` (a PEFT directory); returns the run's record."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    torch.manual_seed(run.seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    started, cpu = time.time(), time.process_time()
    core = Tokenizer.from_file(str(base / "tokenizer.json"))
    llama: Any = LlamaForCausalLM.from_pretrained(str(base), dtype=torch.float32, attn_implementation="eager")
    config = LoraConfig(
        r=run.rank, lora_alpha=run.alpha, lora_dropout=0.0, target_modules=MODULES, task_type="CAUSAL_LM"
    )
    adapted: Any = get_peft_model(llama, config).train()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=run.rate, betas=(0.9, 0.98), weight_decay=0.0)
    mean = math.nan
    for step in range(run.steps):
        rows = _rows(run, core, step)
        total = sum(sum(weights) for _, weights in rows)
        loss = 0.0
        for ids, weights in batches(rows, run.budget):
            part = _loss_sum(llama, ids, weights) / total
            part.backward()
            loss += part.item()
        for group in optimizer.param_groups:
            group["lr"] = run.rate * _factor(step, run)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        mean = loss if math.isnan(mean) else 0.95 * mean + 0.05 * loss
    adapted.save_pretrained(str(out))
    (out / "README.md").unlink(missing_ok=True)  # peft writes an empty form; the model card speaks for the adapters
    _make_portable(out)
    wall, used = round(time.time() - started), round(time.process_time() - cpu)
    return {**asdict(run), "loss": round(mean, 4), "wall_s": wall, "cpu_s": used}


def _rows(run: AdapterRun, core: Tokenizer, step: int) -> list[Row]:
    """Half new skill, half replay (by `replay`), drawn from (seed, step) alone."""
    rng = Rng(f"{run.skill}:{run.seed}:{step}")
    old = round(run.rows * run.replay)
    guarded = [SKILLS[name] for name in run.guarded for _ in range(old // 4 // len(run.guarded))]
    skills = [UNTAUGHT[run.skill]] * (run.rows - old) + guarded
    weighted = [skill for skill, _, _ in WEIGHTS], [end for _, _, end in WEIGHTS]
    skills += rng.choices(*weighted, k=old - len(guarded))
    return [tokenizer.encode(core, messages(rng, draw(rng, skill, "train"))) for skill in skills]


def _loss_sum(llama: Any, ids: Tensor, weights: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        hidden = llama.model(input_ids=ids, use_cache=False).last_hidden_state
        wanted = weights[:, 1:] > 0
        logits = llama.lm_head(hidden[:, :-1][wanted]).float()
    losses = F.cross_entropy(logits, ids[:, 1:][wanted], reduction="none")
    return (losses * weights[:, 1:][wanted]).sum()


def _factor(step: int, run: AdapterRun) -> float:
    return min(1.0, (step + 1) / run.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / run.steps)))


def _make_portable(out: Path) -> None:
    """fp16 weights, and a config that names the base model instead of a path on the machine that trained it."""
    from safetensors.torch import load_file, save_file

    weights = out / "adapter_model.safetensors"
    tensors = {key: value.to(torch.float16).contiguous() for key, value in load_file(str(weights)).items()}
    save_file(tensors, str(weights), metadata={"format": "pt"})
    path = out / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = "aiwm-nano"
    config["target_modules"] = sorted(config["target_modules"])  # peft keeps a set: its order differs from run to run
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
