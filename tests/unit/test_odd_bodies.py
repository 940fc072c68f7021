"""Whatever a body holds, a surface reads it or refuses it: nothing else may happen."""

from __future__ import annotations

from contextlib import suppress

import pytest

from gateway.http.app import SURFACES
from gateway.surfaces.surface import BadRequestError
from tests.support.odd_bodies import BODIES, odd_bodies


@pytest.mark.parametrize("route", BODIES)
def test_a_surface_reads_or_refuses_whatever_stands_anywhere_in_a_body(route: str) -> None:
    """A value that nobody expects is no reason for a 500: a role that is a list once was."""
    surface = next(surface for surface in SURFACES if route in surface.routes)
    for _, body in odd_bodies(BODIES[route]):
        with suppress(BadRequestError):
            surface.parse(route, body)
