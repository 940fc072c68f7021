"""The JSON Schema of the configuration file, so that editors complete and check it while it is written.

Decides only how the schema of `config.py` reads: descriptions are those of the keys, on one line, and a
worker's limits are described as those of `worker_defaults`. What no schema can say (names used twice,
contradictions) stays with `corral check`.
"""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

from supervisor.contract.config import Config, WorkerConfig, WorkerDefaults

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, JsonValue]:
    """Return the schema of the whole file."""
    schema = Config.model_json_schema()
    sections: dict[str, dict[str, JsonValue]] = schema["$defs"]
    _describe_limits(sections)
    for section in [schema, *sections.values()]:
        _tidy(section)
    title = "Corral's configuration"
    return {"$schema": DIALECT, "title": title} | schema


def _describe_limits(sections: dict[str, dict[str, JsonValue]]) -> None:
    defaults = WorkerDefaults.model_fields
    limits = sections[WorkerConfig.__name__]["properties"]
    assert isinstance(limits, dict), "a section has properties"
    for name, limit in limits.items():
        assert isinstance(limit, dict), "a property is described by an object"
        if name in defaults and "description" not in limit:
            limit["description"] = f"{defaults[name].description} Left out: as in worker_defaults."


def _tidy(section: dict[str, JsonValue]) -> None:
    """Drop titles made of names and defaults that the file could not say; put descriptions on one line."""
    del section["title"]
    properties = section["properties"]
    assert isinstance(properties, dict), "a section has properties"
    for found in [section, *properties.values()]:
        assert isinstance(found, dict), "a property is described by an object"
        found.pop("title", None)
        if "description" in found:
            found["description"] = " ".join(str(found["description"]).split())
        if found.get("default", "") is None and not _allows_null(found):
            del found["default"]


def _allows_null(found: dict[str, JsonValue]) -> bool:
    choices = found.get("anyOf")
    return isinstance(choices, list) and {"type": "null"} in choices
