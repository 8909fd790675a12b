"""The keys that people choose themselves: what the settings file calls the actions."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping

from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import ModalScreen

from obstui.config import Settings
from obstui.text import one_line


def known_ids() -> dict[str, Binding]:
    """Every action of ours that has a key, by its id. Loads all screens and widgets."""
    return {name: binding for owner in _owners() for name, binding in _own(owner).items()}


def _owners() -> list[type[DOMNode]]:
    """All of ours that may have keys."""
    from obstui.tui import screens, widgets
    from obstui.tui.app import Dashboard

    owners: list[type[DOMNode]] = [Dashboard]
    for package in (screens, widgets):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            loaded = importlib.import_module(module.name)
            owners += [
                each
                for _, each in inspect.getmembers(loaded, inspect.isclass)
                if issubclass(each, DOMNode) and each.__module__ == module.name
            ]
    return owners


def _own(owner: type) -> dict[str, Binding]:
    bindings = owner.__dict__.get("BINDINGS", ())
    return {each.id: each for each in bindings if isinstance(each, Binding) and each.id}


def _together() -> Iterator[dict[str, Binding]]:
    """The actions that have keys at the same time: those of a screen or a widget, of what it is
    derived from, and, but over a question, the dashboard's own."""
    dashboard, *others = _owners()
    for owner in others:
        found = {} if issubclass(owner, ModalScreen) else _own(dashboard)
        for base in owner.__mro__:
            found |= _own(base)
        yield found


def doubled(keys: Mapping[str, str]) -> str | None:
    """The sentence that says which key these settings give to an action while another one on the
    same screen has it, by the settings or from the beginning; None if there is none."""
    for actions in _together():
        owners: dict[str, str] = {}
        chosen = [name for name in sorted(actions) if name in keys]
        for name in [*chosen, *(name for name in actions if name not in keys)]:
            for key in keys.get(name, actions[name].key).split(","):
                other = owners.setdefault(key.strip(), name)
                if other != name and other in keys:
                    both = f"The key {one_line(key, limit=20)} is given to both {other} and {name}"
                    return f"{both}: give one of them another in [keys] of {Settings.path()}."
    return None


def wrong_ids(keys: Mapping[str, str]) -> str | None:
    """The sentence that says which of these ids no action has; None if all are known."""
    wrong = sorted(set(keys) - set(known_ids()))
    if not wrong:
        return None
    names = one_line(", ".join(wrong), limit=80)
    where = f"see [keys] in {Settings.path()}"
    return f"No action is called {names}: {where}; ? on each screen lists its names."
