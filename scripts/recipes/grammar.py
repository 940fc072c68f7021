"""Count which word follows which.

Decides how the counts of pairs and triples become the odds of the next token. Knows nothing of weights.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scripts.recipes.byte_pairs import TURN_END
from scripts.recipes.prose import key

START = "\n"
"""The key of all that is no word of the text: an answer begins after it."""

_STOPS = {".", "?"}
_MOST_AFTER_ONE = 24
_MOST_AFTER_TWO = 14
_MOST_STRAYS = 4
_STRAY_SHARE = 0.06
_END_WEIGHT = 0.35  # paragraphs of the text are shorter than a pleasant answer

Odds = Mapping[str, float]


@dataclass(frozen=True)
class Grammar:
    """What may follow: the probability of each next token, after one key and after a pair of keys."""

    after_one: Mapping[str, Odds]
    after_two: Mapping[tuple[str, str], Odds]

    def tokens(self) -> list[str]:
        """All tokens that may ever follow, in a stable order."""
        known = [*self.after_one.values(), *self.after_two.values()]
        return sorted({token for odds in known for token in odds})


def _shares(counts: Odds, most: int) -> dict[str, float]:
    likely = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])
    total = sum(likely.values())
    return {token: count / total for token, count in likely.items()}


def _mixed(sharp: Odds, broad: Odds, chance: np.random.Generator) -> dict[str, float]:
    """Mostly what follows the pair, and a few of the words that may follow its second word elsewhere."""
    others = chance.permutation([token for token in broad if token not in sharp])[:_MOST_STRAYS]
    stray = {str(token): broad[token] for token in others}
    scale = _STRAY_SHARE / max(sum(stray.values()), _STRAY_SHARE)
    mixed = {**sharp, **{token: share * scale for token, share in stray.items()}}
    total = sum(mixed.values())
    return {token: share / total for token, share in mixed.items()}


def grammar(lines: Iterable[list[str]]) -> Grammar:
    """Count pairs and triples. A full stop forgets what stood before it."""
    ones: defaultdict[str, dict[str, float]] = defaultdict(dict)
    twos: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for line in lines:
        keys = [START, *map(key, line)]
        for now, token in zip(keys, [*line, TURN_END], strict=True):
            weight = _END_WEIGHT if token == TURN_END else 1.0
            ones[now][token] = ones[now].get(token, 0.0) + weight
        for (before, now), token in zip(pairwise(keys), [*line[1:], TURN_END], strict=True):
            if now not in _STOPS:
                for opening in (START, *_STOPS) if before in {START, *_STOPS} else (before,):
                    twos[opening, now][token] += 1
    after_one = {now: _shares(counts, _MOST_AFTER_ONE) for now, counts in ones.items()}
    chance = np.random.default_rng(5)
    after_two = {
        pair: _mixed(_shares(counts, _MOST_AFTER_TWO), after_one[pair[1]], chance)
        for pair, counts in twos.items()
    }
    open_pairs = {pair: odds for pair, odds in after_two.items() if len(after_one[pair[1]]) > 1}
    return Grammar(after_one, open_pairs)
