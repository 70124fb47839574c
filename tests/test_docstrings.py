"""`help()` tells all: every public name has its fields, its arguments and an example that runs."""

import ast
import builtins
import dataclasses
import doctest
import importlib
import inspect
import re

import flax.linen as nn
import pytest

ROOMS = (
    "data",
    "evaluation",
    "export",
    "meta",
    "models",
    "noise",
    "objectives",
    "optim",
    "sampling",
)
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Example", "Reference")
"""In this order."""


def public_names():
    """(where it is imported from, name, class or function); constants and aliases are left out."""
    for room in ROOMS:
        module = importlib.import_module(f"jaxnoise.{room}")
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isfunction(found) or inspect.isclass(found):
                yield module.__name__, name, found


PUBLIC = {f"{module}.{name}": found for module, name, found in public_names()}
every_name = pytest.mark.parametrize("name", PUBLIC)


def statements_of(docstring):
    examples = doctest.DocTestParser().get_examples(docstring)
    return [statement for example in examples for statement in ast.parse(example.source).body]


def undefined(statements):
    """Names that statements read before one of them, or Python, has defined them."""
    defined, missing = set(dir(builtins)), set()
    for statement in statements:
        read = set()
        for node in ast.walk(statement):
            match node:
                case ast.Name(id=name, ctx=ast.Load()):
                    read.add(name)
                case ast.Name(id=name) | ast.arg(arg=name):
                    defined.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    defined.add(name)
                case ast.alias(name=name, asname=other):
                    defined.add(other or name.partition(".")[0])
        missing |= read - defined
    return missing


def fields_of(kind):
    if dataclasses.is_dataclass(kind):
        of_flax = {"name", "parent"} if issubclass(kind, nn.Module) else set()
        names = {field.name for field in dataclasses.fields(kind)} - of_flax
    else:
        names = set(getattr(kind, "_fields", ()))
    return {name for name in names if not name.startswith("_")}


def told(docstring):
    """Names that have a line "name: ..." or "name, name: ..." in a docstring."""
    lines = re.findall(r"^ *((?:\w+, )*\w+):", docstring, re.MULTILINE)
    return {name for line in lines for name in line.split(", ")}


def arguments_of(function):
    return set(inspect.signature(function).parameters) - {"self", "cls"}


def methods_of(kind):
    """Public methods that a class or a base of it in this library defines."""
    for name in dir(kind):
        method = inspect.getattr_static(kind, name)
        public = not name.startswith("_") or name == "__call__"
        if public and inspect.isfunction(method) and method.__module__.startswith("jaxnoise."):
            yield getattr(kind, name)


@every_name
def test_docstring_has_an_example_and_its_sections_in_order(name):
    docstring = PUBLIC[name].__doc__ or ""
    found = re.findall(rf"^ +({'|'.join(SECTIONS)}):", docstring, re.MULTILINE)
    assert found == sorted(set(found), key=SECTIONS.index)
    if not getattr(PUBLIC[name], "_is_protocol", False):
        assert statements_of(docstring)


@every_name
def test_example_defines_or_imports_what_it_uses(name):
    # That its results are true is tested where pytest collects the module's doctests.
    assert not undefined(statements_of(PUBLIC[name].__doc__))


@every_name
def test_example_imports_from_public_places(name):
    for node in ast.walk(ast.Module(statements_of(PUBLIC[name].__doc__), [])):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("jaxnoise."):
            public = importlib.import_module(node.module).__all__
            assert {alias.name for alias in node.names} <= set(public)
            assert node.module.count(".") == 1


@every_name
def test_docstring_tells_every_field_or_argument(name):
    found = PUBLIC[name]
    wanted = fields_of(found) if inspect.isclass(found) else arguments_of(found)
    assert wanted <= told(found.__doc__)


@every_name
def test_methods_tell_their_arguments(name):
    if not inspect.isclass(PUBLIC[name]):
        return
    for method in methods_of(PUBLIC[name]):
        docstring = inspect.getdoc(method) or ""
        assert arguments_of(method) <= told(docstring), f"{method.__name__}: {docstring}"


def test_names_that_an_example_takes_from_nowhere_are_found():
    example = """
    >>> import jax.numpy as jnp
    >>> x, f = y, lambda a: a + jnp.ones(2)
    >>> [late for late in range(3)]; g(x)
    >>> def g(z):
    ...     return z
    """
    assert undefined(statements_of(example)) == {"y", "g"}
