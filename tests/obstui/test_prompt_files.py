"""Prompt files of every layout, large, hostile and damaged ones among them."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import pytest

from obstui import prompt_files
from obstui.prompt_files import PromptFile, read_prompts
from obstui.specs import BadSpec
from obstui.tui.form import spec_data


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_text_has_one_prompt_a_line(tmp_path: Path) -> None:
    file = written(tmp_path / "p.txt", "\ufeffone\r\n\n  two  \none\n\t\nthree")
    assert read_prompts(file) == PromptFile(("one", "two", "three"), blank=2, duplicate=1)
    assert read_prompts(file).skipped == "2 blank and 1 repeated"
    assert read_prompts(file, first=2).prompts == ("one", "two")
    assert read_prompts(file, first=1) == PromptFile(("one",))
    assert read_prompts(file, first=1).skipped == ""
    assert len(read_prompts(file, first=50).prompts) == 3


def test_conceptual_captions(tmp_path: Path) -> None:
    rows = (
        'a very typical bus station\thttp://a/b.jpg\n"quoted" is no quote\thttp://c\n\thttp://d\n'
    )
    file = written(tmp_path / "Train_GCC-training.tsv", rows)
    assert read_prompts(file) == PromptFile(
        ("a very typical bus station", '"quoted" is no quote'), blank=1
    )
    file = written(tmp_path / "header.TSV", "url\tcaption\nhttp://a\tone\nhttp://b\ttwo\n")
    assert read_prompts(file).prompts == ("one", "two")


def test_csv_by_its_header_or_the_first_column(tmp_path: Path) -> None:
    file = written(tmp_path / "p.csv", 'id,Caption\n1,"a cat, sitting"\n2,"said ""hi""\nto all"\n')
    assert read_prompts(file).prompts == ("a cat, sitting", 'said "hi" to all')
    file = written(tmp_path / "q.csv", "text,prompt,n\nfrom text,from prompt,1\nshort\n")
    assert read_prompts(file).prompts == ("from text", "short")
    file = written(tmp_path / "r.csv", "a dog,12\na fox,13\n")
    assert read_prompts(file) == PromptFile(("a dog", "a fox"), unnamed=True)
    file = written(tmp_path / "s.csv", "n,prompt\n1,one\n2\n")
    assert read_prompts(file) == PromptFile(("one",), blank=1)


def test_coco_captions(tmp_path: Path) -> None:
    captions = {
        "info": {"caption": "not this"},
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(3)],
        "annotations": [
            {"image_id": n // 2, "id": n, "caption": text}
            for n, text in enumerate(["A bicycle.\n", "A café", " ", "A bicycle."])
        ],
    }
    file = written(tmp_path / "captions_val2014.json", json.dumps(captions))
    assert read_prompts(file) == PromptFile(("A bicycle.", "A café"), blank=1, duplicate=1)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.txt", "", "is empty: write one prompt a line"),
        ("p.txt", "\n \n", "is empty: write one prompt a line"),
        ("p.txt", b"one\n\xff\xfetwo\n", r"Line 2 of \S+p.txt is not UTF-8 text"),
        ("p.txt", "a\0b", "Line 1 of .* is not UTF-8 text"),
        ("p.txt", b"\x1f\x8b\x08\x00", "unpack it"),
        ("p.txt", "a\n" + "x" * (10 << 20), "Line 2 of .* is longer than 64 KiB"),
        ("p.tsv", "one prompt a line\n", r"Line 1 of .* has no tab"),
        ("p.tsv", "one\thttp://a\nhttp://b\ttwo\n", "Line 2 of .* an address where"),
        ("p.csv", "https://a,b\n", "Line 1 of .* an address where"),
        ("p.csv", 'caption\n"one\n"two" three\n', "Line 3 of .* is not valid CSV"),
        ("p.csv", 'caption\n"' + "never closed\n" * 20_000, r"Line \d+ of .* is not valid CSV"),
        ("p.json", '{"images": [], "annotations": []}', "has no annotations with captions"),
        ("p.json", '["a", "b"]', "has no annotations with captions"),
        ("p.json", '{"annotations": [{"caption": "a"}, {"cap', "not valid JSON after caption 1"),
        ("p.json", "one prompt a line", "p.json is not valid JSON: fetch it again"),
        ("p.json", b'{"annotations": [{"caption": "\xff"}]}', "not valid JSON"),
        ("p.json", '{"annotations": [{"caption": {"a": 1}}]}', "Caption 1 of .* is not a text"),
        ("p.json", '{"annotations": ' + "[" * 200_000, "not valid JSON"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_and_where_in_one_sentence(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    with pytest.raises(BadSpec, match=words) as caught:
        read_prompts(written(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "zeros.txt").open("wb") as stream:
        stream.truncate(256 << 20)
    tracemalloc.start()
    with pytest.raises(BadSpec, match=r"Line 1 of .* is longer"):
        read_prompts(tmp_path / "zeros.txt")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match=r"Cannot read the prompt file .*none\.txt: No such file"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(BadSpec, match="Is a directory"):
        read_prompts(tmp_path)


def test_hostile_text_is_harmless(tmp_path: Path) -> None:
    hostile = "a \x1b[31mred\x1b[0m [bold]hat[/] \x9b2J\u202egnp.exe\x07"
    safe = "a red [bold]hat[/] gnp.exe"
    assert read_prompts(written(tmp_path / "p.txt", hostile)).prompts == (safe,)
    assert read_prompts(written(tmp_path / "p.tsv", hostile + "\thttp://a")).prompts == (safe,)
    coco = json.dumps({"annotations": [{"caption": hostile}]})
    assert read_prompts(written(tmp_path / "p.json", coco)).prompts == (safe,)
    with pytest.raises(BadSpec) as caught:
        read_prompts(tmp_path / "\x1b[2Jevil\n.txt")
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_too_many_prompts_ask_for_a_number(tmp_path: Path) -> None:
    file = written(tmp_path / "many.txt", "".join(f"prompt {n}\n" for n in range(10_001)))
    with pytest.raises(BadSpec, match="more than 10000 prompts: say with --num-prompts"):
        read_prompts(file)
    assert len(read_prompts(file, first=10_000).prompts) == 10_000


def test_the_form_takes_as_many_as_the_job_wants(tmp_path: Path) -> None:
    file = written(tmp_path / "c.tsv", "".join(f"c{n}\thttp://{n}\n" for n in range(20_000)))
    answers = {"prompt_file": str(file)}
    assert len(spec_data("prune", answers)["prompts"]) == 100
    assert len(spec_data("compare", answers)["prompts"]) == 8
    assert len(spec_data("prune", {**answers, "num_prompts": "250"})["prompts"]) == 250
    with pytest.raises(BadSpec, match="more than 10000 prompts"):
        spec_data("generate", answers)


def test_repeats_do_not_search_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_files, "MAX_ROWS", 1000)
    file = written(tmp_path / "same.txt", "the same\n" * 2000)
    with pytest.raises(BadSpec, match="only 1 different prompts in its first 1000 rows"):
        read_prompts(file, first=2)


@pytest.mark.parametrize("name", ["big.tsv", "big.csv", "big.txt", "big.json"])
def test_only_the_start_of_a_large_file_is_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    heads = {".json": '{"annotations": [', ".csv": "caption,url\n"}
    bodies = {
        ".json": '{"caption": "caption %d"},', ".csv": "caption %d,http://a\n",
        ".tsv": "caption %d\thttp://a\n", ".txt": "caption %d\n",
    }  # fmt: skip
    with file.open("w") as stream:
        stream.write(heads.get(file.suffix, ""))
        stream.writelines(bodies[file.suffix] % n for n in range(100_000))
        stream.truncate(4 << 30)  # the rest is a hole of zeros: reading it would fail, or take long
    tracemalloc.start()
    begun = time.monotonic()
    found = read_prompts(file, first=100)
    taken = time.monotonic() - begun
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.prompts[0] == "caption 0"
    assert len(found.prompts) == 100
    assert peak < 4 << 20
    assert taken < 2


def test_json_lines_are_no_prompts(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="one value a line"):
        read_prompts(written(tmp_path / "p.jsonl", '{"prompt": "a cat"}\n'))
