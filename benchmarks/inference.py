"""The reference backend beside transformers and llama.cpp: tokens per CPU second, greedy, prompts read included.

`python -m benchmarks.inference` runs every engine in processes of its own, in turn, several rounds, and writes
results/inference.json. One thread each. CPU seconds are the process's own, so other work on the machine disturbs less than it
would disturb wall time; what remains of it shows in the spread. Needs torch, transformers, xllamacpp; a missing one is
named, not silently left out."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._report import middle, write
from engine.inference.names import SHIPPED

MODEL = SHIPPED / "aiwm-nano"
NEW_TOKENS = 64
BATCHES = (1, 8)
# Answers by it never end within so many tokens, whatever the model would rather write.
NOTE = {
    "type": "object",
    "properties": {"place": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["place", "n"],
}
NOTES = {"type": "array", "minItems": NEW_TOKENS, "items": {**NOTE, "additionalProperties": False}}
PASSES = 12  # per process and batch; the best counts: the least disturbed one
ENGINES = ("aiwm", "transformers", "llama.cpp-f16", "llama.cpp-f32")
PROMPTS = (
    "What is 47 + 12?", "Name the town in this note: we met in Harlow after lunch.", "Is this kind or rude? You were a great help.",
    "Write 5 words about rain.", "What is 90 - 31?", "Say hello to Mira.", "Which day comes after Tuesday?", "Repeat: the blue gate",
)  # fmt: skip


def endless_model(folder: Path) -> Path:
    """The shipped model without end tokens, so that every engine writes exactly as many tokens as asked."""
    model = Path(shutil.copytree(MODEL, folder / "model"))
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((model / name).read_text())
        settings["eos_token_id"] = [] if name == "generation_config.json" else None
        (model / name).write_text(json.dumps(settings))
    return model


def prompt_tokens(model: Path) -> list[list[int]]:
    from engine.inference.backends.base import Message
    from engine.inference.backends.reference.config import read_config
    from engine.inference.backends.reference.tokenizer import Tokenizer

    tokenizer = Tokenizer(model, read_config(model).vocabulary)
    return [list(tokenizer.converse([Message("user", text)])[1]) for text in PROMPTS]


# -- one engine, in a process of its own -------------------------------------------------------------------------------------


def best(work: Any, batch: int) -> float:
    """Tokens per CPU second of the best pass, after one to warm up."""
    work(batch)
    speeds = []
    for _ in range(PASSES):
        before = time.process_time()
        work(batch)
        speeds.append(batch * NEW_TOKENS / (time.process_time() - before))
    return max(speeds)


def run_aiwm(model: Path) -> dict[str, float]:
    from engine.inference.adapter_files import adapter_digest
    from engine.inference.backends.base import AdapterRef, Finished, LoadSpec, Message, Request, Sampling
    from engine.inference.backends.reference.backend import ReferenceBackend

    backend = ReferenceBackend()
    backend.load(LoadSpec(model, max(BATCHES)))
    adapters = []
    for path in sorted((model.parent / "adapters").iterdir()):
        ref = AdapterRef(path.name, path, adapter_digest(path))
        backend.attach(backend.upload(backend.stage(ref)))
        adapters.append(ref)

    def work(batch: int, used: int = 0, schema: dict[str, Any] | None = None) -> None:
        for index in range(batch):
            chosen = (adapters[index % used],) if used else ()
            request = Request(
                str(index),
                messages=(Message("user", PROMPTS[index]),),
                adapters=chosen,
                sampling=Sampling(max_tokens=NEW_TOKENS),
                schema=schema,
            )
            assert backend.admit(backend.prepare(request))
        tokens = 0
        while backend.active():
            tokens += sum(event.tokens_out for event in backend.step() if isinstance(event, Finished))
        assert tokens == batch * NEW_TOKENS

    result = {f"batch {batch}": best(work, batch) for batch in BATCHES}
    for batch in BATCHES:
        result[f"batch {batch}, by a schema"] = best(lambda batch: work(batch, schema=NOTES), batch)
    result["batch 8, one adapter"] = best(lambda batch: work(batch, 1), 8)
    result["batch 8, eight adapters"] = best(lambda batch: work(batch, 8), 8)
    return result


def run_transformers(model: Path) -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    network: Any = AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32).eval()
    prompts = prompt_tokens(model)

    def work(batch: int) -> None:
        longest = max(len(prompt) for prompt in prompts[:batch])
        padded = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts[:batch]])
        mask = (torch.arange(longest)[None] >= longest - torch.tensor([[len(p)] for p in prompts[:batch]])).long()
        with torch.inference_mode():
            out = network.generate(
                padded,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                pad_token_id=0,
            )
        assert out.shape[1] - longest == NEW_TOKENS

    return {f"batch {batch}": best(work, batch) for batch in BATCHES}


def run_llama_cpp(model: Path, kind: str) -> dict[str, float]:
    from concurrent.futures import ThreadPoolExecutor

    import xllamacpp

    from benchmarks.gguf import write_gguf

    file = model.parent / f"{kind}.gguf"
    write_gguf(MODEL, file, kind)
    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.n_parallel, settings.n_ctx = max(BATCHES), max(BATCHES) * 512
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.n_gpu_layers, settings.verbosity, settings.warmup = 0, -1, False
    server = xllamacpp.Server(settings)
    prompts = prompt_tokens(model)
    common = {"n_predict": NEW_TOKENS, "temperature": 0, "cache_prompt": False, "ignore_eos": True}

    def one(prompt: list[int]) -> None:
        answer = server.handle_completions({"prompt": prompt, **common})
        assert answer["usage"]["completion_tokens"] == NEW_TOKENS, answer

    with ThreadPoolExecutor(max(BATCHES)) as pool:
        return {f"batch {n}": best(lambda batch: list(pool.map(one, prompts[:batch])), n) for n in BATCHES}


def run_engine(engine: str, model: Path) -> dict[str, float]:
    if engine == "aiwm":
        return run_aiwm(model)
    if engine == "transformers":
        return run_transformers(model)
    return run_llama_cpp(model, engine.rpartition("-")[2].upper())


# -- from process start to first token -------------------------------------------------------------------------------------


def first_token(model: Path) -> dict[str, float]:
    """CPU seconds of a whole model process from its start to its first piece of text over the pipe; wall seconds beside it."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.inference.process", "--parent", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    load = {"model": str(model), "slots": 8}
    generate = {"id": "a", "messages": [{"role": "user", "content": PROMPTS[0]}]}
    for number, (method, params) in enumerate((("load", load), ("generate", generate))):
        line = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        wanted = "result" if method == "load" else "delta"
        while wanted not in (answer := json.loads(process.stdout.readline())) and answer.get("method") != wanted:
            assert "error" not in answer, answer
    wall = time.perf_counter() - started
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    process.stdin.close()
    process.wait()
    process.stdout.close()
    return {"cpu_s": cpu, "wall_s": wall}


