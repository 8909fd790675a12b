"""The morning report, from a real store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from obstui.config import Paths
from obstui.report import (
    FIRST_LOOK,
    best_size,
    best_sizes,
    collect,
    finish_of,
    first_look,
    lost_words,
)
from obstui.specs import CompareSpec, GenerateSpec, PruneSpec
from obstui.store import Reader, Store
from obstui.tui.screens import report as screen
from tests.obstui.conftest import Clock
from tests.obstui.test_cli import Run, obstui

__all__ = ["obstui"]


def run(store: Store, clock: Clock, end: str, seconds: float, **more: Any) -> None:
    claim = store.claim("w", "cpu")
    assert claim is not None
    store.started(claim, 1, 2)
    clock.now += seconds
    assert store.finish(claim, end, **more)


def model(name: str, sparsity: float, params: int, **more: float | None) -> dict[str, Any]:
    known = {"attributes": None, "ssim": None, **more}
    return {"model": name, "sparsity": sparsity, "params": params, **known}


DENSE = model("dense", 0.0, 100, attributes=0.95)


def test_a_night(store: Store, reader: Reader, clock: Clock, paths: Paths) -> None:
    store.enqueue(PruneSpec())
    run(store, clock, "succeeded", 50.0, result={"variants": []})
    since = clock.now + 1
    clock.now += 100
    models = [
        DENSE,
        model("2@10", 0.1, 90, attributes=0.95),
        model("2@30", 0.3, 70, attributes=0.94),
        model("2@50", 0.5, 50, attributes=0.8),
    ]
    store.enqueue(PruneSpec(sparsity=(0.1, 0.3, 0.5)))
    made = [{"id": f"2@{level}", "sparsity": level / 100} for level in (10, 30, 50)]
    run(store, clock, "succeeded", 600.0, result={"variants": made})
    store.enqueue(CompareSpec(variants=("2@10", "2@30", "2@50")))
    run(store, clock, "succeeded", 300.0, result={"models": models})
    store.enqueue(GenerateSpec(prompts=("a cup",)))
    run(store, clock, "failed", 60.0, reason="oom_gpu", error="out of memory")
    store.enqueue(PruneSpec(num_prompts=200))
    store.cancel(store.enqueue(PruneSpec()).id)
    ulid = reader.jobs()[3].ulid
    output = paths.output(ulid)
    output.mkdir(parents=True)
    (output / "x.png").write_bytes(b"x" * 5000)

    found = collect(reader, paths, since=since, now=clock.now)
    assert [job.id for job in found.succeeded] == [2, 3]
    assert [(job.id, job.error) for job in found.failed] == [(4, "out of memory")]
    assert [job.id for job in found.other] == [6]
    [best] = found.best
    assert (best.model, best.params, best.good) == ("2@30", 70, True)
    assert found.device_seconds == {"cpu": 960.0}
    assert found.disk_bytes == 5000
    assert found.all_bytes is not None
    assert found.all_bytes > 5000
    assert found.counts["queued"] == 1
    finish = finish_of(reader, clock.now)
    assert finish.jobs == 1
    assert finish.p50 is not None
    # 200 prompts instead of 100, at 0.5 to 6 s a prompt.
    assert 60 < finish.p50 - clock.now < 2000


def test_nobody_can_tell_when_a_paused_queue_is_done(
    store: Store, reader: Reader, clock: Clock, paths: Paths
) -> None:
    store.enqueue(PruneSpec())
    run(store, clock, "succeeded", 50.0, result={"variants": []})
    store.enqueue(PruneSpec())
    assert finish_of(reader, clock.now).p50 is not None
    store.stop("*", "by hand")
    finish = finish_of(reader, clock.now)
    assert (finish.jobs, finish.waiting, finish.p50) == (0, 1, None)
    assert collect(reader, paths, since=0.0, now=clock.now).stops == ("the queue: by hand",)


def test_the_first_report_of_all_misses_nothing(store: Store, reader: Reader, clock: Clock) -> None:
    first = clock.now
    assert first_look(reader, first) == first - FIRST_LOOK
    store.enqueue(PruneSpec())
    assert first_look(reader, first + 10) == first + 10 - FIRST_LOOK
    assert first_look(reader, first + 3 * FIRST_LOOK) == first


def test_lost_attempts_that_were_taken_up_again_count(
    store: Store, reader: Reader, clock: Clock, paths: Paths
) -> None:
    store.enqueue(PruneSpec())
    run(store, clock, "queued", 50.0, reason="child_lost")  # before
    since = clock.now + 1
    clock.now += 100
    run(store, clock, "queued", 50.0, reason="child_lost", error="it was killed (SIGKILL).")
    clock.now += 100
    run(store, clock, "queued", 50.0, reason="drain")  # asked for
    run(store, clock, "succeeded", 50.0, result={"variants": []})
    store.enqueue(PruneSpec())
    run(store, clock, "queued", 50.0, reason="worker_lost")  # not taken up yet
    assert collect(reader, paths, since=since, now=clock.now).lost == 1
    assert collect(reader, paths, since=0.0, now=clock.now).lost == 2
    assert lost_words(1) == "1 attempt was lost and taken up again"
    assert lost_words(2) == "2 attempts were lost and taken up again"


def test_best_size_when_none_is_good_and_without_a_judge() -> None:
    def job(models: list[dict[str, Any]]) -> Any:
        class Job:
            id = 1
            spec = {"model": "demo"}  # noqa: RUF012
            result = {"models": models}  # noqa: RUF012

        return Job()

    bad = best_size(job([DENSE, model("1@50", 0.5, 50, attributes=0.5)]), ALL)
    assert bad is not None
    assert (bad.model, bad.good) == ("1@50", False)
    dense = model("dense", 0.0, 100)
    by_ssim = best_size(
        job([dense, model("1@10", 0.1, 90, ssim=0.99), model("1@30", 0.3, 70, ssim=0.9)]), ALL
    )
    assert by_ssim is not None
    assert by_ssim.model == "1@10"
    assert best_size(job([dense]), ALL) is None
    assert best_size(job([]), ALL) is None


ALL = {"1@10", "1@30", "1@50", "2@10", "3@20"}


def compared(
    job_id: int,
    models: list[dict[str, Any]],
    ssim: float | None = None,
    psnr: float | None = None,
) -> Any:
    reseed = {"pictures": 4, "psnr": psnr, "ssim": ssim, "latent_distance": None}
    result = {"models": models, "reseed": reseed}
    return SimpleNamespace(id=job_id, spec={"model": "demo"}, result=result)


def test_further_than_another_seed_is_never_best() -> None:
    models = [DENSE, model("1@30", 0.3, 70, attributes=0.95, ssim=0.4),
              model("1@10", 0.1, 90, attributes=0.95, ssim=0.8)]  # fmt: skip
    best = best_size(compared(1, models, ssim=0.5), ALL)
    assert best is not None
    assert (best.model, best.good) == ("1@10", True)
    best = best_size(compared(1, models[:2], ssim=0.5), ALL)
    assert best is not None
    assert not best.good
    models = [DENSE, model("1@30", 0.3, 70, attributes=0.95, ssim=0.9, psnr=30.0)]
    unlike = [DENSE, model("1@30", 0.3, 70, attributes=0.95, ssim=-0.1)]  # SSIM goes below zero
    best = best_size(compared(1, unlike, ssim=-0.01), ALL)
    assert best is not None
    assert not best.good
    found = [best_size(compared(1, models, psnr=psnr), ALL) for psnr in (29.9, 30.2)]
    assert [best and best.good for best in found] == [True, False]


def test_a_deleted_variant_is_never_best() -> None:
    sizes = (("1@30", 0.3, 70), ("1@10", 0.1, 90), ("/kept/by/me", 0.05, 95))
    models = [DENSE, *(model(*size, attributes=0.95) for size in sizes)]
    chosen = [best_size(compared(1, models), there) for there in ({"1@30", "1@10"}, {"1@10"}, ())]
    assert [best and best.model for best in chosen] == ["1@30", "1@10", "/kept/by/me"]
    assert best_size(compared(1, models[:3]), ()) is None


def test_a_base_has_one_best_size() -> None:
    few = [DENSE, model("1@30", 0.3, 70, attributes=0.95, pictures=4)]
    many = [DENSE, model("2@10", 0.1, 90, attributes=0.95, pictures=100)]
    smaller = [DENSE, model("3@20", 0.2, 80, attributes=0.95, pictures=100)]
    [best] = best_sizes([compared(1, few), compared(2, many), compared(3, smaller)], ALL)
    assert best.model == "3@20"
    [best] = best_sizes([compared(2, many), compared(1, few)], ALL)
    assert best.model == "2@10", "more pictures tell more"


def test_on_the_command_line(obstui: Run, tmp_path: Path) -> None:
    obstui("prune", "--name", "tonight [x](y) *z*")
    assert "1 queued" in obstui("report").out
    assert "taken up again" not in obstui("report").out
    obstui("cancel", "1")
    markdown = obstui("report", "--markdown", "--since", "2d").out
    assert markdown.startswith("# Since ")
    assert "## Left" in markdown
    data = obstui("report", "--json").data
    assert (data["counts"]["cancelled"], data["other"][0]["id"]) == (1, 1)
    assert obstui("report", "--since", "yesterday").code == 2


def test_a_store_elsewhere_says_nothing_of_the_state_folder(obstui: Run, tmp_path: Path) -> None:
    """What lies there need not be of its jobs."""
    store = "--db", str(tmp_path / "elsewhere.db")
    for where, told in (((), True), (store, False)):
        assert obstui(*where, "prune").code == 0
        assert ("in the state folder" in obstui(*where, "report").out) == told
    assert obstui(*store, "report", "--json").data["all_bytes"] is None
    paths = Paths(tmp_path / "home", tmp_path / "elsewhere.db")
    with Reader.open(paths) as reader:
        found = collect(reader, paths, since=0.0, now=1.0)
    shown = "\n".join(line.plain for line in screen.lines(found, None, readonly=False))
    assert "0 B by these jobs\n" in shown


def test_names_cannot_write_markdown(tmp_path: Path, obstui: Run) -> None:
    paths = Paths(tmp_path / "home", tmp_path / "home" / "jobs.db").ensure()
    with Store.open(paths) as store:
        store.enqueue(PruneSpec(name="[x](http://y) `z` <b>"))
        claim = store.claim("w", "cpu")
        assert claim is not None
        store.started(claim, 1, 2)
        store.finish(claim, "failed", error="\x1b[31m# big\n## heading")
    out = obstui("report", "--markdown").out
    assert "[x](" not in out
    assert "<b>" not in out.replace("\\<b\\>", "")
    assert "\x1b" not in out
    assert "\n## heading" not in out


def test_before_the_first_job_it_is_as_quiet_as_ls(obstui: Run, tmp_path: Path) -> None:
    done = obstui("report")
    assert (done.code, done.out, done.err) == (0, "", obstui("ls").err)
    empty = obstui("report", "--json").data
    assert not (tmp_path / "home").exists()
    obstui("prune")
    full = obstui("report", "--json").data
    assert empty.keys() == full.keys()
    assert empty["counts"] == {**full["counts"], "queued": 0}


def test_bad_input_is_not_simply_tried_again(tmp_path: Path, obstui: Run) -> None:
    paths = Paths(tmp_path / "home", tmp_path / "home" / "jobs.db").ensure()
    with Store.open(paths) as store:
        for reason in ("bad_input", "oom_gpu"):
            store.enqueue(PruneSpec())
            claim = store.claim("w", "cpu")
            assert claim is not None
            store.started(claim, 1, 2)
            store.finish(claim, "failed", reason=reason, error="no good")
    said = obstui("report").out
    assert "(obstui retry 1 --set FIELD=VALUE)" in said
    assert "(obstui retry 2)" in said


def test_one_job_is_no_jobs(tmp_path: Path, obstui: Run) -> None:
    paths = Paths(tmp_path / "home", tmp_path / "home" / "jobs.db").ensure()
    with Store.open(paths) as store:
        for number in ("1 job (1 prune)", "2 jobs (2 prune)"):
            store.enqueue(PruneSpec())
            claim = store.claim("w", "cpu")
            assert claim is not None
            store.started(claim, 1, 2)
            store.finish(claim, "succeeded", result={})
            assert number in obstui("report").out
