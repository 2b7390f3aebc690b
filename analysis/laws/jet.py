"""Exact first and second derivatives of any law: a number that carries its gradient and Hessian.

A `Jet` is a value with the derivatives that are not identically zero, keyed by parameter index. Each entry
keeps its own broadcastable shape, so a derivative that depends on the data alone is stored once, not once
per resample: this sparsity makes thousands of refits at once affordable. A law is written once, over numbers
that may be floats, arrays, jets or the recorded expressions of `javascript`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Entry = Array | float
Pair = tuple[int, int]
K = TypeVar("K")


@dataclass(frozen=True, eq=False)
class Jet:
    """A value, its gradient entries {i: d/d_i} and its Hessian entries {(i, j): d2/d_i d_j} for i <= j."""

    value: Entry
    first: Mapping[int, Entry] = field(default_factory=dict)
    second: Mapping[Pair, Entry] = field(default_factory=dict)

    __array_ufunc__ = None  # numpy arrays must defer to the reflected operators below

    def apply(self, value: Entry, slope: Entry, bend: Entry | None) -> "Jet":
        """Return phi(self), given phi's value, first and second derivative (None: zero) at `self.value`."""
        first = {i: slope * d for i, d in self.first.items()}
        second = {ij: slope * dd for ij, dd in self.second.items()}
        if bend is not None:
            bent = {i: bend * d for i, d in self.first.items()}
            for i, j in _pairs(self.first):
                _accumulate(second, (i, j), bent[i] * self.first[j])
        return Jet(value, first, second)

    def __add__(self, other: "Number") -> "Jet":
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.first, self.second)
        first, second = dict(self.first), dict(self.second)
        for i, d in other.first.items():
            _accumulate(first, i, d)
        for ij, dd in other.second.items():
            _accumulate(second, ij, dd)
        return Jet(self.value + other.value, first, second)

    def __mul__(self, other: "Number") -> "Jet":
        if not isinstance(other, Jet):
            return self.apply(self.value * other, other, None)
        first = {i: other.value * d for i, d in self.first.items()}
        second = {ij: other.value * dd for ij, dd in self.second.items()}
        for i, d in other.first.items():
            _accumulate(first, i, self.value * d)
        for ij, dd in other.second.items():
            _accumulate(second, ij, self.value * dd)
        for i, d in self.first.items():
            for j, e in other.first.items():
                product = d * e
                _accumulate(second, (min(i, j), max(i, j)), product + product if i == j else product)
        return Jet(self.value * other.value, first, second)

    def __neg__(self) -> "Jet":
        return self * -1.0

    def __sub__(self, other: "Number") -> "Jet":
        return self + (-other)

    def __rsub__(self, other: Entry) -> "Jet":
        return (-self) + other

    def __truediv__(self, other: "Number") -> "Jet":
        return self * reciprocal(other)

    def __rtruediv__(self, other: Entry) -> "Jet":
        return reciprocal(self) * other

    def __pow__(self, exponent: "Number") -> "Jet":
        return exp(log(self) * exponent)

    def __rpow__(self, base: Entry) -> "Jet":
        return exp(self * np.log(base))

    __radd__ = __add__
    __rmul__ = __mul__


Number = float | Array | Jet


def variable(index: int, value: Entry) -> Jet:
    """Return the jet of parameter `index` itself: derivative one by itself, zero by every other."""
    return Jet(value, {index: 1.0})


@overload
def exp(z: Jet) -> Jet: ...
@overload
def exp(z: Entry) -> Entry: ...
def exp(z: Number) -> Number:
    """Return e^z."""
    if not isinstance(z, Jet):
        return np.exp(z)
    value = np.exp(z.value)
    return z.apply(value, value, value)


@overload
def log(z: Jet) -> Jet: ...
@overload
def log(z: Entry) -> Entry: ...
def log(z: Number) -> Number:
    """Return the natural logarithm of z."""
    if not isinstance(z, Jet):
        return np.log(z)
    inverse = 1.0 / z.value
    return z.apply(np.log(z.value), inverse, -inverse * inverse)


@overload
def reciprocal(z: Jet) -> Jet: ...
@overload
def reciprocal(z: Entry) -> Entry: ...
def reciprocal(z: Number) -> Number:
    """Return 1 / z."""
    if not isinstance(z, Jet):
        return 1.0 / z
    inverse = 1.0 / z.value
    square = inverse * inverse
    return z.apply(inverse, -square, 2.0 * square * inverse)


def softplus(z: Number) -> Number:
    """Return log(1 + e^z) without overflow."""
    plain = value(z)
    result = np.logaddexp(0.0, plain)
    if not isinstance(z, Jet):
        return result
    slope = np.exp(plain - result)
    return z.apply(result, slope, slope * (1.0 - slope))


def where(condition: NDArray[np.bool_], yes: Number, no: Number) -> Number:
    """Return `yes` where the condition holds and `no` elsewhere, derivatives included."""
    if not isinstance(yes, Jet) and not isinstance(no, Jet):
        return np.where(condition, yes, no)
    one = yes if isinstance(yes, Jet) else Jet(yes)
    two = no if isinstance(no, Jet) else Jet(no)

    def pick(a: Entry, b: Entry) -> Array:
        return np.where(condition, a, b)

    first = {i: pick(one.first.get(i, 0.0), two.first.get(i, 0.0)) for i in {**one.first, **two.first}}
    second = {ij: pick(one.second.get(ij, 0.0), two.second.get(ij, 0.0)) for ij in {**one.second, **two.second}}
    return Jet(pick(one.value, two.value), first, second)


def value(z: Number) -> Entry:
    """Return the plain value of a number, dropping its derivatives."""
    return z.value if isinstance(z, Jet) else z


def settled(step: Any, z: Any) -> bool:
    """Return whether the steps of an iteration leave every z as it is, within rounding.

    A recorded number never settles: its iteration is written out up to the last step, which changes no digit.
    """
    return isinstance(step, np.ndarray | float) and bool(np.all(np.abs(step) <= 1e-14 * (1.0 + np.abs(z))))


def through(
    a: Number, b: Number, value: Array, slopes: tuple[Array, Array], bends: tuple[Array, Array, Array]
) -> Number:
    """Return phi(a, b), given phi's value, its derivatives by a and b, and its second by aa, ab and bb there."""
    if not isinstance(a, Jet) and not isinstance(b, Jet):
        return value
    one = a if isinstance(a, Jet) else Jet(a)
    two = b if isinstance(b, Jet) else Jet(b)
    first: dict[int, Entry] = {}
    second: dict[Pair, Entry] = {}
    for slope, number in zip(slopes, (one, two), strict=True):
        for i, d in number.first.items():
            _accumulate(first, i, slope * d)
        for ij, dd in number.second.items():
            _accumulate(second, ij, slope * dd)
    for bend, left, right in zip(bends, (one, one, two), (one, two, two), strict=True):
        for i, d in left.first.items():
            for j, e in right.first.items():
                if left is right and j < i:
                    continue  # the Hessian is symmetric: its upper half is kept
                product = bend * d * e
                _accumulate(
                    second, (min(i, j), max(i, j)), product + product if left is not right and i == j else product
                )
    return Jet(value, first, second)


def _pairs(first: Mapping[int, Entry]) -> list[Pair]:
    keys = sorted(first)
    return [(i, j) for n, i in enumerate(keys) for j in keys[n:]]


def _accumulate(table: dict[K, Entry], key: K, entry: Entry) -> None:
    table[key] = table[key] + entry if key in table else entry
