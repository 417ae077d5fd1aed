"""The codec: values to JSON text and back. All values that the package stores pass through one codec object.

Replace it to encrypt, compress or translate: wrap `JsonCodec`, or write the two methods anew.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol

import msgspec

from durable_ext.codec.decode import Restorer, from_json, restorer_for
from durable_ext.codec.encode import to_text, type_name
from durable_ext.errors import CodecError


class Codec(Protocol):
    """How values become stored text. `decode` must read what `encode` wrote, in every later release of the app.

    Both are called on hot paths and inside orchestrators: no I/O, and the same input gives the same output.
    """

    def encode(self, value: Any) -> str:
        """The value as JSON text. Raises `CodecError` if it cannot be stored."""
        ...

    def decode(self, text: str | None, expected_type: Any = None) -> Any:
        """The value in `text`, restored as `expected_type` says. No text is None. Raises `CodecError`."""


class JsonCodec:
    """Plain JSON in storage; types come back through annotations.

    Objects with `to_json` are stored in the envelope of azure-functions-durable, which names their class, and are
    read back only if the module of that class is imported already. An annotation that asks for no more than JSON
    is never checked: the value is what was stored. Text that is no JSON reads as itself.
    """

    def __init__(self) -> None:
        self._restorers: dict[Any, Restorer | None] = {}

    def encode(self, value: Any) -> str:
        """The value as JSON text. Raises `CodecError` if it cannot be stored without loss."""
        return to_text(value)

    def decode(self, text: str | None, expected_type: Any = None) -> Any:
        """The value in `text`, restored as `expected_type` says.

        Raises `CodecError` if the annotation asks for more than JSON and the value does not fit, or if an
        envelope cannot be opened.
        """
        if text is None:
            return None
        restorer = None if expected_type is None else self._restorer(expected_type)
        try:
            if '"__class__"' in text:
                return _restore_enveloped(_parse(text), restorer, expected_type)
            if restorer is None:
                return _parse(text)
            return restorer.from_text(text)
        except CodecError:
            raise
        except Exception as err:  # user code runs here too: __post_init__, validators, Enum._missing_
            problem = "cannot be read" if restorer is None else f"does not fit {type_name(expected_type)}"
            raise CodecError(f"a stored value {problem}: {str(err) or repr(err)}; {_shown(text)}") from err

    def _restorer(self, annotation: Any) -> Restorer | None:
        try:
            return self._restorers[annotation]
        except KeyError:
            found = self._restorers[annotation] = restorer_for(annotation)
            return found
        except TypeError:  # unhashable, so it is no type
            return None


_decode_json = msgspec.json.Decoder().decode


def _parse(text: str) -> Any:
    try:
        return _decode_json(text)
    except ValueError:
        pass
    # Python's own reader takes what others wrote with it: NaN, infinities, lone surrogates.
    try:
        return json.loads(text)
    except ValueError:
        return text


def _shown(text: str) -> str:
    return f"the value is {text if len(text) <= 120 else text[:117] + '...'}"


# --- envelopes ---------------------------------------------------------------------------------------

_ENVELOPE = frozenset({"__class__", "__module__", "__data__"})


def _restore_enveloped(tree: Any, restorer: Restorer | None, expected_type: Any) -> Any:
    """What the payload says of its class goes before what the annotation says."""
    if _is_envelope(tree):
        return _open(tree, expected_type)
    tree = _open_all(tree)
    return tree if restorer is None else restorer.from_tree(tree)


def _is_envelope(value: Any) -> bool:
    return type(value) is dict and value.keys() >= _ENVELOPE


def _open_all(tree: Any) -> Any:
    if _is_envelope(tree):
        return _open(tree)
    if type(tree) is dict:
        return {key: _open_all(each) for key, each in tree.items()}
    if type(tree) is list:
        return [_open_all(each) for each in tree]
    return tree


def _open(envelope: dict[str, Any], expected_type: Any = None) -> Any:
    module, name = envelope["__module__"], envelope["__class__"]
    if getattr(expected_type, "__module__", None) == module and getattr(expected_type, "__name__", None) == name:
        kind = expected_type  # also finds classes that are no attribute of their module
    elif not isinstance(module, str) or module not in sys.modules:
        raise CodecError(f"a stored {module}.{name} cannot be read: the module is not imported. Import it in the app.")
    else:
        kind = getattr(sys.modules[module], str(name), None)
    if not isinstance(kind, type):
        raise CodecError(f"a stored {module}.{name} cannot be read: the module has no such class. Was it moved?")
    if not callable(getattr(kind, "from_json", None)):
        raise CodecError(f"a stored {module}.{name} cannot be read: the class has no from_json. Add a static one.")
    return from_json(kind, _open_all(envelope["__data__"]))
