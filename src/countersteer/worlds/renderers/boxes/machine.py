"""What numba does not offer: buffers on the stack, loads without checks, the widest vectors.

The compiler turns a loop into vector code only if it can prove that what the loop writes is not what it
reads. A buffer on the stack that leaves no function is proven; so a kernel works a row in such buffers,
pass by pass, and looks things up in memory by computed places on the way.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

__all__ = ["LANES", "fetch", "load", "on_stack", "widest_vectors"]

LANES = 16
"""Numbers of 32 bits in the widest vector of a processor; shorter vectors take several turns."""


def on_stack(count: int, dtype: type) -> Any:
    """A compiled function that returns `count` uninitialised numbers on the stack of its caller."""
    item = nb.from_dtype(np.dtype(dtype))
    array = types.Array(item, 1, "C")

    @intrinsic
    @no_type_check
    def buffer(typing_context):
        def generate(context, builder, signature, arguments):
            with builder.goto_entry_block():
                memory = builder.alloca(ir.ArrayType(context.get_data_type(item), count))
                memory.align = 64
            first = ir.Constant(ir.IntType(32), 0)
            size = context.get_abi_sizeof(context.get_data_type(item))
            view = make_array(array)(context, builder)
            # Nobody owns it, so no references to it are counted.
            populate_array(
                view,
                data=builder.gep(memory, [first, first]),
                shape=(context.get_constant(types.intp, count),),
                strides=(context.get_constant(types.intp, size),),
                itemsize=context.get_constant(types.intp, size),
                meminfo=None,
            )
            return view._getvalue()

        return array(), generate

    return buffer


@intrinsic
@no_type_check
def load(typing_context, array, index):
    """`array[index]` of a flat array by a 32-bit index that is known to be inside it."""

    def generate(context, builder, signature, arguments):
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=arguments[0]).data
        return builder.load(builder.gep(data, [arguments[1]], inbounds=True))

    return array.dtype(array, types.int32), generate


@intrinsic
@no_type_check
def fetch(typing_context, array, index):
    """`load`, which never becomes a gather of a vector: processors differ in which of the two is fast."""

    def generate(context, builder, signature, arguments):
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=arguments[0]).data
        index = builder.zext(arguments[1], ir.IntType(64))
        place = builder.gep(data, [index], inbounds=True)
        return builder.load_atomic(place, "monotonic", array.dtype.bitwidth // 8)

    return array.dtype(array, types.int32), generate


@intrinsic
@no_type_check
def widest_vectors(typing_context):
    """Ask for the widest vectors of the processor in the function that calls this.

    Compilers use half of what AVX-512 offers by default, out of care for code that uses it now and then.
    """

    def generate(context, builder, signature, arguments):
        # The set refuses names that it does not know; the assembler knows this one.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate
