"""Find dates, e-mail addresses and amounts of money in a text: a typed object comes out."""

import re
from typing import Literal

from pydantic import BaseModel

from omi_runtime import Model

# Possessive quantifiers and the look-behinds keep the time linear for every text.
ENTITY = re.compile(
    r"""
    (?P<email> (?<![\w.+-]) [\w.+-]++ @ [\w-]++ (?: \. [\w-]++ )++ )
  | (?P<date> (?<![\w-]) (?: [0-9]{4}-[0-9]{2}-[0-9]{2} | [0-9]{1,2}[ ](?: January | February
      | March | April | May | June | July | August | September | October | November | December
      )[ ][0-9]{4} ) (?![\w-]) )
  | (?P<amount> [$€£]\s? [0-9]++ (?: [.,][0-9]++ )*+
      | (?<!\w) (?<![0-9][.,]) [0-9]++ (?: [.,][0-9]++ )*+ \s? (?: (?:EUR|GBP|USD)\b | [€£] ) )
    """,
    re.VERBOSE,
)


class Entity(BaseModel):
    """One find: `text[start:end]`, counted in characters (code points) from 0."""

    kind: Literal["email", "date", "amount"]
    text: str
    start: int
    end: int


class Reading(BaseModel):
    """What one text holds."""

    sentences: int
    words: int
    entities: list[Entity]


class Entities(Model):
    """Find dates, e-mail addresses and amounts of money in a text."""

    version = "1.0.0"

    def predict(self, text: str) -> Reading:
        """Count the sentences and words of one text and list its entities in order."""
        words = text.split()
        # A word that ends in one of these ends a sentence; so does the last word.
        ends = sum(word.endswith((".", "!", "?")) for word in words[:-1]) + bool(words)
        entities = [
            Entity.model_validate(
                {"kind": m.lastgroup, "text": m[0], "start": m.start(), "end": m.end()}
            )
            for m in ENTITY.finditer(text)
        ]
        return Reading(sentences=ends, words=len(words), entities=entities)
