"""The envelopes of azure-functions-durable: objects of classes with `to_json`, stored beside the name of their class.

Anybody who can send an event can write one. So nothing is imported for it, no class is given that the annotation does
not allow, and what cannot be opened stays what it is: a dict.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from durable_ext.codec.decode import Restorer, from_json
from durable_ext.errors import CodecError

_ENVELOPE = frozenset({"__class__", "__module__", "__data__"})


class Opening:
    """Opens the envelopes in one value. `problems` says which were left as they are, and why."""

    def __init__(self, restorer: Restorer | None) -> None:
        self._restorer = restorer
        self.problems: list[str] = []

    def of(self, tree: Any) -> Any:
        """The value with the objects in the place of their envelopes. Raises `CodecError` if `from_json` does."""
        return self._open(tree, is_whole=True) if _is_envelope(tree) else self._inside(tree)

    def _inside(self, tree: Any, *, of_object: bool = False) -> Any:
        if _is_envelope(tree):
            return self._open(tree, of_object=of_object)
        if type(tree) is dict:
            return {key: self._inside(each, of_object=of_object) for key, each in tree.items()}
        if type(tree) is list:
            return [self._inside(each, of_object=of_object) for each in tree]
        return tree

    def _open(self, envelope: dict[str, Any], *, is_whole: bool = False, of_object: bool = False) -> Any:
        kind = self._class(envelope["__module__"], envelope["__class__"])
        if isinstance(kind, str):
            self.problems.append(kind)
            return envelope
        if not (of_object or self._allows(kind, is_whole=is_whole)):
            self.problems.append(f"a stored {kind.__module__}.{kind.__name__} is not of an annotated class")
            return envelope
        data = self._inside(envelope["__data__"], of_object=True)
        try:
            return from_json(kind, data)
        except ValueError as error:
            raise CodecError(str(error)) from error

    def _class(self, module: Any, name: Any) -> type | str:
        """The class, or what is wrong with it."""
        called = f"a stored {_shown(module)}.{_shown(name)} cannot be read"
        if not isinstance(module, str) or not isinstance(name, str):
            return f"{called}: the module is not imported, or has no such class"
        known = self._restorer.classes.get((module, name)) if self._restorer else None
        if known is not None:  # also finds classes that are no attribute of their module
            return known
        loaded = sys.modules.get(module)
        if loaded is None or not issubclass(type(loaded), types.ModuleType):
            return f"{called}: the module is not imported. Import it in the app."
        # Not getattr, nor vars(): modules that load themselves when they are touched would.
        kind = types.ModuleType.__getattribute__(loaded, "__dict__").get(name)
        if not isinstance(kind, type):
            return f"{called}: the module has no such class. Was it moved?"
        if not callable(getattr(kind, "from_json", None)):
            return f"{called}: the class has no from_json. Add a static one."
        return kind

    def _allows(self, kind: type, *, is_whole: bool) -> bool:
        restorer = self._restorer
        if restorer is None or (restorer.open_ended and not is_whole):
            return True
        return any(issubclass(kind, each) for each in restorer.classes.values())


def _is_envelope(value: Any) -> bool:
    return type(value) is dict and value.keys() >= _ENVELOPE


def _shown(name: Any) -> str:
    """A name from outside, fit for a log."""
    text = name if isinstance(name, str) and name.isprintable() else ascii(name)
    return text if len(text) <= 80 else text[:77] + "..."
