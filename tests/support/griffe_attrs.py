"""Show the constructors of attrs classes in the API reference, which griffe reads from the source.

`mkdocs.yml` names this file. attrs makes `__init__` when a class is made; griffe, which runs no
code, would show classes without parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from griffe import (
    Attribute,
    Class,
    Expr,
    ExprCall,
    Extension,
    Function,
    Module,
    Parameter,
    ParameterKind,
    Parameters,
)

_DECORATORS = {"attrs.define", "attrs.frozen", "attrs.mutable"}
_FIELDS = {"attrs.field", "attrs.Factory"}


class AttrsExtension(Extension):
    """Adds `__init__` to each class that attrs makes."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:  # noqa: ANN401 - griffe's own
        """Look through a package once it is loaded."""
        for class_ in list(_iter_classes(pkg)):
            if "__init__" not in class_.members and _find_decorator(class_) is not None:
                _add_constructor(class_)


def _iter_classes(parent: Module | Class) -> Iterator[Class]:
    for member in parent.members.values():
        if member.is_alias:
            continue
        if isinstance(member, Class):
            yield member
        if isinstance(member, Module | Class):
            yield from _iter_classes(member)


def _find_decorator(class_: Class) -> Expr | None:
    for decorator in class_.decorators:
        value = decorator.value
        if isinstance(value, Expr) and value.canonical_path in _DECORATORS:
            return value
    return None


def _read_arguments(value: object) -> dict[str, Any]:
    if not isinstance(value, ExprCall):
        return {}
    return {getattr(one, "name", ""): getattr(one, "value", one) for one in value.arguments}


def _add_constructor(class_: Class) -> None:
    parameters = dict[str, Parameter]()
    for one in [*reversed(class_.mro()), class_]:
        decorator = _find_decorator(one)
        if decorator is not None:
            only = str(_read_arguments(decorator).get("kw_only")) == "True"
            parameters |= {it.name: it for it in _iter_parameters(one, kw_only=only)}
    by_place = sorted(parameters.values(), key=lambda it: it.kind is ParameterKind.keyword_only)
    own = Parameter("self", kind=ParameterKind.positional_or_keyword)
    made = Parameters(own, *by_place)
    init = Function("__init__", parameters=made, returns="None", parent=class_)
    class_.set_member("__init__", init)


def _iter_parameters(class_: Class, *, kw_only: bool) -> Iterator[Parameter]:
    for member in class_.members.values():
        if not isinstance(member, Attribute) or member.annotation is None:
            continue
        if "instance-attribute" not in member.labels or "property" in member.labels:
            continue
        is_field = isinstance(member.value, ExprCall) and member.value.canonical_path in _FIELDS
        given = _read_arguments(member.value) if is_field else {"default": member.value}
        if str(given.get("init")) == "False":
            continue
        default = given.get("default")
        if "factory" in given:
            default = f"{given['factory']}()"
        alias = str(given["alias"]).strip("'") if "alias" in given else ""
        only = kw_only or str(given.get("kw_only")) == "True"
        yield Parameter(
            alias or member.name.lstrip("_"),
            annotation=None if alias else member.annotation,  # with an alias comes a converter
            kind=ParameterKind.keyword_only if only else ParameterKind.positional_or_keyword,
            default=default,
        )
