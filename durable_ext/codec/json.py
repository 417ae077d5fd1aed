"""The codec: values to JSON text and back. All values that the package stores pass through one codec object.

Replace it to encrypt, compress or translate: wrap `JsonCodec`, or write the two methods anew.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Protocol

import msgspec

from durable_ext.codec.decode import Restorer, restorer_for
from durable_ext.codec.encode import to_text, type_name
from durable_ext.codec.envelopes import Opening
from durable_ext.errors import CodecError

logger = logging.getLogger("durable_ext.codec")

# How many different things are warned of: some name classes that senders made up.
_WARNINGS = 1000


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

    Objects with `to_json` are stored in the envelope of azure-functions-durable, which names their class. They are
    read back if the module of that class is imported already and the annotation, if it asks for more than JSON, has
    a place for it. An annotation that asks for no more than JSON is never checked: the value is what was stored. Text
    that is no JSON reads as itself.

    Handed over as stored, with one warning for each annotation: null for an annotation that does not allow it; what
    the `from_json` of an annotated class does not take; an envelope that cannot be opened, where nothing is annotated.
    """

    def __init__(self) -> None:
        self._restorers: dict[Any, Restorer | None] = {}
        self._warned: set[str] = set()

    def encode(self, value: Any) -> str:
        """The value as JSON text. Raises `CodecError` if it cannot be stored without loss."""
        return to_text(value)

    def decode(self, text: str | None, expected_type: Any = None) -> Any:
        """The value in `text`, restored as `expected_type` says.

        Raises `CodecError` if the annotation asks for a dataclass, a model, a datetime and the like, and the value is
        neither that nor null.
        """
        if text is None:
            return None
        restorer = None if expected_type is None else self._restorer(expected_type)
        try:
            if '"__class__"' in text:
                return self._restore_enveloped(_parse(text), restorer, expected_type)
            if restorer is None:
                return _parse(text)
            return restorer.from_text(text)
        except CodecError:
            raise
        except Exception as err:  # user code runs here too: __post_init__, validators, Enum._missing_
            if restorer is not None and (restorer.lenient or text.strip() == "null"):
                return self._as_stored(text, expected_type, err)
            problem = "cannot be read" if restorer is None else f"does not fit {type_name(expected_type)}"
            raise CodecError(f"a stored value {problem}: {str(err) or repr(err)}; {_shown(text)}") from err

    def _restore_enveloped(self, tree: Any, restorer: Restorer | None, expected_type: Any) -> Any:
        opening = Opening(restorer)
        value = opening.of(tree)
        if opening.problems:
            problem = opening.problems[0]
            if restorer is None:
                self._warn(problem, f"{problem} It is handed over as the dict it is stored as.")
                return value
            raise (ValueError if restorer.lenient else CodecError)(problem)
        return value if restorer is None else restorer.from_tree(value)

    def _as_stored(self, text: str, expected_type: Any, problem: Exception) -> Any:
        try:
            value = _parse(text)
        except RecursionError as err:
            raise CodecError(f"a stored value cannot be read: {err}; {_shown(text)}") from err
        what = type_name(expected_type)
        self._warn(
            what if value is not None else f"null {what}",
            f"a stored value does not fit {what} ({problem}); it is handed over as it is: {_shown(text)}",
        )
        return value

    def _warn(self, what: str, text: str) -> None:
        if what not in self._warned and len(self._warned) < _WARNINGS:
            self._warned.add(what)
            logger.warning("%s", text)

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
