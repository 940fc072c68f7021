"""All cases, by the file that their recorded answers are in."""

from __future__ import annotations

from typing import Final

from tests.contract.cases import BODIES, CHAT, EMBED, GENERATE, LISTING, MESSAGES, RESPONSES, V1
from tests.contract.mutated_cases import MUTATED
from tests.contract.nested_cases import NESTED, ODD_TEXTS

GROUPS: Final = {
    "listing": LISTING,
    "generate": GENERATE,
    "chat": CHAT,
    "bodies": BODIES,
    "v1": V1,
    "embed": EMBED,
    "messages": MESSAGES,
    "responses": RESPONSES,
    "nested": NESTED,
    "odd_texts": ODD_TEXTS,
    "mutated": MUTATED,
}
