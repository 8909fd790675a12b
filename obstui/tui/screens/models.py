"""The models of this machine: dense ones, and under each the variants that jobs made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

from obstui.models import Base, Catalogue, Dependants, Variant, catalogue, registered
from obstui.text import one_line, short_model
from obstui.tui import formats
from obstui.tui.follow import Fault, MadeReading
from obstui.tui.screens.ask import Ask, Asked
from obstui.tui.screens.choice import Choice
from obstui.tui.screens.confirm import Confirm, Question
from obstui.tui.screens.view import View
from obstui.tui.theme import style
from obstui.tui.widgets.sheet import Head, Sheet, cell
from obstui.tui.widgets.still import Still
from obstui.tui.writer import Declined, sentence

if TYPE_CHECKING:
    from obstui.config import Paths
    from obstui.store import Reader, Store
    from obstui.tui.follow import Snapshot

HEADS = (
    Head("model", "model", 16, right=False),
    Head("sparsity", "sparsity", 8),
    Head("params", "params", 7),
    Head("size", "on disk", 8),
    Head("made", "made by", 10, right=False),
    Head("used", "used by", 8, right=False),
    Head("method", "method", 9, right=False),
)
_EXPORTS = (
    ("diffusers", "diffusers: as it is, with its card"),
    ("pth", "pth: one pickle, as the published ones are"),
    ("dense", "dense: zeros for what was cut, loads in stock diffusers"),
)
_WRITES = ("add", "import", "export", "delete")

Entry = Base | Variant


class CatalogueReading(MadeReading[Catalogue]):
    """Reads all models and walks their folders; also again once a name was given."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def version(self, reader: Reader) -> object:
        return super().version(reader), registered(self._paths)

    def read(self, reader: Reader) -> Catalogue:
        return catalogue(reader, self._paths)


