"""Draw flag.png, the sample picture: `python make_flag.py`."""

from pathlib import Path

from PIL import Image

FILE = Path(__file__).with_name("flag.png")

# Left, top, right, bottom and colour. Of 60 x 40 pixels they leave 50, 30 and 20 percent.
FIELDS = (
    ((0, 0, 60, 40), "#f5f0e1"),
    ((0, 0, 30, 24), "#1e3d59"),
    ((30, 24, 60, 40), "#ff6e40"),
)


def main() -> None:
    """Paint the fields one over another and save them."""
    flag = Image.new("RGB", (60, 40))
    for box, colour in FIELDS:
        flag.paste(colour, box)
    flag.save(FILE, optimize=True)


if __name__ == "__main__":
    main()
