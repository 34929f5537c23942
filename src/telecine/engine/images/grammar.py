"""Operations ⇄ JSON ⇄ text, and the JSON Schema of the first.

    [{"op": "resize", "w": 800, "h": 600, "fit": "cover"}, {"op": "flip"}]
    resize:w=800,h=600,fit=cover;flip

Both forms are checked by the same code against `operations.params`. What was parsed is canonical:
its text (`to_text`) is the same however it was written, stands in a URL's path without escaping,
and parses to the same operations. It is what is signed and what results are stored under.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from typing import Any

from telecine.engine.errors import UsageError
from telecine.engine.images import formats
from telecine.engine.images.operations import (
    MAX_OPERATIONS,
    OPERATIONS,
    Background,
    Choice,
    Color,
    Convert,
    CropTo,
    Flag,
    Kind,
    Number,
    Operation,
    Param,
    QualityOf,
    Ref,
    Resize,
    Rotate,
    Round,
    Text,
    Thumbnail,
    Watermark,
    Whole,
    Word,
    Words,
    params,
)

# --- JSON and text in -----------------------------------------------------------------------------


def parse_json(ops: Sequence[Mapping[str, object]]) -> tuple[Operation, ...]:
    """Operations from JSON values. Whatever they are, it gives operations or raises `UsageError`
    (`operation_unknown`, `operation_invalid`, `operations_too_many`, `convert_not_last`)."""
    if not isinstance(ops, list | tuple):
        raise _invalid("operations: must be a list")
    _count(len(ops))
    read = []
    for number, op in enumerate(ops, 1):
        if not isinstance(op, Mapping) or not isinstance(op.get("op"), str):
            raise _invalid(f'operation {number}: must be an object such as {{"op": "flip"}}')
        given = {field: value for field, value in op.items() if field != "op"}
        read.append(_operation(number, op["op"], given))
    return _in_order(read)


def parse_text(text: str) -> tuple[Operation, ...]:
    """Operations from `name:field=value,field=value;name`. In a value `!XX` is the byte with this
    hexadecimal number, of its UTF-8; any character but `,` `;` and `!` stands for itself. The empty
    text is no operation. Raises as `parse_json` does."""
    ops = text.split(";") if text else []
    _count(len(ops))
    return _in_order([_of_text(number, op) for number, op in enumerate(ops, 1)])


def _of_text(number: int, text: str) -> Operation:
    name, _, rest = text.partition(":")
    given: dict[str, str] = {}
    for pair in rest.split(",") if ":" in text else ():
        field, equals, value = pair.partition("=")
        if not equals:
            raise _invalid(f"operation {number}: {_shown(pair)} is not field=value")
        if field in given:
            raise _invalid(f"operation {number}: {_shown(field)} is given twice")
        given[field] = _unescaped(number, field, value)
    known: Mapping[str, Param] = params(OPERATIONS[name]) if name in OPERATIONS else {}
    values = {
        field: _plain(known[field].kind, value) if field in known else value
        for field, value in given.items()
    }
    return _operation(number, name, values)


_ESCAPE = re.compile(rb"!([0-9A-Fa-f]{2})")


def _unescaped(number: int, field: str, value: str) -> str:
    try:
        data = value.encode()
        if data.count(b"!") == len(_ESCAPE.findall(data)):
            return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), data).decode()
    except UnicodeError:
        pass
    raise _invalid(
        f"operation {number}: {_shown(field)}: `!` stands before the two hexadecimal digits of a "
        f"byte of UTF-8, as in !2C for a comma; {_shown(value)} is not so"
    )


_NUMERAL = re.compile(r"-?[0-9]{1,10}(\.[0-9]{1,9})?")


def _plain(kind: Kind, text: str) -> object:
    """The JSON value that a text stands for; what it cannot be is left as text, and refused."""
    match kind:
        case Flag():
            return {"1": True, "0": False}.get(text, text)
        case Words():
            return text.split("+")
        case Whole() | Number() | Choice() | QualityOf() if found := _NUMERAL.fullmatch(text):
            return float(text) if found[1] else int(text)
        case _:
            return text


# --- one operation --------------------------------------------------------------------------------


def _operation(number: int, name: str, given: Mapping[Any, object]) -> Operation:
    if name not in OPERATIONS:
        raise UsageError(
            f"operation {number}: {_not_among(name, 'operation', OPERATIONS)}",
            code="operation_unknown",
        )
    where = f"operation {number} ({name})"
    known = params(OPERATIONS[name])
    values = {}
    for field, value in given.items():
        if field not in known:
            raise _invalid(f"{where}: {_not_among(field, 'field', known)}")
        try:
            values[field] = _read(known[field].kind, value)
        except ValueError:
            raise _invalid(
                f"{where}: {field} must be {described(known[field].kind)}, not {_shown(value)}"
            ) from None
    for field, param in known.items():
        if param.required and field not in values:
            raise _invalid(f"{where}: {field} is missing: {described(param.kind)}")
    operation = OPERATIONS[name](**values)
    for rule in _RULES.get(type(operation), ()):
        if not rule.holds(operation):
            raise _invalid(f"{where}: {rule.says}")
    return operation


def _count(number: int) -> None:
    if number > MAX_OPERATIONS:
        raise UsageError(
            f"{number} operations: at most {MAX_OPERATIONS} may be asked for at once",
            code="operations_too_many",
        )


def _in_order(read: list[Operation]) -> tuple[Operation, ...]:
    for number, operation in enumerate(read[:-1], 1):
        if isinstance(operation, Convert):
            raise UsageError(
                f"operation {number} (convert): says how the result is written, so it stands once, "
                "at the end",
                code="convert_not_last",
            )
    return tuple(read)


def _invalid(message: str) -> UsageError:
    return UsageError(message, code="operation_invalid")


def _not_among(name: object, what: str, known: Iterable[str]) -> str:
    there = ", ".join(known) or "none"
    near = _near(name[:40], known) if isinstance(name, str) else []
    meant = f"did you mean {near[0]}? " if near else ""
    return f"unknown {what} {_shown(name)}: {meant}there are {there}"


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Known names that look like it, else what it begins with: `width` is taken for w."""
    like = difflib.get_close_matches(name, known, 1)
    return like or [each for each in known if name.startswith(each)]


