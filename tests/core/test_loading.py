"""Loading from folders, a hub over real HTTP, and what is said when it does not work."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file

from core import demo, loading, prompts, sources
from core.errors import BadInput
from core.targets import find_targets

COMMIT = "c" * 40


def one_sentence(error: pytest.ExceptionInfo[BadInput]) -> str:
    """The message, which must be one line that also says what to do."""
    text = str(error.value)
    assert "\n" not in text
    assert ": " in text
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline folder that a test may break."""
    copy = tmp_path / "model"
    shutil.copytree(demo.MODEL_DIR, copy)
    return copy


def test_demo_loads_in_the_asked_precision_on_the_cpu() -> None:
    pipe = loading.load_pipeline("demo", device="cpu", dtype=torch.float32)
    assert pipe.unet.dtype == torch.float32
    assert pipe.text_encoder_2.dtype == torch.float32
    assert loading.default_size(pipe) == 64
    assert find_targets(pipe.unet)


def test_fp16_files_are_preferred_for_half_precision_and_optional(folder: Path) -> None:
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        [plain] = (folder / part).glob("*.safetensors")
        plain.rename(plain.with_name(plain.name.replace(".safetensors", ".fp16.safetensors")))
    half = loading.load_pipeline(str(folder), device="cpu", dtype=torch.float16)
    assert half.unet.dtype == torch.float16
    # With fp16 files only, full precision reads those.
    full = loading.load_pipeline(str(folder), device="cpu", dtype=torch.float32)
    key = "conv_in.weight"
    assert torch.equal(full.unet.state_dict()[key], half.unet.state_dict()[key].float())


def test_truncated_weights_are_named(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    with weights.open("rb+") as file:
        file.truncate(weights.stat().st_size // 2)
    with pytest.raises(BadInput) as error:
        loading.load_pipeline(str(folder), device="cpu")
    assert str(weights) in one_sentence(error)


def test_missing_parts_are_named(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadInput) as error:
        loading.load_pipeline(str(folder), device="cpu")
    assert str(folder / "vae") in one_sentence(error)
    shutil.rmtree(folder / "tokenizer_2")
    with pytest.raises(BadInput) as error:
        loading.load_pipeline(str(folder), device="cpu")
    assert str(folder / "tokenizer_2") in one_sentence(error)


def test_missing_shard_is_named(folder: Path) -> None:
    unet = folder / "unet"
    first = "diffusion_pytorch_model-00001-of-00002.safetensors"
    last = "diffusion_pytorch_model-00002-of-00002.safetensors"
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / first)
    index = {"weight_map": {"a": first, "b": last}}
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput) as error:
        loading.load_pipeline(str(folder), device="cpu")
    assert last in one_sentence(error)


def test_pickled_weights_are_refused(folder: Path) -> None:
    for file in (folder / "unet").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(BadInput) as error:
        loading.load_pipeline(str(folder), device="cpu")
    assert "pickled" in one_sentence(error)
    pickle = folder / "model.ckpt"
    pickle.write_bytes(b"x")
    with pytest.raises(BadInput) as error:
        loading.load_pipeline(str(pickle), device="cpu")
    assert "pickle" in one_sentence(error)


def test_other_architectures_are_refused_by_name(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput) as error:
        loading.load_pipeline(str(folder), device="cpu")
    assert "not SDXL" in one_sentence(error)
    assert "StableDiffusionPipeline" in str(error.value)
    (folder / "model_index.json").unlink()
    with pytest.raises(BadInput) as error:
        loading.load_pipeline(str(folder), device="cpu")
    assert "model_index.json" in one_sentence(error)


@pytest.mark.parametrize("name", ["/no/such/folder", "./absent", "absent.safetensors", "a/b/c"])
def test_absent_paths_are_not_taken_for_hub_ids(name: str) -> None:
    with pytest.raises(BadInput, match="no folder or file"):
        loading.load_pipeline(name, device="cpu")


def test_single_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    save_file({"lora.weight": torch.zeros(2)}, file)
    with pytest.raises(BadInput) as error:
        loading.load_pipeline(str(file), device="cpu")
    assert "not a whole SDXL checkpoint" in one_sentence(error)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BadInput) as error:
        loading.load_pipeline(str(file), device="cpu")
    assert "cut short" in one_sentence(error)


def test_modelscope_goes_through_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)
    with pytest.raises(BadInput) as error:
        sources.locate("modelscope:owner/name", half=False)
    assert "pip install modelscope" in one_sentence(error)

    asked: list[str] = []

    def snapshot_download(model_id: str, *, allow_patterns: list[str]) -> str:
        asked.append(model_id)
        assert "model_index.json" in allow_patterns
        return str(demo.MODEL_DIR)

    package = ModuleType("modelscope")
    package.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modelscope", package)
    assert sources.locate("modelscope:owner/name", half=True) == demo.MODEL_DIR
    assert set(asked) == {"owner/name"}


