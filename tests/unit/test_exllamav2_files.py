"""What of the exllamav2 backend needs neither torch nor a GPU: reading directories, planning, finding what is missing, building once."""

from __future__ import annotations

import fcntl
import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.contract.definitions import KvPrecision
from engine.contract.errors import AiwmError, Code
from engine.inference.backends.base import LoadSpec, Prepared, Request, Sampling
from engine.inference.backends.exllamav2 import availability, extension, toolkit
from engine.inference.backends.exllamav2.files import normalised, read_facts, readable
from engine.inference.backends.exllamav2.plan import context_of, kv_bytes, page_bytes, pages_of, plan
from engine.inference.backends.exllamav2.rotary import rotation
from engine.inference.memory.gpus import Gpu
from tests.support.tiny_model import write_model

GIB = 2**30


# -- directories ---------------------------------------------------------------------------------------------------------


def test_rotary_settings_stand_where_exllamav2_looks_for_them() -> None:
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}
    assert normalised({"a": 1, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}) == {
        "a": 1,
        "rope_theta": 5e5,
    }
    assert normalised({"rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 0.5, **llama3}}) == {
        "rope_theta": 5e5, "partial_rotary_factor": 0.5, "rope_scaling": llama3,
    }  # fmt: skip
    long = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 4096, "long_factor": [1.0]}
    assert normalised({"rope_parameters": long}) == {
        "rope_theta": 1e4,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 4096, "long_factor": [1.0]},
    }
    by_layer = {
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_theta": 1e4},
    }
    assert normalised({"text_config": {"rope_parameters": by_layer}}) == {
        "text_config": {"rope_theta": 1e6, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    }


def test_what_transformers_4_wrote_stays_as_it_is() -> None:
    old = {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}, "text_config": None}
    assert normalised(old) == old
    both = {"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2.0}}
    assert normalised(both) == {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}


def test_only_what_exllamav2_gets_wrong_is_computed_here() -> None:
    for kind in (None, {"rope_type": "llama3", "factor": 8.0}, {"rope_type": "linear", "factor": 2.0}):
        assert rotation({"rope_theta": 1e4, "rope_scaling": kind}, 8, 64) is None
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    turned = rotation({"text_config": {"rope_theta": 1e4, "rope_scaling": yarn}}, 8, 64)
    assert turned is not None
    assert turned.frequencies[0] == 1.0  # what turns fast stays, what turns slowly is stretched
    assert turned.frequencies[-1] == pytest.approx(1e4 ** (-6 / 8) / 4)
    assert turned.factor == pytest.approx(0.1 * math.log(4) + 1)
    given = rotation({"rope_scaling": yarn | {"mscale": 1.0, "mscale_all_dim": 1.0}}, 8, 64)
    assert given is not None
    assert given.factor == 1.0
    long = {"rope_type": "longrope", "long_factor": [4.0] * 4, "short_factor": [1.0] * 4, "attention_factor": 1.5}
    config = {"rope_scaling": long, "original_max_position_embeddings": 64, "max_position_embeddings": 256}
    short, longer = rotation(config, 8, 64), rotation(config, 8, 65)
    assert short is not None
    assert longer is not None
    assert [one / other for one, other in zip(short.frequencies, longer.frequencies, strict=True)] == [4.0] * 4
    assert short.factor == longer.factor == 1.5


def test_the_shadow_of_a_directory_has_its_files_and_another_configuration(tmp_path: Path) -> None:
    model = write_model(
        tmp_path / "model", rope_theta=None, rope_parameters={"rope_theta": 5e5, "rope_type": "default"}
    )
    before = (model / "config.json").read_bytes()
    with readable(model) as shadow:
        assert json.loads((shadow / "config.json").read_text())["rope_theta"] == 5e5
        assert {path.name for path in shadow.iterdir()} == {path.name for path in model.iterdir()}
        assert (shadow / "model.safetensors").resolve() == model / "model.safetensors"
    assert not shadow.exists()
    assert (model / "config.json").read_bytes() == before


def test_facts_are_read_and_what_exllamav2_would_trip_over_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", eos_token_id=[2, 5])
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 9]}))
    facts = read_facts(model)
    assert (facts.layers, facts.kv_heads, facts.head_size, facts.context) == (2, 2, 8, 128)
    assert facts.end_tokens == {2, 5, 9}
    for change, field in (
        ({"architectures": ["A", "B"]}, "architectures"),
        ({"architectures": None}, "architectures"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"eos_token_id": "end"}, "eos_token_id"),
    ):
        odd = write_model(tmp_path / field)
        raw = json.loads((odd / "config.json").read_text()) | change
        (odd / "config.json").write_text(json.dumps(raw))
        with pytest.raises(AiwmError) as caught:
            read_facts(odd)
        assert (caught.value.code, caught.value.info.field) == (Code.model_invalid, field)
    mistral = write_model(tmp_path / "mistral", architectures=["MistralForCausalLM"], sliding_window=64)
    assert read_facts(mistral).context == 64
    with pytest.raises(AiwmError, match="FutureForCausalLM") as caught:
        read_facts(write_model(tmp_path / "future", architectures=["FutureForCausalLM"]))
    assert caught.value.code == Code.model_refused
    with pytest.raises(AiwmError) as caught:
        read_facts(tmp_path / "none")
    assert caught.value.code == Code.model_not_found


