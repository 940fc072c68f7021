"""Request bodies: what is wrong with them, in Go's words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.contract.go_json import syntax_error
from supervisor.engines.embedded import bodies, structs
from supervisor.engines.embedded.failures import ApiError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('{"a":}', "invalid character '}' looking for beginning of value"),
        ('{"a" "b"}', "invalid character '\"' after object key"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ('{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ('{"a":nul}', "invalid character '}' in literal null (expecting 'l')"),
        ('{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        (r'{"a":"\x"}', "invalid character 'x' in string escape code"),
        (r'{"a":"\u00g0"}', "invalid character 'g' in \\u hexadecimal character escape"),
        ('{"a":"x\ny"}', r"invalid character '\n' in string literal"),
        ("{'a':1}", r"invalid character '\'' looking for beginning of object key string"),
        ('{"a":-x}', "invalid character 'x' in numeric literal"),
        ('{"a":1.}', "invalid character '}' after decimal point in numeric literal"),
        ('{"a":1e}', "invalid character '}' in exponent of numeric literal"),
        ("é", "invalid character 'Ã' looking for beginning of value"),
        ('{"a":"x', "unexpected EOF"),
        ('{"a":[1,{"b":[true,false,null,-0.5e+3,"\\u00e4"]}', "unexpected EOF"),
    ],
)
def test_a_text_that_is_no_json_is_told_as_go_tells_it(text: str, wanted: str) -> None:
    """The first mistake, and what was expected there."""
    assert syntax_error(text) == wanted


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_json_has_no_mistake(value: object) -> None:
    """Whatever Python writes as JSON is read to its end."""
    assert syntax_error(json.dumps(value)) == "unexpected EOF"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ('{"context": [1, 1.5]}', "number 1.5 into Go struct field GenerateRequest.context of type int"),
        ('{"images": "x"}', "string into Go struct field GenerateRequest.images of type []api.ImageData"),
        ('{"images": [3]}', "number into Go struct field GenerateRequest.images of type api.ImageData"),
        (
            '{"top_logprobs": 1e400}',
            "number inf into Go struct field GenerateRequest.top_logprobs of type int",
        ),
        ("3", "number into Go value of type api.GenerateRequest"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_place(body: str, wanted: str) -> None:
    """As Go names it."""
    with pytest.raises(ApiError) as refused:
        bodies.decode(body.encode(), structs.GENERATE)
    assert refused.value.text == f"json: cannot unmarshal {wanted}"


def test_integers_that_no_machine_holds_are_refused() -> None:
    """However many digits they have."""
    for digits in (20, 10_000):
        with pytest.raises(ApiError, match="of type int"):
            bodies.decode(b'{"top_logprobs": ' + b"9" * digits + b"}", structs.GENERATE)


def test_null_is_an_empty_body() -> None:
    """As Go decodes it into a struct."""
    assert bodies.decode(b"null", structs.CHAT) == {}


@pytest.mark.parametrize(("data", "place"), [("!!", 0), ("aGVs*G8=", 4), ("aGVsbG8", 4)])
def test_an_image_that_is_no_base64_is_refused_with_its_place(data: str, place: int) -> None:
    """Also inside of messages."""
    body = {"messages": [{"role": "user", "content": "x", "images": [data]}]}
    with pytest.raises(ApiError) as refused:
        bodies.decode(json.dumps(body).encode(), structs.CHAT)
    assert refused.value.text == f"illegal base64 data at input byte {place}"


def test_lines_in_base64_are_no_mistake() -> None:
    """Go skips them."""
    bodies.check_base64("aGVs\r\nbG8=\n")
