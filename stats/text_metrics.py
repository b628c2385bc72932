"""Metrics of texts: shared words, word errors, longest common subsequence.

Texts are compared up to canonical equivalence (Unicode NFC): é is the same letter whether its
accent is part of it or stands behind it. Lengths of common subsequences and edit distances come
from rapidfuzz (extra `metrics`).
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RunError

if TYPE_CHECKING:
    from types import ModuleType

    from ..ir.models import Scalar

_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


def f1(answer: Any, truth: Any, _args: tuple[Scalar, ...]) -> float:
    """Harmonic mean of precision and recall: of words with their counts, of a list's elements.

    Words of texts as in `words`, counted [Rajpurkar et al. 2016, SQuAD; without its removal of
    English articles]; elements of lists as a set, NULL elements among them. Two empty ones are the
    same, an empty one has nothing in common with any other.
    """
    if isinstance(truth, str) and isinstance(answer, str):
        said, meant = Counter(words(answer)), Counter(words(truth))
        return _harmonic((said & meant).total(), said.total(), meant.total())
    one, other = set(map(_hashable, answer)), set(map(_hashable, truth))
    return _harmonic(len(one & other), len(one), len(other))


def wer(answer: str, truth: str, _args: tuple[Scalar, ...]) -> float:
    """1 - min(1, word error rate): insertions, deletions, substitutions ÷ words of the truth.

    Words are what blanks part, case and punctuation counted, as in the NIST scorers. Where the
    truth is empty, only the empty answer is right.
    """
    said, meant = (unicodedata.normalize("NFC", text).split() for text in (answer, truth))
    if not meant:
        return float(not said)
    errors: int = _rapidfuzz().Levenshtein.distance(said, meant)
    return 1.0 - min(1.0, errors / len(meant))


def rouge_l(answer: str, truth: str, _args: tuple[Scalar, ...]) -> float:
    """F1 of the longest common subsequence of words [Lin 2004, "ROUGE", 3.1; beta = 1].

    Words as in `words`, unstemmed. Two texts without words are the same.
    """
    said, meant = words(answer), words(truth)
    common = _rapidfuzz().LCSseq.similarity(said, meant) if said and meant else 0
    return _harmonic(common, len(said), len(meant))


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores of any script, with their marks, case folded.

    Marks (categories M) are half of what an Indic or a Thai word says, and joiners stand inside
    words too, as in UAX #29, from which this differs in that scripts without blanks are not parted.
    """
    folded = unicodedata.normalize("NFD", text).casefold()
    return _word().findall(unicodedata.normalize("NFC", folded))


@functools.cache
def _word() -> re.Pattern[str]:
    """A word; Python's `re` has no class of marks, and making it takes a tenth of a second."""
    marks = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] == "M"]
    return re.compile(rf"\w[\w{_JOINERS}{''.join(marks)}]*")


def _harmonic(common: int, said: int, meant: int) -> float:
    return 2.0 * common / (said + meant) if said + meant else 1.0


def _hashable(value: Any) -> Hashable:
    """Lists and structs do not hash; equal ones become equal tuples."""
    if isinstance(value, dict):
        return tuple((key, _hashable(item)) for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(map(_hashable, value))
    return "NaN" if isinstance(value, float) and value != value else value


def _rapidfuzz() -> ModuleType:
    try:
        from rapidfuzz import distance
    except ImportError as error:
        raise RunError(
            "the metrics wer and rouge_l need the package rapidfuzz",
            code="OC0483",
            hint="pip install 'octans[metrics]'",
        ) from error
    return distance
