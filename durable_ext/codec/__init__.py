"""How values are stored: as JSON text, from which annotations restore their types.

- json: the codec that everything stored passes through, and the protocol of those that take its place;
- encode: which values can be stored, and their text;
- decode: which annotations ask for more than JSON, and how their values come back.
"""

from durable_ext.codec.json import Codec, JsonCodec

__all__ = ["Codec", "JsonCodec"]