# -- plans ---------------------------------------------------------------------------------------------------------------


def _gpus(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    cards = tuple(Gpu(index=index, name="card", total=80 * GIB, free=size) for index, size in enumerate(free))
    monkeypatch.setattr("engine.inference.memory.gpus.Gpus.look", lambda _: cards)


def test_a_plan_counts_16_bits_a_weight_and_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, 8 * GIB, 16 * GIB)
    model = write_model(tmp_path / "model", max_position_embeddings=1000)
    spec = LoadSpec(model, 3)
    facts, planned = read_facts(model), plan(spec)
    embeddings = 262 * 32
    assert planned.weights_bytes == 2 * planned.parameters  # the embeddings stay behind, the head is a copy of them
    assert planned.parameters > embeddings
    assert pages_of(facts, spec) == 3 * 4
    assert planned.kv_bytes == 12 * 256 * (2 * 2 * 2 * 8) * 2
    assert planned.available_bytes == 24 * GIB
    assert planned.fits
    assert plan(LoadSpec(model, 3, devices=(1,))).available_bytes == 16 * GIB
    untied = plan(LoadSpec(write_model(tmp_path / "untied", tie_word_embeddings=False), 1))
    assert untied.weights_bytes == 2 * (untied.parameters - embeddings)


def test_a_cache_of_a_given_size_bounds_the_context(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", max_position_embeddings=4096)
    facts = read_facts(model)
    page = page_bytes(facts, KvPrecision.fp16)
    spec = LoadSpec(model, 4, kv_bytes=3 * page)
    assert (pages_of(facts, spec), context_of(facts, spec)) == (3, 768)
    assert context_of(facts, LoadSpec(model, 4, context=600, kv_bytes=3 * page)) == 600
    small = LoadSpec(model, 4, kv=KvPrecision.q4, kv_bytes=3 * page)
    assert pages_of(facts, small) == int(3 / 0.28125)
    assert kv_bytes(facts, small) > 3 * page  # and one layer of it in 16 bits
    assert pages_of(facts, LoadSpec(model, 4, kv_bytes=1)) == 1


def test_quantised_weights_are_counted_as_they_lie_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _gpus(monkeypatch, GIB)
    model = write_model(tmp_path / "model")
    (model / "model.safetensors").unlink()
    stem = "model.layers.0.mlp.up_proj"
    _header(model / "model.safetensors", {
        f"{stem}.q_weight": ("I32", [20, 48]), f"{stem}.q_invperm": ("I32", [32]), f"{stem}.q_scale": ("I32", [1, 6]),
        f"{stem}.q_scale_max": ("F16", [1]), f"{stem}.q_groups": ("I16", [2]), "lm_head.weight": ("F16", [262, 32]),
        "model.layers.1.mlp.up_proj.qweight": ("I32", [4, 48]), "model.layers.1.mlp.up_proj.scales": ("F16", [1, 48]),
    })  # fmt: skip
    planned = plan(LoadSpec(model, 1))
    assert planned.parameters == 32 * 48 + 262 * 32 + 4 * 8 * 48
    assert planned.weights_bytes == 4 * (960 + 32 + 6) + 2 + 4 + 2 * 262 * 32 + 4 * 192 + 96


def test_a_plan_that_does_not_fit_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "model", max_position_embeddings=2**20)
    _gpus(monkeypatch)
    assert "no NVIDIA GPU" in (plan(LoadSpec(model, 1)).reason or "")
    _gpus(monkeypatch, GIB)
    crowded = plan(LoadSpec(model, 64))
    assert not crowded.fits
    assert "lower slots" in (crowded.advice or "")
    _gpus(monkeypatch, 2**20)
    assert "smaller weights" in (plan(LoadSpec(model, 1, context=256)).advice or "")


