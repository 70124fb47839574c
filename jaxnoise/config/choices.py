"""A choice by name: one of jaxnoise's own, or "module:attribute" of the user's."""

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxnoise.config.sections import is_plain, with_keys
from jaxnoise.errors import ArgumentError
from jaxnoise.user_code import imported

Make = Callable[..., Any]
_KINDS = (bool, int, float, str, type(None))


class Choices(Mapping[str, Make]):
    """What each name stands for; its keyword parameters are the keys of the section.

    A name with a colon is the user's own code, whose parameters are the keys in the same way: all
    but those whose default is no number, string, boolean, None or tuple of them, since a config
    cannot hold those.

    Args:
      named: what jaxnoise has.
      own: makes of the user's callable what stands beside the named ones; by default itself.
      gives: what the user's callable must give: a class, or names that it must have.
    """

    def __init__(
        self,
        named: Mapping[str, Make],
        own: Callable[[Make], Make] = lambda make: make,
        gives: type | tuple[str, ...] = (),
    ):
        self._named, self._own, self._gives = dict(named), own, gives

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def __contains__(self, name: object) -> bool:
        return name in self._named or (isinstance(name, str) and ":" in name)

    def __getitem__(self, name: str) -> Make:
        if ":" not in name:
            return self._named[name]
        make, gives = imported("name", name), self._gives

        def build(*given: Any, **arguments: Any) -> Any:
            made = make(*given, **arguments)
            if isinstance(gives, tuple):
                fits, wanted = all(hasattr(made, one) for one in gives), ", ".join(gives)
            else:
                fits, wanted = isinstance(made, gives), gives.__name__
            if not fits:
                shown = " ".join(repr(made).split())
                allowed = f"code that gives an object with {wanted}; it gave {shown:.80}"
                raise ArgumentError("name", name, allowed)
            return made

        try:
            return self._own(with_keys(build, own_keys(make)))
        except ArgumentError as error:
            raise ArgumentError("name", name, error.allowed) from error


def own_keys(make: Make, taken: tuple[str, ...] = ()) -> list[inspect.Parameter]:
    """The parameters of a user's callable that a config can set, with annotations it can check.

    Args:
      make: the callable.
      taken: keys of the section that are jaxnoise's.

    Raises:
      ArgumentError: its signature cannot be read, or a parameter has the name of another key.
    """
    called = getattr(make, "__name__", repr(make))
    try:
        signature = _signature(make)
    except (TypeError, ValueError) as error:
        raise ArgumentError("name", called, f"code with a signature ({error})") from error
    hidden = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = signature.parameters.get("name")
    if needed is not None and needed.default is inspect.Parameter.empty:
        taken = ("name", *taken)
    for key in taken:
        if key in signature.parameters:
            allowed = f"code without a parameter {key!r}, which is another key of the section"
            raise ArgumentError("name", called, allowed)
    return [
        key.replace(annotation=_checkable(key.annotation))
        for key in signature.parameters.values()
        # The section's `name` is what chose this code.
        if key.name != "name"
        and key.kind not in hidden
        and (key.default is key.empty or is_plain(key.default))
    ]


def _signature(make: Make) -> inspect.Signature:
    try:
        return inspect.signature(make, eval_str=True)
    # An annotation may name what is imported for a type checker only, or be no expression.
    except Exception:
        return inspect.signature(make)


def _checkable(annotation: Any) -> Any:
    """An annotation as far as a config's values can be checked against it."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        kinds = typing.get_args(annotation)
        return Any if any(_checkable(kind) is Any for kind in kinds) else annotation
    if typing.get_origin(annotation) is tuple:
        kinds = typing.get_args(annotation)
        whole = len(kinds) == 2 and kinds[1] is Ellipsis and _checkable(kinds[0]) is not Any
        return annotation if whole else Any
    return annotation if annotation in _KINDS else Any