_LONGEST_SHOWN = 40


def _shown(value: object) -> str:
    """A value as a message may show it: on one line, and not all of it where it is long."""
    if isinstance(value, str):
        cut = "…" if len(value) > _LONGEST_SHOWN else ""
        return ascii(value[:_LONGEST_SHOWN]) + cut
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return repr(value) if abs(value) < 1e15 else "such a number"
    return "an object" if isinstance(value, Mapping) else "a list"


# --- one field ------------------------------------------------------------------------------------

_COLOR = re.compile(r"#?([0-9A-Fa-f]{3}|[0-9A-Fa-f]{4}|[0-9A-Fa-f]{6}|[0-9A-Fa-f]{8})")
_REF = re.compile(r"[A-Za-z0-9_-]{1,64}")
# No control characters, no ends of lines, nothing that UTF-8 cannot say.
_LETTERS = r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029]"
_TEXT = re.compile(rf"(?:(?![\ud800-\udfff]){_LETTERS})+")


def _read(kind: Kind, value: object) -> Any:
    """A JSON value as the operation holds it; `ValueError` where it is none of this kind."""
    match kind:
        case Whole(low, high):
            return int(_number(value, low, high, 0))
        case Number(low, high, places, turn):
            number = _number(value, low, high, places)
            return float(number % turn if turn else number)
        case Choice(numbers):
            return numbers[numbers.index(int(_number(value, min(numbers), max(numbers), 0)))]
        case QualityOf():
            return value if value == "auto" else int(_number(value, 1, 100, 0))
        case Flag() if isinstance(value, bool):
            return value
        case Words(words) if isinstance(value, list | tuple):
            if any(value.count(word) != 1 or word not in words for word in value):
                raise ValueError
            return tuple(word for word in words if word in value)
        case Word(words) if isinstance(value, str) and value in words:
            return value
        case Color() if isinstance(value, str):
            return _color(value)
        case Text(longest) if isinstance(value, str) and _TEXT.fullmatch(value):
            if len(value) <= longest:
                return value
        case Ref() if isinstance(value, str) and _REF.fullmatch(value):
            return value
    raise ValueError