def _header(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    sizes = {"I32": 4, "I16": 2, "F16": 2}
    header, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = sizes[dtype]
        for extent in shape:
            size *= extent
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(offset))


# -- what is missing -----------------------------------------------------------------------------------------------------


def test_nothing_of_torch_is_imported_before_a_model_is_loaded() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from engine.inference.backends import make_backend; import engine.doctor;"
        "from engine.contract.definitions import Backend; make_backend(Backend.exllamav2); engine.doctor._exllamav2();"
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'exllamav2')])"
    )
    root = str(Path(__file__).parents[2])
    ran = subprocess.run([sys.executable, "-P", "-c", code, root], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A machine that has everything; what a test takes away is missing."""
    has: dict[str, Any] = {
        "packages": {"exllamav2", "torch"}, "torch": ("2.11.0+cu130", "13.0"), "programs": {"g++", "ninja"},
        "toolkit": toolkit.Toolkit(tmp_path, "13.0"), "gpus": (Gpu(index=0, name="card", total=1, free=1),), "built": False,
    }  # fmt: skip
    monkeypatch.setattr(availability, "find_spec", lambda name: name if name in has["packages"] else None)
    monkeypatch.setattr(availability, "torch_build", lambda: has["torch"])
    monkeypatch.setattr("shutil.which", lambda name: name if name in has["programs"] else None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(toolkit, "find", lambda: has["toolkit"])
    monkeypatch.setattr(toolkit, "built_before", lambda: has["built"])
    monkeypatch.setattr("engine.inference.memory.gpus.Gpus.look", lambda _: has["gpus"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return has


@pytest.mark.parametrize(
    ("lacks", "reason", "fix"),
    [
        ({"packages": {"torch"}}, "exllamav2 is not installed", "pipx install 'aiwm-console[gpu]'"),
        ({"packages": {"exllamav2"}}, "torch is not installed", "pipx install 'aiwm-console[gpu]'"),
        (
            {"torch": ("2.11.0+cpu", None)},
            "torch 2.11.0+cpu was built without CUDA",
            "pip install --force-reinstall torch",
        ),
        ({"gpus": ()}, "no GPU", "install NVIDIA's driver"),
        ({"toolkit": None}, "nvcc", "install the CUDA toolkit 13.0"),
        (
            {"toolkit": toolkit.Toolkit(Path("/cuda"), "12.4")},
            "nvcc is of CUDA 12.4, torch of CUDA 13.0",
            "CUDA toolkit 13.0",
        ),
        ({"programs": {"ninja"}}, "no g++", "apt install g++"),
        ({"programs": {"g++"}}, "no ninja", "pip install ninja"),
    ],
)
def test_what_is_missing_is_named_with_its_fix(
    machine: dict[str, Any], lacks: dict[str, Any], reason: str, fix: str
) -> None:
    assert availability.problems() == ()
    machine.update(lacks)
    (problem,) = availability.problems()
    assert reason in problem.reason
    assert fix in problem.fix


def test_nothing_is_built_where_it_is_there_already(machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    machine["toolkit"] = None
    assert len(availability.problems()) == 1
    machine["built"] = True
    assert availability.problems() == ()
    machine["built"] = False
    machine["packages"].add(availability.EXTENSION)
    assert availability.problems() == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" in availability.problems()[0].reason


# -- the toolkit ---------------------------------------------------------------------------------------------------------


def _compiler(root: Path, version: str) -> Path:
    nvcc = root / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    (root / "nvvm").mkdir()
    nvcc.write_text(
        f"#!/bin/sh\n[ $1 = --dryrun ] && echo '#$ _HERE_={root}/bin' >&2\necho 'Cuda tools, release {version}, V{version}.88'\n"
    )
    nvcc.chmod(0o755)
    return nvcc


def test_a_toolkit_is_found_through_the_environment_and_through_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _compiler(tmp_path / "cuda-13.0", "13.0")
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "nvcc"
    script.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    script.chmod(0o755)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    assert toolkit.find() == toolkit.Toolkit(tmp_path / "cuda-13.0", "13.0")
    _compiler(tmp_path / "other", "12.8")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "other"))
    assert toolkit.find() == toolkit.Toolkit(tmp_path / "other", "12.8")


def test_a_merged_home_has_the_packages_headers_beside_the_toolkits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, packages = tmp_path / "cuda", tmp_path / "site"
    _compiler(root, "13.0")
    for folder, names in (
        (root / "include", ("cuda.h", "crt/host.h")),
        (root / "lib64", ("libcudart.so",)),
        (packages / "nvidia" / "cu13" / "include", ("cuda.h", "cublas_v2.h", "crt/other.h")),
        (packages / "nvidia" / "cu13" / "lib", ("libcublas.so.13", "libcudart.so.13")),
    ):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(str(folder))
    monkeypatch.setattr(toolkit, "site_packages", lambda: packages)
    for _ in range(2):  # again over an old one
        home = toolkit.merge(toolkit.Toolkit(root, "13.0"), tmp_path / "home")
    assert (home / "include" / "cuda.h").read_text() == str(root / "include")
    assert (home / "include" / "cublas_v2.h").exists()
    assert (home / "include" / "crt" / "host.h").exists()
    assert (home / "bin" / "nvcc").exists()
    assert (home / "lib64" / "libcublas.so").resolve().name == "libcublas.so.13"
    assert (home / "lib64" / "libcudart.so").resolve() == root / "lib64" / "libcudart.so"


def test_a_build_waits_for_the_one_that_runs_and_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension, "_sources", lambda: [Path("a.cu"), Path("b.cu")])
    monkeypatch.setattr(extension, "POLL", 0.01)
    (tmp_path / "build-7").mkdir()
    (tmp_path / "build-7" / "a.o").touch()
    told: list[tuple[str, float | None]] = []
    heard, entered = threading.Event(), threading.Event()

    def progress(doing: str, share: float | None) -> None:
        told.append((doing, share))
        heard.set()

    def build() -> None:
        with extension._locked(tmp_path / "lock", tmp_path, progress):
            entered.set()

    with (tmp_path / "lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=build)
        thread.start()
        assert heard.wait(5)
        assert not entered.is_set()
    assert entered.wait(5)  # the lock ends with its holder
    thread.join()
    assert told[0] == ("another process builds exllamav2's extension", 0.5)


def test_a_build_removes_what_killed_ones_left_and_leaves_only_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that writes what it is asked for stands in for the real one; the first attempt fails, the second does not."""
    (tmp_path / "build-7").mkdir()
    (tmp_path / "build-7" / "lock").touch()  # torch would wait for it for ever
    attempts: list[Path] = []

    def compile_into(place: Path, found: toolkit.Toolkit) -> ModuleType:
        attempts.append(place)
        assert (place / "cuda_home").is_dir()
        if len(attempts) == 1:
            raise RuntimeError("Error building extension\nninja: stopped\nfatal error: cuda.h: no such file")
        (place / f"{availability.EXTENSION}.so").write_text("built")
        return ModuleType(availability.EXTENSION)

    monkeypatch.setattr(toolkit, "find", lambda: toolkit.Toolkit(tmp_path / "cuda", "13.0"))
    monkeypatch.setattr(toolkit, "site_packages", lambda: tmp_path / "site")
    monkeypatch.setattr(extension, "_prepare_environment", lambda home: None)
    monkeypatch.setattr(extension, "_sources", lambda: [Path("a.cu")])
    monkeypatch.setattr(extension, "_compile", compile_into)
    with pytest.raises(AiwmError, match=r"cuda\.h") as caught:
        extension._build(tmp_path, lambda *told: None)
    assert caught.value.code == Code.backend_unavailable
    assert not (tmp_path / "built").exists()
    extension._build(tmp_path, lambda *told: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["built", "exllamav2_ext.so"]


def test_what_was_built_once_is_loaded_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit, "builds", lambda: tmp_path)
    monkeypatch.setattr(toolkit, "versions", lambda: "v")
    monkeypatch.setattr(extension, "_architectures", lambda: ["8.6", "9.0"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, availability.EXTENSION, raising=False)
    folder = tmp_path / "v-sm86-sm90"
    loaded: list[Path] = []

    def load(path: Path) -> ModuleType:
        loaded.append(path)
        return ModuleType(availability.EXTENSION)

    def build(place: Path, progress: object) -> ModuleType:
        (place / "built").touch()
        return ModuleType(availability.EXTENSION)

    monkeypatch.setattr(extension, "_import", load)
    monkeypatch.setattr(extension, "_build", build)
    assert not toolkit.built_before()
    for _ in range(2):
        extension.load_extension(lambda *told: None)
        assert sys.modules.pop(availability.EXTENSION).__name__ == availability.EXTENSION
    assert loaded == [folder / "exllamav2_ext.so"]  # the second time
    assert toolkit.built_before()


def test_a_build_says_how_long_it_will_take() -> None:
    assert extension._words(0.02, 10.0) == "building exllamav2's extension, 2%"
    assert extension._words(0.25, 60.0) == "building exllamav2's extension, 25%, about 4 min left"


# -- answers -------------------------------------------------------------------------------------------------------------


def test_an_answer_counts_what_was_cached_and_ends_where_its_constraint_does() -> None:
    from engine.inference.backends.answer import Answer
    from engine.inference.backends.base import Delta, Finished

    class Two:
        """Done after two tokens."""

        def __init__(self) -> None:
            self.seen: list[int] = []

        @property
        def done(self) -> bool:
            return len(self.seen) == 2

        def mask(self) -> bytes | None:
            return None

        def advance(self, token: int) -> None:
            self.seen.append(token)

    def decode(tokens: Any) -> str:
        return "".join(map(chr, tokens))

    constraint = Two()
    prepared = Prepared(Request("r", prompt="abc", sampling=Sampling(max_tokens=9)), "abc", (1, 2, 3), constraint)
    answer = Answer(prepared, decode, {2}, context=64)
    answer.cached = 2
    assert answer.take(65) == [Delta("r", "A", 1)]
    assert answer.take(66) == [Delta("r", "B", 1), Finished("r", "stop", 3, 2, 2)]
    assert constraint.seen == [65, 66]
    short = Answer(prepared, decode, {2}, context=4)
    assert short.limit == 1
    assert short.take(2) == [Finished("r", "stop", 3, 0)]  # an end token is nothing to a constraint
