"""The keys that people choose themselves: what the settings file calls the actions."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping

from textual.binding import Binding
from textual.dom import DOMNode

from obstui.config import Settings
from obstui.text import one_line


def known_ids() -> dict[str, Binding]:
    """Every action of ours that has a key, by its id. Loads all screens and widgets."""
    from obstui.tui import screens, widgets
    from obstui.tui.app import Dashboard

    found: dict[str, Binding] = {}
    owners: list[type[DOMNode]] = [Dashboard]
    for package in (screens, widgets):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            loaded = importlib.import_module(module.name)
            owners += [
                each
                for _, each in inspect.getmembers(loaded, inspect.isclass)
                if issubclass(each, DOMNode) and each.__module__ == module.name
            ]
    for owner in owners:
        for binding in owner.__dict__.get("BINDINGS", ()):
            if isinstance(binding, Binding) and binding.id:
                found[binding.id] = binding
    return found


def doubled(keys: Mapping[str, str]) -> str | None:
    """The sentence that says which key these settings give to two actions of one screen, of which
    only one can have it; None if there is none. The dashboard's own actions are on every screen."""
    owners: dict[tuple[str, str], str] = {}
    for name, pressed in sorted(keys.items()):
        for key in (each.strip() for each in pressed.split(",")):
            place = name.partition(".")[0]
            there = [known for (whose, held), known in owners.items()
                     if held == key and (place == whose or "app" in (place, whose))]  # fmt: skip
            if there:
                both = f"The key {one_line(key, limit=20)} is given to both {there[0]} and {name}"
                return f"{both}: give one of them another in [keys] of {Settings.path()}."
            owners[place, key] = name
    return None


def wrong_ids(keys: Mapping[str, str]) -> str | None:
    """The sentence that says which of these ids no action has; None if all are known."""
    wrong = sorted(set(keys) - set(known_ids()))
    if not wrong:
        return None
    names = one_line(", ".join(wrong), limit=80)
    return f"No action is called {names}: see [keys] in {Settings.path()}; ? lists the names."