def _number(value: object, low: float, high: float, places: int) -> int | Fraction:
    """Of a float the shortest decimal that means it, which is how it was written."""
    if isinstance(value, int) and not isinstance(value, bool):
        if low <= value <= high:
            return value
    elif isinstance(value, float):
        number = Fraction(repr(value))  # ValueError: not of nan, inf
        if _exact(low) <= number <= _exact(high) and (number * 10**places).denominator == 1:
            return number
    raise ValueError


@functools.cache
def _exact(bound: float) -> Fraction:
    return Fraction(str(bound))


def _color(value: str) -> str:
    """Six digits where it is opaque, else eight."""
    found = _COLOR.fullmatch("#0000" if value == "transparent" else value)
    if found is None:
        raise ValueError
    digits = found[1].lower()
    if len(digits) < 6:
        digits = "".join(digit * 2 for digit in digits)
    return digits.removesuffix("ff") if len(digits) == 8 else digits


def described(kind: Kind) -> str:
    """What a field may hold, in words: for messages and for the reference page."""
    match kind:
        case Whole(low, high):
            return f"a whole number from {low} to {high}"
        case Number(low, high, places):
            return f"a number from {low:g} to {high:g} with at most {places} decimal places"
        case Choice(numbers):
            return " or ".join(map(str, numbers))
        case QualityOf():
            return "auto, or a whole number from 1 to 100"
        case Flag():
            return "true or false, in text 1 or 0"
        case Words(words):
            return f"any of {', '.join(words)}, each once"
        case Word(words):
            return f"one of {', '.join(words)}"
        case Color():
            return "a colour such as ff8800, ff880080, f80 or transparent"
        case Text(longest):
            return f"1 to {longest} characters on one line"
        case _:
            return "a name of 1 to 64 letters, digits, - and _"