class ModelsScreen(View[None]):
    """A tree in a table: a base, then its variants, those of one job together."""

    place = "models"
    CSS_PATH = "models.tcss"
    AUTO_FOCUS = "#catalogue"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "layers", "Layers", id="models.layers",
                tooltip="What was kept of every layer of the chosen variant"),
        Binding("n", "add", "Add", id="models.add",
                tooltip="Give a model a name that every job takes"),
        Binding("i", "import", "Import", id="models.import",
                tooltip="Queue the import of a published .pth file"),
        Binding("v", "verify", "Verify", id="models.verify",
                tooltip="Compare the variant's files with their hashes and its parameters"),
        Binding("e", "export", "Export", id="models.export",
                tooltip="Queue the export of the variant for other programs"),
        Binding("x", "delete", "Delete", id="models.delete",
                tooltip="Delete the variant with its files, or forget a model's name"),
        Binding("o", "job", "Its job", id="models.job", show=False,
                tooltip="The job that made the variant"),
        Binding("escape", "back", "Back", id="models.back", show=False,
                tooltip="Go back to the queue"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._drawn: object = None
        self._entries: dict[str, Entry] = {}
        self._reading: CatalogueReading | None = None

    def compose_body(self) -> ComposeResult:
        yield Still(id="models-caption")
        yield Sheet(id="catalogue")
        yield Still(id="models-nothing")
        yield Still(id="models-where")
        yield Still(id="models-facts")

    # -- showing -----------------------------------------------------------------------------

    def ask_follower(self) -> None:
        self._reading = self._reading or CatalogueReading(self.dashboard.paths)
        self.dashboard.follow(None, reading=self._reading)

    async def show(self, snapshot: Snapshot) -> None:
        await super().show(snapshot)
        page = snapshot.page_of(self._reading)
        look = (page, self.size, self.app.theme)
        if look == self._drawn:
            return
        if isinstance(page, Fault):
            self.query_one(Sheet).display = False
            self.query_one("#models-nothing", Still).show(Text(page.words, style("muted")))
        elif isinstance(page, Catalogue):
            self.query_one(Sheet).display = True
            self.query_one("#models-nothing", Still).show("")
            self._draw(page)
        self._drawn = look

    def _draw(self, found: Catalogue) -> None:
        rows: dict[str, list[Text]] = {}
        self._entries = {}
        for base, variants in _trees(found):
            key = f"base {base.name} {base.source}"
            self._entries[key], rows[key] = base, _base_cells(base)
            for place, variant in enumerate(variants, 1):
                key, last = f"variant {variant.id}", place == len(variants)
                self._entries[key], rows[key] = variant, _variant_cells(variant, last=last)
        name = replace(HEADS[0], width=40 if self.size.width >= 120 else HEADS[0].width)
        self.query_one(Sheet).show((name, *HEADS[1:]), rows)
        self._draw_lines(found)
        self.refresh_bindings()

    @property
    def _chosen(self) -> Entry | None:
        tables = self.query(Sheet)  # empty while the screen goes
        return self._entries.get(tables.first().chosen or "") if tables else None

    @on(Sheet.Chosen)
    def _row_chosen(self) -> None:
        page = self.dashboard.snapshot.page_of(self._reading)
        self._draw_lines(page if isinstance(page, Catalogue) else None)
        self.refresh_bindings()

    def _draw_lines(self, found: Catalogue | None) -> None:
        if found is not None:
            self.query_one("#models-caption", Still).show(self._caption(found))
        where, facts = _line(), _line()
        match self._chosen:
            case Base() as base:
                where.append(_base_words(base), style("text"))
                facts.append(_used(base.used_by), style("muted"))
            case Variant() as variant:
                gone = variant.size_bytes is None
                where.append("not on this disk: " if gone else "", style("warn"))
                where.append(one_line(variant.path, limit=400), style("text"))
                facts.append(f"{_used(variant.used_by)}{_errors(variant)}", style("muted"))
        self.query_one("#models-where", Still).show(where)
        self.query_one("#models-facts", Still).show(facts)

    def _caption(self, found: Catalogue) -> Text:
        line = _line()
        bases, variants = len(found.bases), len(found.variants)
        octets = sum(variant.size_bytes or 0 for variant in found.variants)
        line.append(f"{bases:,} dense model{'' if bases == 1 else 's'}, ", style("text"))
        line.append(f"{variants:,} variant{'' if variants == 1 else 's'}", style("text"))
        if octets:
            line.append(f" of {formats.size(octets)}", style("muted"))
        line.append_text(self.query_one(Sheet).hint())
        return line

    # -- acting ------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in _WRITES and self.dashboard.readonly:
            return False
        if action in ("layers", "verify", "export", "job"):
            return isinstance(self._chosen, Variant)
        if action == "delete":
            chosen = self._chosen
            return isinstance(chosen, Variant) or (chosen is not None and chosen.registered)
        return super().check_action(action, parameters)

    def action_back(self) -> None:
        self.dismiss()

    @on(DataTable.RowSelected)
    def action_layers(self) -> None:
        from obstui.tui.screens.layers import LayersScreen

        if isinstance(variant := self._chosen, Variant):
            self.app.push_screen(LayersScreen(variant.id))

    def action_job(self) -> None:
        if isinstance(variant := self._chosen, Variant):
            self.dashboard.open_job(variant.job_id)

    def action_verify(self) -> None:
        from obstui.tui.screens.verify import VerifyScreen

        if isinstance(variant := self._chosen, Variant):
            self.app.push_screen(VerifyScreen(variant.id, variant.path))

    def action_add(self) -> None:
        paths = self.dashboard.paths

        def register(store: Store, answers: Mapping[str, str]) -> str:
            from obstui.models import register

            source = register(paths, answers["name"], answers["source"])
            return f"{answers['name']} stands for {one_line(source, limit=120)}."

        asked = (
            Asked("name", "name", "how jobs call it, as in --model NAME"),
            Asked("source", "source", "owner/name, modelscope:ID, a folder, a .safetensors file"),
        )
        self.app.push_screen(Ask("Add a model", asked, "Add it", register), self._said)

    def action_import(self) -> None:
        def enqueue(store: Store, answers: Mapping[str, str]) -> str:
            from obstui.lookup import checked

            spec = checked({"kind": "import", "file": answers["file"],
                            "base": answers["base"] or None})  # fmt: skip
            return f"Queued job {store.enqueue(spec).id}, which imports the file."

        asked = (
            Asked("file", "file", "a published .pth; nothing in it is run"),
            Asked("base", "base", "the dense model it was cut from, if known", needed=False),
        )
        self.app.push_screen(Ask("Import a variant", asked, "Queue the job", enqueue), self._said)

    def _said(self, words: str | None) -> None:
        if words:
            self.notify(words, markup=False, timeout=5)

    def action_export(self) -> None:
        if isinstance(variant := self._chosen, Variant):
            title = f"Export {one_line(variant.id, limit=40)} as"

            def answered(chosen: str | None) -> None:
                if chosen is not None:
                    self._export(variant.id, chosen)

            self.app.push_screen(Choice(title, _EXPORTS), answered)

    @work(group="models", exit_on_error=False, description="queue an export")
    async def _export(self, variant: str, chosen: str) -> None:
        def enqueue(store: Store) -> str:
            from obstui.lookup import checked

            spec = checked({"kind": "export", "variant": variant, "format": chosen})
            number = store.enqueue(spec).id
            return f"Queued job {number}, which exports {variant} as {chosen} and tells where to."

        await self._carry_out(enqueue)

    async def _carry_out(self, act: Callable[[Store], str]) -> None:
        try:
            self._said(await self.dashboard.write(act))
        except Declined as err:
            self.notify(str(err), severity="error", markup=False)

    @work(group="models", exclusive=True, exit_on_error=False, description="ask before a delete")
    async def action_delete(self) -> None:
        chosen = self._chosen
        if chosen is None:
            return
        ref = chosen.id if isinstance(chosen, Variant) else chosen.source
        try:
            needed = await asyncio.to_thread(_dependants, self.dashboard.paths, ref)
        except Exception as err:
            self.notify(sentence(err), severity="error", markup=False)
            return
        if isinstance(chosen, Base):
            question = _forgetting(chosen, needed)
        elif needed.unfinished:
            words = f"{_jobs(needed.unfinished)} still need{_s(needed.unfinished)} {chosen.id}: "
            self.notify(f"{words}cancel, or let it finish first.", severity="warning", markup=False)
            return
        else:
            question = _deleting(chosen, needed)

        def answered(yes: bool | None) -> None:
            if yes:
                self._delete(chosen)

        self.app.push_screen(Confirm(question), answered)

    @work(group="models", exit_on_error=False, description="delete a model")
    async def _delete(self, chosen: Entry) -> None:
        await self._carry_out(lambda store: _delete(store, self.dashboard.paths, chosen))


def _dependants(paths: Paths, ref: str) -> Dependants:
    from obstui.models import dependants
    from obstui.store import Reader

    with Reader.open(paths) as reader:
        return dependants(reader, ref)


def _delete(store: Store, paths: Paths, chosen: Entry) -> str:
    from obstui.models import remove_variant, unregister

    if isinstance(chosen, Base):
        unregister(paths, chosen.name)
        return f"{chosen.name} is no model's name any more; its files are as they were."
    return f"Deleted {chosen.id} from {one_line(remove_variant(store, chosen.id), limit=120)}."


def _deleting(variant: Variant, needed: Dependants) -> Question:
    size = (
        formats.size(variant.size_bytes) if variant.size_bytes is not None else "not on this disk"
    )
    used = (
        f"{_jobs(needed.finished)} used it: what was made with it stays, a retry would miss it. "
        if needed.finished
        else "No other job names it. "
    )
    return Question(
        f"Delete {one_line(variant.id, limit=40)} ({size})?",
        f"{used}Its files go from the disk. This cannot be undone.",
        yes="Delete it",
        no="Keep it",
    )


def _forgetting(base: Base, needed: Dependants) -> Question:
    jobs = (*needed.unfinished, *needed.finished)
    used = f"{_jobs(jobs)} took the model by its source and go on. " if jobs else ""
    return Question(
        f"Forget the name {one_line(base.name, limit=40)}?",
        f"{used}The model's files stay where they are.",
        yes="Forget it",
        no="Keep it",
    )


def _jobs(ids: Iterable[int]) -> str:
    known = tuple(ids)
    return f"Job {known[0]}" if len(known) == 1 else f"Jobs {_newest(known)}"


def _s(ids: tuple[int, ...]) -> str:
    return "s" if len(ids) == 1 else ""


# -- rows --------------------------------------------------------------------------------------


def _trees(found: Catalogue) -> list[tuple[Base, list[Variant]]]:
    """Every base with its variants; those of a base that no job names stand at the end."""
    by_source: dict[str, list[Variant]] = {}
    for variant in found.variants:
        by_source.setdefault(variant.base, []).append(variant)
    trees = [(base, by_source.pop(base.source, [])) for base in found.bases]
    lost = [(Base(source, source, False, None, None, ()), variants)
            for source, variants in by_source.items()]  # fmt: skip
    return trees + lost


def _base_cells(base: Base) -> list[Text]:
    return [
        cell(short_model(base.name), "strong", right=False),
        cell("–", "faint"),
        cell("–" if base.params is None else formats.params(base.params)),
        cell("–" if base.size_bytes is None else formats.size(base.size_bytes)),
        cell("", right=False),
        cell(_count(base.used_by), "muted", right=False),
        cell("", right=False),
    ]


def _variant_cells(variant: Variant, *, last: bool) -> list[Text]:
    tree = Text.assemble(("└ " if last else "├ ", style("faint")),
                         (one_line(variant.id, limit=200), style("text")),
                         no_wrap=True, overflow="ellipsis")  # fmt: skip
    gone = variant.size_bytes is None
    return [
        tree,
        cell(f"{variant.sparsity * 100:g} %"),
        cell(formats.params(variant.params)),
        cell("not here", "warn") if gone else cell(formats.size(variant.size_bytes or 0)),
        cell(f"{variant.kind} {variant.job_id}", "muted", right=False),
        cell(_count(variant.used_by), "muted", right=False),
        cell(one_line(variant.method, limit=40), right=False),
    ]


def _newest(jobs: tuple[int, ...], most: int = 10) -> str:
    words = ", ".join(map(str, jobs[-most:]))
    return f"{words} and {len(jobs) - most:,} more" if len(jobs) > most else words


def _count(jobs: tuple[int, ...]) -> str:
    return f"{len(jobs):,} job{'' if len(jobs) == 1 else 's'}" if jobs else "–"


def _line() -> Text:
    return Text(no_wrap=True, overflow="ellipsis")


def _base_words(base: Base) -> str:
    if base.source == "demo":
        return "the bundled demo model"
    if base.name != base.source:
        return f"{one_line(base.name, limit=60)} stands for {one_line(base.source, limit=300)}"
    return one_line(base.source, limit=300)


def _used(jobs: tuple[int, ...]) -> str:
    return f"used by {_jobs(jobs).lower()}" if jobs else "no job uses it"


def _errors(variant: Variant) -> str:
    figures = (("mean error", variant.mean_error), ("held-out error", variant.held_out_error))
    return "".join(f"  {name} {value:.4f}" for name, value in figures if value is not None)
