"""`OMI_ENFORCE_CARD`: input files are held to the sizes and media types of the model's card.

On Modzy's own platform the platform does that, before a job reaches the container.
"""

from __future__ import annotations

import mimetypes
from pathlib import PurePath
from typing import Final

from omi_runtime import codecs
from omi_runtime.card import CardFile, ModelCard, file_matches
from omi_runtime.errors import TooLarge, UnsupportedMediaType
from omi_runtime.quantities import parse_size
from omi_runtime.signature import Field, Signature


class CardLimits:
    """Called with each input file before it is read.

    Args:
        card: of the model; what it leaves open is not limited.
        signature: of the model.
    """

    def __init__(self, card: ModelCard, signature: Signature) -> None:
        self._files: dict[str, CardFile] = {
            field.name: file
            for field in signature.inputs
            for file in card.inputs
            if file_matches(file.filename, field)
        }

    def __call__(self, field: Field, name: str, size: int, head: bytes) -> None:
        """Let a file pass, or not.

        Args:
            field: the input that it is for.
            name: of the file.
            size: of the file, in bytes.
            head: how it begins.

        Raises:
            TooLarge: over the card's size.
            UnsupportedMediaType: of a media type that the card does not have.
        """
        file = self._files.get(field.name)
        if file is None:
            return
        largest = parse_size(file.max_size)
        if largest is not None and size > largest:
            raise TooLarge(
                f"{field.name}: {name!r} has {size} bytes, more than the {file.max_size} that the "
                "model's card allows"
            )
        media_type = _begins_like(head)
        if media_type is None and name != file.filename:  # the card's own name says nothing new
            media_type = _called_like(name)
        if media_type and file.media_types and media_type not in file.media_types:
            accepted = ", ".join(file.media_types)
            raise UnsupportedMediaType(
                f"{field.name}: {name!r} is {media_type}; the model's card accepts {accepted}"
            )


def _begins_like(head: bytes) -> str | None:
    return next((kind for begin, kind in _SIGNATURES.items() if head.startswith(begin)), None)


def _called_like(name: str) -> str | None:
    known = codecs.EXTENSIONS.get(PurePath(name).suffix.lower())
    return known or mimetypes.guess_type(name)[0]


_SIGNATURES: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"%PDF-": "application/pdf",
    b"\x93NUMPY": codecs.NPY,
}
"""First bytes that nothing else has; formats that share theirs (zip, RIFF) are not among them."""
