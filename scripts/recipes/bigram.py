"""The demo chat model: word pairs and triples of `text.txt`, written into the weights of a transformer.

It talks nonsense in English sentences and tends to stay with the words of the question. Nothing is trained;
each part of the transformer is given its share of the work:

- The embedding of a word holds its name (a random direction), its topic, and a direction that raises the
  words that may follow it: the bigram.
- Attention head 0 looks at the token before and copies its name. Head 1 looks at the rare words so far and
  copies their topics; the output rows of words of that topic answer to it. Head 2 hears the names
  of recent words, and the output row of a word turns away from its own name: no answer goes in circles.
- Each feed-forward unit knows one pair of words. It opens when it sees the two names, and corrects the
  bigram of the second word to what follows the pair: the trigram.
- One component is a loud constant. Beside it nothing else moves the length of the vector, so that the
  norms do nothing, and it serves as a bias.
"""

from pathlib import Path

import numpy as np

from scripts.recipes.byte_pairs import TURN_END, Vocabulary
from scripts.recipes.grammar import START, Grammar, Odds, grammar
from scripts.recipes.llama_gguf import Matrix, Model, Shape, write
from scripts.recipes.prose import forms, key, paragraphs, topics
from scripts.recipes.stamp import stamp

NAME = "corral-demo"

_HEAD = 128
_LOUD = 32.0
_QUIET = 64.0  # followers are kept this much smaller than they act, far below the constant

# In natural logs of odds:
_MARGIN = 20.0  # between a word that may follow and one that may not
_HEARD = 0.6  # of the margin: what is raised less than this stays unsaid
_CORRECTIONS = 2
_TOPIC_PULL = 2.5  # what a topic in full agreement adds for each unit of rarity
_BOREDOM = 6.0  # what a word loses for each unit of rarity if nothing else was said

# Where the parts lie in the vector that flows through the model.
_WIDTH = 512
_CONSTANT = 0
_RARITY = 1
_NAME_NOW = slice(2, 50)
_NAME_BEFORE = slice(50, 98)
_NAMES_HEARD = slice(98, 146)
_TOPIC_NOW = slice(146, 178)
_TOPIC_HEARD = slice(178, 210)
_FOLLOWERS = slice(210, _WIDTH)

_PAIR_SEEN = 1.65  # two names that fit add up to 2, one of them to 1 and a little
_STEEPNESS = 40.0
_PREVIOUS_GAIN = 11.0
_RECENT_GAIN = 1.2
_RARITY_GAIN = 20.0
_MOST_RARITY = 2.5
_ASKING = "a about and are can does how is it me of tell the to what when where who why you"


def _directions(count: int, width: int, seed: int) -> Matrix:
    directions = np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions


