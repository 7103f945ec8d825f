"""Load a program that nobody trusts and answer calls of its functions.

Everything here can be overwritten by the program. It gains nothing: this process knows the calls,
never the answers that are expected.
"""

import json
import sys
from types import ModuleType
from typing import Any

from evals.boxed.limits import limit_self
from evals.boxed.messages import Channel, from_plain, to_plain


def main(limits: str) -> None:
    """Say ready, read a program, say how loading went, then answer until nobody asks.

    An answer is `{"value": data}` or `{"raised": [type names, message]}`, the type names in the
    order in which the exception's classes extend each other.
    """
    limit_self(**json.loads(limits))
    channel = Channel.instead_of_standard_streams()
    channel.send("ready")
    module = ModuleType("program")
    sys.modules["program"] = module
    source = channel.receive()
    channel.send(_answer(_load, source, module))
    while True:
        name, args, kwargs = map(from_plain, channel.receive())
        channel.send(_answer(_call, module, name, args, kwargs))


def _load(source: str, module: ModuleType) -> None:
    exec(compile(source, "<program>", "exec", dont_inherit=True), module.__dict__)


def _call(module: ModuleType, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    return getattr(module, name)(*args, **kwargs)


def _answer(function: Any, *args: Any) -> dict[str, Any]:
    try:
        return {"value": to_plain(function(*args))}
    except BaseException as error:
        names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
        return {"raised": [names, str(error)[:500]]}
