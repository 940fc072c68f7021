"""Retrieval: texts and a question become vectors, the nearest text goes into the chat; many rounds of it."""

from __future__ import annotations

import ollama

from tests.clients.programs import steps

client = ollama.Client(steps.URL)
LIBRARY = ["A horse is ridden.", "A ranch has fences.", "Cattle eat grass."]
ROUNDS = 8


def a_round() -> str | None:
    """Find the text that fits a question and ask the model with it."""
    vectors = client.embed(steps.EMBED, LIBRARY).embeddings
    asked = client.embed(steps.EMBED, "Who rides the horse?").embeddings[0]
    nearness = [sum(x * y for x, y in zip(asked, vector, strict=True)) for vector in vectors]
    found = LIBRARY[nearness.index(max(nearness))]
    told = [{"role": "system", "content": found}, *steps.messages("Who rides the horse?")]
    return f"{found} {client.chat(steps.FIVE, told).message.content}"


steps.run({"first_round": a_round, "more_rounds": lambda: [a_round() for _ in range(ROUNDS)]})