class _Lexicon:
    """Where each key and each token that may be said stands, its random direction, and its topic."""

    def __init__(self, known: Grammar) -> None:
        self.spoken = known.tokens()
        self.spoken_directions = _directions(len(self.spoken), _FOLLOWERS.stop - _FOLLOWERS.start, seed=3)
        self._spoken_row = {token: row for row, token in enumerate(self.spoken)}
        self._names = _directions(len(known.after_one), _NAME_NOW.stop - _NAME_NOW.start, seed=4)
        self._name_row = {word: row for row, word in enumerate(known.after_one)}
        self._topics = topics(_TOPIC_NOW.stop - _TOPIC_NOW.start)
        self._topic_row = {word: row for row, word in enumerate(self._topics.words)}

    def topic(self, word: str) -> Matrix:
        """The topic of a key; nothing for one that is no word."""
        row = self._topic_row.get(word)
        return (
            np.zeros_like(self._topics.vectors[0]) if row is None else np.asarray(self._topics.vectors[row])
        )

    def rarity(self, word: str) -> float:
        """How seldom a key is found in the text; 0 for one that is no word."""
        row = self._topic_row.get(word)
        return 0.0 if row is None else min(float(self._topics.rarity[row]), _MOST_RARITY)

    def name(self, word: str) -> Matrix:
        """The direction that means this key."""
        return np.asarray(self._names[self._name_row[word]])

    def raising(self, odds: Odds) -> Matrix:
        """A short vector whose product with each direction is that token's margin and log share.

        What it raises by accident is made to stay at zero, as far as it would be heard.
        """
        rows = [self._spoken_row[token] for token in odds]
        wanted = np.float32(_MARGIN) + np.log(np.fromiter(odds.values(), np.float32))
        vector = self._solved(rows, wanted)
        for _ in range(_CORRECTIONS):
            loud = np.flatnonzero(self.spoken_directions @ vector > _MARGIN * _HEARD)
            rows += sorted({*loud.tolist()} - {*rows})
            vector = self._solved(rows, np.pad(wanted, (0, len(rows) - len(wanted))))
        return vector / np.float32(_QUIET)

    def _solved(self, rows: list[int], wanted: Matrix) -> Matrix:
        chosen = self.spoken_directions[rows]
        return np.asarray(chosen.T @ np.linalg.solve(chosen @ chosen.T, wanted), np.float32)


def _vocabulary(known: Grammar) -> Vocabulary:
    words = [word for word in known.after_one if word.isalpha()]
    prompted = [form for word in words for form in forms(word)]
    return Vocabulary.of([*(token for token in known.tokens() if token != TURN_END), *prompted])


def _embedding(vocabulary: Vocabulary, known: Grammar, lexicon: _Lexicon) -> Matrix:
    unknown = np.zeros(_WIDTH, np.float32)
    unknown[_CONSTANT] = _LOUD
    unknown[_NAME_NOW] = lexicon.name(START)
    unknown[_FOLLOWERS] = lexicon.raising(known.after_one[START])
    asking = _ASKING.split()
    embedding = np.tile(unknown, (len(vocabulary), 1))
    for word, odds in known.after_one.items():
        rows = _rows(vocabulary, word)
        embedding[rows, _NAME_NOW] = lexicon.name(word)
        embedding[rows, _FOLLOWERS] = lexicon.raising(odds)
        embedding[rows, _TOPIC_NOW] = lexicon.topic(word)
        embedding[rows, _RARITY] = lexicon.rarity(word) * (word not in asking)
    return embedding


def _rows(vocabulary: Vocabulary, word: str) -> list[int]:
    if word == START:
        return []
    return [vocabulary.word(form) for form in (forms(word) if word.isalpha() else [word])]


def _output(vocabulary: Vocabulary, lexicon: _Lexicon) -> Matrix:
    output = np.zeros((len(vocabulary), _WIDTH), np.float32)
    for token, direction in zip(lexicon.spoken, lexicon.spoken_directions, strict=True):
        if token == TURN_END:
            output[vocabulary.control(token), _FOLLOWERS] = direction * _QUIET
            continue
        row, word = vocabulary.word(token), key(token)
        output[row, _FOLLOWERS] = direction * _QUIET
        output[row, _TOPIC_HEARD] = lexicon.topic(word) * _TOPIC_PULL * lexicon.rarity(word)
        output[row, _NAMES_HEARD] = lexicon.name(word) * -_BOREDOM * lexicon.rarity(word)
    return output


