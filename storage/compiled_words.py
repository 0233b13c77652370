"""Copy eight bytes at once in loops that numba compiles, which by itself copies one at a time."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WORD = 8  # bytes


def _copy_word(context: Any, target: Any, to: Any, source: Any, at: Any) -> Any:
    """Copy `WORD` bytes from ``source[at]`` on to ``target[to]`` on.

    All are read before the first is written. Nobody checks that they are in the arrays: the caller
    does, whose memory is damaged otherwise.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def place(array: int, index: int) -> Any:
            data = context.make_array(signature.args[array])(context, builder, values[array]).data
            word = ir.IntType(8 * WORD).as_pointer()
            return builder.bitcast(builder.gep(data, [values[index]]), word)

        loaded = builder.load(place(2, 3), align=1)
        builder.store(loaded, place(0, 1), align=1)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), generate


copy_word: Any = intrinsic(_copy_word)