# -- all of it ---------------------------------------------------------------------------------------------------------------


def in_a_process(engine: str, model: Path) -> dict[str, float] | str:
    """One engine's numbers, or the reason why it has none."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "benchmarks.inference", "--engine", engine, "--model", str(model)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def measure(rounds: int) -> list[dict[str, Any]]:
    speeds: dict[str, dict[str, list[float]]] = {}
    missing: dict[str, str] = {}
    starts = []
    with tempfile.TemporaryDirectory() as name:
        model = endless_model(Path(name))
        write_adapters(Path(name) / "adapters", model)
        for number in range(rounds):
            for engine in ENGINES:
                result = in_a_process(engine, model)
                print(f"round {number + 1} {engine}: {result}", file=sys.stderr)
                if isinstance(result, str):
                    missing[engine] = result
                    continue
                for case, speed in result.items():
                    speeds.setdefault(case, {}).setdefault(engine, []).append(speed)
            starts.append(first_token(MODEL))
    rows: list[dict[str, Any]] = []
    for case, engines in speeds.items():
        ours = middle(engines["aiwm"])
        for engine, values in engines.items():
            rows.append({
                "case": case, "engine": engine, "tokens_per_cpu_s": round(middle(values)), "n": len(values),
                "lowest": round(min(values)), "highest": round(max(values)), "aiwm_is": round(ours / middle(values), 2),
            })  # fmt: skip
    for engine, reason in missing.items():
        rows.append({"case": "all", "engine": engine, "not_measured": reason})
    for key in ("cpu_s", "wall_s"):
        values = [start[key] for start in starts]
        rows.append(
            {
                "case": f"process start to first token, {key}",
                "engine": "aiwm",
                "median": middle(values),
                "n": len(values),
            }
        )
    return rows


def write_adapters(folder: Path, model: Path) -> None:
    """Eight rank-8 adapters of all linear layers; random numbers cost what trained ones do."""
    from tests.support.tiny_model import write_adapter

    config = json.loads((model / "config.json").read_text())
    for seed in range(8):
        write_adapter(folder / f"a{seed}", config, seed=seed, rank=8, scale=0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    if arguments.engine:
        print(json.dumps(run_engine(arguments.engine, arguments.model)))
        return
    rows = measure(arguments.rounds)
    notes = (
        f"{NEW_TOKENS} new tokens a request, greedy, end tokens ignored, prompts of 10 to 30 tokens read within the measured time,"
        f" one thread; best of {PASSES} passes a round, medians over rounds. llama.cpp through xllamacpp's server, prompts as token ids."
        " aiwm_is: our median divided by that engine's."
    )
    write("inference", rows, ("numpy", "torch", "transformers", "xllamacpp"), notes)


if __name__ == "__main__":
    main()