def test_default_prompts_follow_the_seed_and_never_the_held_out_ones() -> None:
    drawn = loading.default_prompts("owner/name", 100, seed=3)
    assert drawn == loading.default_prompts("owner/name", 100, seed=3)
    assert drawn != loading.default_prompts("owner/name", 100, seed=4)
    assert len(set(drawn)) == 100
    assert not set(prompts.CALIBRATION) & set(prompts.HELD_OUT)
    assert loading.held_out_prompts("owner/name", 2) == prompts.HELD_OUT[:2]
    assert len(loading.default_prompts("demo", 5, seed=0)) == 5
    with pytest.raises(BadInput):
        loading.default_prompts("owner/name", 10_000, seed=0)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs: model info, file tree, files."""

    root: Path
    requests: list[str]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        files = {str(f.relative_to(self.root)): f for f in self.root.rglob("*") if f.is_file()}
        prefix = f"/tiny/sdxl/resolve/{COMMIT}/"
        if path in ("/api/models/tiny/sdxl", "/api/models/tiny/sdxl/revision/main"):
            siblings = [{"rfilename": name} for name in files]
            self.reply(json.dumps({"id": "tiny/sdxl", "sha": COMMIT, "siblings": siblings}))
        elif path == f"/api/models/tiny/sdxl/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": n, "size": f.stat().st_size, "oid": etag(f)[:40]}
                for n, f in files.items()
            ]
            self.reply(json.dumps(tree))
        elif path.startswith(prefix) and path.removeprefix(prefix) in files:
            self.send_file(files[path.removeprefix(prefix)])
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def reply(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def send_file(self, file: Path) -> None:
        data = file.read_bytes()
        start = 0
        if span := self.headers.get("Range"):
            start = int(span.removeprefix("bytes=").partition("-")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", f'"{etag(file)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (errors.IncompleteSnapshotError("", snapshot_path=""), "half downloaded"),
        (errors.OfflineModeIsEnabled("offline"), "cannot be reached"),
        (errors.LocalEntryNotFoundError("not cached"), "cannot be reached"),
        (errors.HTTPError("peer closed connection"), "peer closed connection"),
        (ConnectionResetError("reset by peer"), "reset by peer"),
    ],
)
def test_faults_of_a_download_are_told_apart(
    fault: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(BadInput, match=said) as error:
        loading.load_pipeline("owner/name", device="cpu")
    assert "owner/name" in one_sentence(error)


def etag(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub at an address, and the requests that it has had; it also holds files nobody needs."""
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    (folder / "sd_xl_base.safetensors").write_bytes(b"another form of the same weights")
    requests: list[str] = []
    handler = type("Handler", (Hub,), {"root": folder, "requests": requests})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


def in_a_fresh_process(
    script: str, home: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `script` with an empty Hugging Face configuration; its settings are read at import."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE"))}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**clean, "HF_HOME": str(home), **environment},
        cwd=Path(loading.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_hub_over_http(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    address, requests = hub
    home = tmp_path / "home"
    online = in_a_fresh_process(
        """
        from core import loading
        from core.errors import BadInput

        pipe = loading.load_pipeline("tiny/sdxl", device="cpu")
        print(type(pipe).__name__)
        try:
            loading.load_pipeline("tiny/absent", device="cpu")
        except BadInput as error:
            print(error)
        """,
        home,
        HF_ENDPOINT=address,
        HF_HUB_DISABLE_XET="1",
    )
    assert online.returncode == 0, online.stderr
    loaded, absent = online.stdout.splitlines()
    assert loaded == "StableDiffusionXLPipeline"
    assert "tiny/absent is not on the hub" in absent
    assert "%|" not in online.stderr  # no progress bars
    fetched = [r for r in requests if r.startswith("GET") and "/resolve/" in r]
    assert not [r for r in fetched if r.endswith(("sd_xl_base.safetensors", ".bin", "README.md"))]
    assert len(fetched) == len(set(fetched))

    offline = in_a_fresh_process(
        """
        from core import sources
        from core.errors import BadInput

        print(sources.locate("tiny/sdxl", half=True))
        for name in ("tiny/absent", "tiny/sdxl"):
            try:
                print(sources.check_folder(sources.locate(name, half=False), name))
            except BadInput as error:
                print(error)
        """,
        home,
        HF_ENDPOINT=address,
        HF_HUB_OFFLINE="1",
    )
    assert offline.returncode == 0, offline.stderr
    cached, absent, whole = offline.stdout.splitlines()
    assert cached.startswith(str(home))
    assert "tiny/absent is not on this machine and the hub cannot be reached" in absent
    assert whole == "None"