# --- what fields must be together -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    """What must hold of an operation, in words, as a question to its value, and as JSON Schema. A
    field that would have no effect is refused: it shows a mistake."""

    says: str
    holds: Callable[[Any], bool]
    schema: dict[str, Any]


def _has(*names: str) -> dict[str, Any]:
    return {"required": list(names)}


def _has_not(*names: str) -> dict[str, Any]:
    return {"properties": dict.fromkeys(names, False)}


def _is(name: str, *values: object) -> dict[str, Any]:
    """Not given, or one of these."""
    return {"properties": {name: {"enum": list(values)}}}


def _given(name: str, *values: object) -> dict[str, Any]:
    return _is(name, *values) | _has(name)


def _any_of(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": list(schemas)}


_CLEAR = {"properties": {"background": {"pattern": "^(transparent|#?(0{4}|0{8}))$"}}}
_WHITE = {"properties": {"color": {"pattern": "^#?([fF]{3}|[fF]{4}|[fF]{6}|[fF]{8})$"}}}

_RULES: dict[type[Operation], tuple[_Rule, ...]] = {
    Resize: (
        _Rule(
            "needs w or h",
            lambda op: op.w is not None or op.h is not None,
            _any_of(_has("w"), _has("h")),
        ),
        _Rule(
            "fit=cover, fill and pad need both w and h",
            lambda op: op.fit == "inside" or None not in (op.w, op.h),
            _any_of(_is("fit", "inside"), _has("w", "h")),
        ),
        _Rule(
            "position goes with fit=cover and fit=pad",
            lambda op: op.position == "center" or op.fit in ("cover", "pad"),
            _any_of(_is("position", "center"), _given("fit", "cover", "pad")),
        ),
        _Rule(
            "background goes with fit=pad",
            lambda op: op.background == "00000000" or op.fit == "pad",
            _any_of(_CLEAR, _given("fit", "pad")),
        ),
    ),
    Thumbnail: (
        _Rule(
            "x and y go with crop=focal",
            lambda op: op.crop == "focal" or (op.x, op.y) == (0.5, 0.5),
            _any_of(
                _given("crop", "focal"),
                {"properties": {"x": {"const": 0.5}, "y": {"const": 0.5}}},
            ),
        ),
    ),
    CropTo: (
        _Rule(
            "x and y go together",
            lambda op: (op.x is None) == (op.y is None),
            {"dependentRequired": {"x": ["y"], "y": ["x"]}},
        ),
        _Rule(
            "either x and y or a position",
            lambda op: op.x is None or op.position == "center",
            _any_of(_has_not("x", "y"), _is("position", "center")),
        ),
    ),
    Watermark: (
        _Rule(
            "needs either image or text",
            lambda op: (op.image is None) != (op.text is None),
            {"oneOf": [_has("image"), _has("text")]},
        ),
        _Rule(
            "color goes with text",
            lambda op: op.color == "ffffff" or op.text is not None,
            _any_of(_WHITE, _has("text")),
        ),
        _Rule(
            "what is tiled has no position, and gaps x and y of 0 or more",
            lambda op: not op.tile or (op.position == "bottom-right" and min(op.x, op.y) >= 0),
            _any_of(
                _is("tile", False),
                {
                    "properties": {
                        "position": {"const": "bottom-right"},
                        "x": {"minimum": 0},
                        "y": {"minimum": 0},
                    }
                },
            ),
        ),
    ),
    Convert: (
        _Rule(
            "lossless takes neither quality nor max_bytes",
            lambda op: not op.lossless or (op.quality is None and op.max_bytes is None),
            _any_of(_is("lossless", False), _has_not("quality", "max_bytes")),
        ),
    ),
}


def conversion(operations: Iterable[Operation]) -> Convert:
    """How the result is to be written: the `convert` at the end, or what it is without one."""
    return next((op for op in operations if isinstance(op, Convert)), Convert())


def refs(operations: Iterable[Operation]) -> tuple[str, ...]:
    """The names of the other pictures in these operations, each once, in their order."""
    named = (each.image for each in operations if isinstance(each, Watermark))
    return tuple(dict.fromkeys(name for name in named if name is not None))


def transparent_after(alpha: bool, operations: Iterable[Operation]) -> bool:
    """Whether the result may have transparency, where the source has (`alpha`) or has not."""
    for operation in operations:
        match operation:
            case Background(color=color):
                alpha = alpha and not _opaque(color)
            case Round():
                alpha = True
            case Resize(fit="pad", background=color):
                alpha = alpha or not _opaque(color)
            case Rotate(angle=angle, background=color):
                alpha = alpha or (angle % 90 != 0 and not _opaque(color))
    return alpha


def _opaque(color: str) -> bool:
    return len(color) == 6 or color[6:] == "ff"


def check_format(operations: Iterable[Operation], format: str) -> None:
    """That a format can do what `convert` asks of it. Raises `UsageError` (`option_not_of_format`;
    `format_unknown` where we do not write it)."""
    wanted, how = conversion(operations), formats.written(format)
    refused = {
        "quality": wanted.quality is not None and how.quality is None,
        "max_bytes": wanted.max_bytes is not None and how.quality is None,
        "lossless": wanted.lossless and not how.lossless,
        "depth=16": wanted.depth == 16 and not how.deep,
        "progressive=0": not wanted.progressive and not how.progressive,
        **{f"keep={kept}": kept not in how.kept for kept in wanted.keep},
    }
    for option, wrong in refused.items():
        if wrong:
            raise UsageError(
                f"convert: {option} cannot be had in {how.name}", code="option_not_of_format"
            )


# --- text and JSON out ----------------------------------------------------------------------------


def to_json(operations: Iterable[Operation]) -> list[dict[str, Any]]:
    """The shortest JSON of operations: fields in their declared order, defaults left out."""
    return [
        {"op": operation.name} | {name: _json_value(value) for name, _, value in _stated(operation)}
        for operation in operations
    ]


def to_text(operations: Iterable[Operation]) -> str:
    """The canonical text of operations; of none the empty text."""
    return ";".join(
        operation.name
        + ":" * bool(stated)
        + ",".join(f"{name}={_text_value(kind, value)}" for name, kind, value in stated)
        for operation in operations
        for stated in [_stated(operation)]
    )


def _stated(operation: Operation) -> list[tuple[str, Kind, Any]]:
    """The fields that must be said: all that are not what they are by default."""
    known = params(operation)
    return [
        (each.name, known[each.name].kind, value)
        for each in fields(operation)
        if (value := getattr(operation, each.name)) != each.default
    ]


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return list(value) if isinstance(value, tuple) else value


_FREE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def _text_value(kind: Kind, value: Any) -> str:
    match kind:
        case Flag():
            return "1" if value else "0"
        case Number(places=places):
            return f"{value:.{places}f}".rstrip("0").rstrip(".")
        case Words():
            return "+".join(value)
        case Text():
            return "".join(
                letter if letter in _FREE else "".join(f"!{byte:02X}" for byte in letter.encode())
                for letter in value
            )
        case _:
            return str(value)


# --- JSON Schema ----------------------------------------------------------------------------------


def json_schema() -> dict[str, Any]:
    """What `parse_json` accepts, as JSON Schema (draft 2020-12), one definition an operation. One
    rule it cannot say: that `convert` is the last."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Operations on a picture",
        "description": "Done in this order. `convert` stands at most once, and last.",
        "type": "array",
        "maxItems": MAX_OPERATIONS,
        "items": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in OPERATIONS]},
        "contains": {"$ref": "#/$defs/convert"},
        "minContains": 0,
        "maxContains": 1,
        "$defs": {name: _definition(operation) for name, operation in OPERATIONS.items()},
    }


