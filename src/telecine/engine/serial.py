"""Frozen values ⇄ plain JSON values, by their type hints: what makes a plan travel.

`Fraction` becomes "n/d", tuples become lists, dataclasses become objects. Reading is strict: an
unknown or missing field is an error, since a plan of another version must not half-work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import types
import typing
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")

_FRACTION = re.compile(r"-?[0-9]+(/[1-9][0-9]*)?")


def to_plain(value: Any) -> Any:
    """A value built of dataclasses, tuples, dicts, Fractions and scalars → JSON-ready values."""
    if isinstance(value, Fraction):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    return value


def from_plain(cls: type[T], plain: Any) -> T:
    """The reverse of `to_plain` for dataclass `cls`. Raises `ValueError` on what does not fit."""
    result: T = _read(cls, plain, cls.__name__)
    return result


def from_older(cls: type[T], plain: Any) -> T:
    """The same of what another version wrote and that is kept for years: what that did not know, or
    said otherwise, is left out of lists and has its default in fields. Raises `ValueError` where a
    field has none."""
    result: T = _read(cls, plain, cls.__name__, older=True)
    return result


def _read(hint: Any, plain: Any, where: str, *, older: bool = False) -> Any:
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        options = typing.get_args(hint)
        if plain is None and type(None) in options:
            return None
        return _read(next(o for o in options if o is not type(None)), plain, where, older=older)
    if origin is Literal:
        if plain not in typing.get_args(hint):
            raise ValueError(f"{where}: {plain!r} is none of {typing.get_args(hint)}")
        return plain
    if origin is tuple:
        return _read_tuple(typing.get_args(hint), plain, where, older=older)
    if hint is Fraction:
        return _read_fraction(plain, where)
    if origin is dict:
        return _read_dict(typing.get_args(hint)[1], plain, where)
    if dataclasses.is_dataclass(hint):
        return (_read_older if older else _read_dataclass)(hint, plain, where)
    if hint is float and type(plain) is int:  # JSON knows one kind of number
        return float(plain)
    # To Python True is an int; to JSON it is none.
    if not isinstance(plain, hint) or (isinstance(plain, bool) and hint is not bool):
        raise ValueError(f"{where}: expected {hint.__name__}, found {plain!r}")
    return plain


def _read_fraction(plain: Any, where: str) -> Fraction:
    """What `str(Fraction)` writes and nothing else: not "1/0", and not "1e999999999", which would
    take all memory."""
    if not isinstance(plain, str) or not _FRACTION.fullmatch(plain):
        raise ValueError(f"{where}: expected a fraction like 24000/1001, found {plain!r}")
    return Fraction(plain)


def _read_tuple(items: tuple[Any, ...], plain: Any, where: str, *, older: bool) -> tuple[Any, ...]:
    if not isinstance(plain, list):
        raise ValueError(f"{where}: expected a list, found {plain!r}")
    if len(items) == 2 and items[1] is Ellipsis:
        if older:
            return tuple(_known(items[0], plain, where))
        return tuple(_read(items[0], item, f"{where}[{n}]") for n, item in enumerate(plain))
    if len(items) != len(plain):
        raise ValueError(f"{where}: expected {len(items)} items, found {len(plain)}")
    pairs = zip(items, plain, strict=True)
    return tuple(_read(item, value, f"{where}[{n}]") for n, (item, value) in enumerate(pairs))


def _read_dict(hint: Any, plain: Any, where: str) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise ValueError(f"{where}: expected an object, found {plain!r}")
    return {name: _read(hint, value, f"{where}.{name}") for name, value in plain.items()}


def _read_dataclass(cls: Any, plain: Any, where: str) -> Any:
    hints = _hints(cls)
    if not isinstance(plain, dict) or plain.keys() != hints.keys():
        raise ValueError(f"{where}: expected the fields {sorted(hints)}")
    return cls(
        **{name: _read(hint, plain[name], f"{where}.{name}") for name, hint in hints.items()}
    )


def _known(hint: Any, plain: list[Any], where: str) -> Iterator[Any]:
    for n, item in enumerate(plain):
        with contextlib.suppress(ValueError):
            yield _read(hint, item, f"{where}[{n}]", older=True)


def _read_older(cls: Any, plain: Any, where: str) -> Any:
    if not isinstance(plain, dict):
        raise ValueError(f"{where}: expected an object, found {plain!r}")
    values = {}
    for field in dataclasses.fields(cls):
        try:
            if field.name not in plain:
                raise ValueError(f"{where}: expected the field {field.name}")
            hint = _hints(cls)[field.name]
            values[field.name] = _read(hint, plain[field.name], f"{where}.{field.name}", older=True)
        except ValueError:
            if field.default is dataclasses.MISSING:
                raise
    return cls(**values)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """Field → type. Kept, because the hints are text that is compiled anew at every asking."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}
