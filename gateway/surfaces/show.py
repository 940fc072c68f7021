"""What /api/show is asked: which model, and whether the answer is the same for everybody who asks.

Decides the refusals of a real Ollama, what goes to the worker, and the one change that a client needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.surfaces.naming import wrong_type
from gateway.surfaces.surface import BadRequestError, read_object, with_known_keys
from supervisor.contract.names import InvalidModelNameError, ModelName
from supervisor.contract.wire import MODEL_REQUIRED

_ROUTE: Final = "/api/show"
_TYPES: Final[Mapping[str, tuple[type, str]]] = {
    **dict.fromkeys(("model", "name", "system", "template"), (str, "string")),
    "verbose": (bool, "bool"),
    "options": (dict, "map[string]interface {}"),
}
INVALID_NAME: Final = "invalid model name"
_COPILOT: Final = "GitHubCopilotChat/"
_ALONE: Final = frozenset({"model", "name", "verbose"})
"""Fields that an answer can be kept with; an empty one of another name changes nothing either."""


@dataclass(frozen=True, slots=True)
class ShowRequest:
    """What a client wants to see."""

    model: str
    """As the client wrote it."""
    fields: Mapping[str, Any]
    """All that it asked, by lower-case names."""

    @property
    def verbose(self) -> bool:
        """Whether tensors and vocabulary are wanted, which make the answer large."""
        return self.fields.get("verbose") is True

    @property
    def cacheable(self) -> bool:
        """Whether everybody who asks for the model gets this answer; `system` and `options` change it."""
        plain = self.fields.get("verbose") in (None, True, False)
        return plain and not any(value for field, value in self.fields.items() if field not in _ALONE)

    def body_for(self, model: str) -> bytes:
        """Return what a worker is asked, by its own name of the model."""
        kept = {field: value for field, value in self.fields.items() if field != "name"}
        return json.dumps({**kept, "model": model}).encode()


def read_show(body: bytes) -> ShowRequest:
    """Read a request; older clients say `name` for `model`.

    Raises:
        BadRequestError: no object, no name, or one that no model can have.
    """
    fields = with_known_keys(read_object(body, _ROUTE))
    _check_types(fields)
    name = fields.get("model") or fields.get("name") or ""
    if not name:
        raise BadRequestError(MODEL_REQUIRED)
    check_name(name)
    return ShowRequest(name, fields)


def _check_types(fields: Mapping[str, Any]) -> None:
    for field, (kind, go) in _TYPES.items():
        value = fields.get(field)
        if value is not None and not isinstance(value, kind):
            raise BadRequestError(wrong_type(_ROUTE, field, value, go))


def check_name(name: str) -> None:
    """Refuse what can be no model's name.

    Raises:
        BadRequestError: as Ollama says it.
    """
    try:
        ModelName.parse(name)
    except InvalidModelNameError as error:
        raise BadRequestError(INVALID_NAME) from error


def for_client(shown: bytes, asked: str, user_agent: str) -> bytes:
    """Return the answer as this client wants it: Copilot Chat calls the model by its `general.basename`."""
    if not user_agent.startswith(_COPILOT):
        return shown
    answer = json.loads(shown)
    answer["model_info"] = {**(answer.get("model_info") or {}), "general.basename": asked}
    return json.dumps(answer).encode()