def _definition(operation: type[Operation]) -> dict[str, Any]:
    known = params(operation)
    defaults = {each.name: each.default for each in fields(operation)}
    properties: dict[str, Any] = {"op": {"const": operation.name}}
    for name, param in known.items():
        default = defaults[name]
        properties[name] = {"description": param.about} | _schema(param.kind)
        if default is not MISSING and default is not None:
            properties[name]["default"] = _json_value(default)
    definition = {
        "type": "object",
        "description": " ".join((operation.__doc__ or "").split()),
        "properties": properties,
        "required": ["op", *(name for name, param in known.items() if param.required)],
        "additionalProperties": False,
    }
    rules = [rule.schema for rule in _RULES.get(operation, ())]
    return definition | ({"allOf": rules} if rules else {})


def _schema(kind: Kind) -> dict[str, Any]:
    match kind:
        case Whole(low, high):
            return {"type": "integer", "minimum": low, "maximum": high}
        case Number(low, high, places):
            step = 10**-places
            return {"type": "number", "minimum": low, "maximum": high, "multipleOf": step}
        case Choice(numbers):
            return {"enum": list(numbers)}
        case QualityOf():
            return {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 100}]}
        case Flag():
            return {"type": "boolean"}
        case Words(words):
            return {"type": "array", "items": {"enum": list(words)}, "uniqueItems": True}
        case Word(words):
            return {"enum": list(words)}
        case Color():
            return {"type": "string", "pattern": f"^(transparent|{_COLOR.pattern})$"}
        case Text(longest):
            letters = f"^{_LETTERS}+$"
            return {"type": "string", "minLength": 1, "maxLength": longest, "pattern": letters}
        case _:
            return {"type": "string", "pattern": f"^{_REF.pattern}$"}
