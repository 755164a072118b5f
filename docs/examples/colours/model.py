"""Name the dominant colours of a picture: bytes in, JSON out, one item at a time."""

import io
import warnings
from typing import Annotated, Any

from PIL import Image, UnidentifiedImageError

from omi_runtime import Bytes, InvalidInput, Json, Model

MOST_PIXELS = 32_000_000
COLOURS = 5


class Colours(Model):
    """Name the dominant colours of a JPEG or PNG picture."""

    version = "1.0.0"
    max_batch_size = 1

    def load(self) -> None:
        """Have Pillow refuse decompression bombs, of which it only warns by itself."""
        Image.MAX_IMAGE_PIXELS = MOST_PIXELS
        warnings.simplefilter("error", Image.DecompressionBombWarning)

    def predict(
        self, image: Annotated[bytes, Bytes("image/jpeg", "image/png")]
    ) -> Annotated[dict[str, Any], Json(name="palette")]:
        """Return the picture's width, height, format and colours with their shares."""
        try:
            picture = Image.open(io.BytesIO(image), formats=("JPEG", "PNG"))
            width, height = picture.size
            picture.load()
        except UnidentifiedImageError as error:
            raise InvalidInput("image is neither a JPEG nor a PNG picture") from error
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise InvalidInput(f"image has more than {MOST_PIXELS} pixels") from error
        except (OSError, SyntaxError, ValueError) as error:
            raise InvalidInput(f"image cannot be decoded: {error}") from error
        # Some cameras' JPEGs are what Pillow calls MPO: the pictures of a scene, one after another.
        kind = "PNG" if picture.format == "PNG" else "JPEG"
        return {"width": width, "height": height, "format": kind, "colours": dominant(picture)}


def dominant(picture: Image.Image) -> list[dict[str, Any]]:
    """List at most five colours, the largest share first; what is transparent counts as white."""
    picture.thumbnail((256, 256), Image.Resampling.NEAREST)
    flat = Image.new("RGBA", picture.size, "white")
    flat.alpha_composite(picture.convert("RGBA"))
    indexed = flat.convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT)
    palette, pixels = indexed.getpalette() or [], flat.width * flat.height
    shares = [
        ("#" + bytes(palette[3 * i : 3 * i + 3]).hex(), round(count / pixels, 4))
        for i, count in enumerate(indexed.histogram())
        if count
    ]
    shares.sort(key=lambda share: (-share[1], share[0]))
    return [{"colour": colour, "share": share} for colour, share in shares]
