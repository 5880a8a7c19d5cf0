"""A step function is held to its contract at the boundary."""

import numpy as np
import pytest

from hcsflow.errors import ContractError
from hcsflow.graph.calls import apply
from hcsflow.plan import Call

STACK = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)


def call_of(func, *, z_out="same", dtype="uint16", special_outputs=(), output_type="numpy"):
    return Call(
        function=f"lab:{func.__name__}",
        fingerprint="",
        input_type="numpy",
        output_type=output_type,
        parameters=(),
        special_inputs=(),
        special_outputs=special_outputs,
        z_out=z_out,
        shape_yx=(4, 5),
        dtype=dtype,
        func=func,
    )


def nothing(_stack):
    return None


def flat(stack):
    return stack.max(axis=0)


def projected(stack):
    return stack.max(axis=0, keepdims=True)


def smaller(stack):
    return stack[:, ::2]


def floats(stack):
    return stack.astype(np.float64)


def pair(stack):
    return stack, 7


def kept(stack):
    return stack


@pytest.mark.parametrize(
    ("func", "says", "advice"),
    [
        (nothing, "returned None", "return the processed stack"),
        (flat, "returned shape (4, 5), expected (3, 4, 5)", "keepdims=True"),
        (projected, "returned shape (1, 4, 5)", "z_out='one'"),
        (smaller, "returned shape (3, 2, 5)", "output_shape"),
        (floats, "returned float64, expected uint16", "dtype='float64'"),
        (pair, "returned a tuple", None),
    ],
)
def test_another_result_names_step_function_and_what_to_do(func, says, advice):
    with pytest.raises(ContractError) as caught:
        apply("blur", call_of(func), STACK, {})
    text = str(caught.value)
    assert "'blur'" in text
    assert func.__name__ in text
    assert says in text
    assert advice is None or advice in text


def test_special_outputs_must_be_all_there():
    with pytest.raises(ContractError, match="must return \\(stack, cells\\)"):
        apply("find", call_of(kept, special_outputs=("cells",)), STACK, {})
    main, extras = apply("find", call_of(pair, special_outputs=("cells",)), STACK, {})
    assert main is STACK
    assert extras == [7]


def test_what_is_declared_is_accepted_without_a_copy():
    main, extras = apply("keep", call_of(kept), STACK, {})
    assert main is STACK
    assert extras == []
    assert apply("p", call_of(projected, z_out="one"), STACK, {})[0].shape == (1, 4, 5)
    assert apply("f", call_of(floats, dtype="float64"), STACK, {})[0].dtype == np.float64