def _attention(no_word: Matrix) -> dict[str, Matrix]:
    """Head 0 looks one token back, head 1 at the rare words so far, head 2 at recent words."""
    query, keys, value, out = (np.zeros((_WIDTH, _WIDTH), np.float32) for _ in range(4))
    _look_back(query, keys, head=0, distance=1, gain=_PREVIOUS_GAIN)
    _look_back(query, keys, head=2, distance=0, gain=_RECENT_GAIN)
    slowest = 2 * _HEAD - 2  # the pair of head 1 that turns too slowly to notice the distance
    query[slowest, _CONSTANT] = _RARITY_GAIN / _LOUD
    keys[slowest, _RARITY] = 1.0
    _copy(value, out, head=0, source=_NAME_NOW, target=_NAME_BEFORE)
    _copy(value, out, head=1, source=_TOPIC_NOW, target=_TOPIC_HEARD)
    _copy(value, out, head=2, source=_NAME_NOW, target=_NAMES_HEARD)
    heard = value[2 * _HEAD :, _NAME_NOW]
    heard -= np.outer(heard @ no_word, no_word)
    return {"attn_q": query, "attn_k": keys, "attn_v": value, "attn_output": out}


def _look_back(query: Matrix, keys: Matrix, *, head: int, distance: int, gain: float) -> None:
    """Positions are angles, one for each frequency; turn the keys on, so that they meet the query there."""
    rows = head * _HEAD + np.arange(0, _HEAD, 2)
    angles = distance * 10_000.0 ** (-np.arange(0, _HEAD, 2) / _HEAD)
    query[rows, _CONSTANT] = gain / _LOUD
    keys[rows, _CONSTANT] = gain / _LOUD * np.cos(angles)
    keys[rows + 1, _CONSTANT] = gain / _LOUD * np.sin(angles)


def _copy(value: Matrix, out: Matrix, *, head: int, source: slice, target: slice) -> None:
    size = source.stop - source.start
    inside = slice(head * _HEAD, head * _HEAD + size)
    value[inside, source] = np.eye(size)
    out[target, inside] = np.eye(size)


def _pairs(known: Grammar, lexicon: _Lexicon) -> dict[str, Matrix]:
    """One unit for each pair: it opens when both names are there and corrects what the second one says."""
    gate, up, down = (np.zeros((len(known.after_two), _WIDTH), np.float32) for _ in range(3))
    opened = _STEEPNESS * (2 - _PAIR_SEEN)
    plain = {word: lexicon.raising(odds) for word, odds in known.after_one.items()}
    gate[:, _CONSTANT] = -_STEEPNESS * _PAIR_SEEN / _LOUD
    up[:, _CONSTANT] = 1 / _LOUD
    for unit, ((before, now), odds) in enumerate(known.after_two.items()):
        gate[unit, _NAME_BEFORE] = _STEEPNESS * lexicon.name(before)
        gate[unit, _NAME_NOW] = _STEEPNESS * lexicon.name(now)
        down[unit, _FOLLOWERS] = (lexicon.raising(odds) - plain[now]) / opened
    return {"ffn_gate": gate, "ffn_up": up, "ffn_down": np.ascontiguousarray(down.T)}


def bigram(path: Path, *, name: str = NAME) -> None:
    """Write the demo chat model.

    Raises:
        OSError: The file cannot be written.
    """
    known = grammar(paragraphs())
    lexicon = _Lexicon(known)
    vocabulary = _vocabulary(known)
    unit_norm = np.full(_WIDTH, _LOUD / np.sqrt(_WIDTH), np.float32)
    block = {
        "attn_norm": unit_norm,
        "ffn_norm": unit_norm,
        **_attention(lexicon.name(START)),
        **_pairs(known, lexicon),
    }
    weights = {
        "token_embd.weight": _embedding(vocabulary, known, lexicon),
        "output_norm.weight": unit_norm,
        "output.weight": _output(vocabulary, lexicon),
        **{f"blk.0.{part}.weight": tensor for part, tensor in block.items()},
    }
    shape = Shape(
        width=_WIDTH, layers=1, heads=_WIDTH // _HEAD, feed_forward=len(known.after_two), context=4096
    )
    write(
        path,
        Model(name=name, recipe=recipe_of(name=name), shape=shape, vocabulary=vocabulary, weights=weights),
    )


def recipe_of(*, name: str) -> str:
    """The stamp of a demo model of this name."""
    return stamp("bigram", name)
