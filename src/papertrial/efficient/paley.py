"""Hadamard matrices whose order is no power of two: Paley's two constructions over finite fields."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from papertrial.errors import BadInputError

Polynomial = tuple[int, ...]
"""Coefficients from the constant term up, modulo a prime."""

_LARGEST_ORDER = 1024  # a dense factor of this order already costs more than the fast transform around it


def has_paley(order: int) -> bool:
    """Return whether one of Paley's constructions gives a Hadamard matrix of this order (1,024 at most).

    The first needs `order - 1` to be a prime power that leaves 3 when divided by 4, the second needs
    `order / 2 - 1` to be one that leaves 1.
    """
    return order <= _LARGEST_ORDER and _field_size(order) is not None


@lru_cache(maxsize=16)
def paley_matrix(order: int) -> np.ndarray:
    """Return a symmetric Hadamard matrix of ±1, (order, order) int8; its square is `order` times the identity.

    Rows of Paley's first form are taken in the order that makes the matrix symmetric: the residue symbol
    then is of a sum instead of a difference.

    Raises:
        BadInputError: neither construction has this order.
    """
    size = _field_size(order) if order <= _LARGEST_ORDER else None
    if size is None:
        raise BadInputError(
            f"no Paley matrix of order {order}: neither {order} - 1 nor {order} / 2 - 1 is a fitting prime power"
        )
    negative = -1 if size % 4 == 3 else 1  # the symbol of -1, by which the two constructions differ
    symbols = _residue_symbols(size, summed=negative == -1)
    if negative == 1:
        conference = np.ones((size + 1, size + 1), np.int8)
        conference[0, 0] = 0
        conference[1:, 1:] = symbols
        plus, minus = np.array([[1, 1], [1, -1]], np.int8), np.array([[1, -1], [-1, -1]], np.int8)
        return np.kron(conference, plus) + np.kron(np.eye(size + 1, dtype=np.int8), minus)
    matrix = np.ones((order, order), np.int8)
    matrix[1:, 1:] = np.where(symbols == 0, -1, symbols)
    return matrix


def _field_size(order: int) -> int | None:
    if order % 4:
        return None
    for size, remainder in ((order - 1, 3), (order // 2 - 1, 1)):
        if size >= 3 and size % 4 == remainder and _prime_power(size) is not None:
            return size
    return None


def _prime_power(size: int) -> tuple[int, int] | None:
    """Return (p, k) with size = p^k, p prime; None if there is none."""
    prime = next((d for d in range(2, int(size**0.5) + 1) if size % d == 0), size)
    power, rest = 0, size
    while rest % prime == 0:
        rest //= prime
        power += 1
    return (prime, power) if rest == 1 else None


def _residue_symbols(size: int, *, summed: bool) -> np.ndarray:
    """Return the quadratic residue symbols of a + b (or a - b) over all pairs of the field, (size, size)."""
    found = _prime_power(size)
    assert found is not None
    prime, degree = found
    modulus = _irreducible(prime, degree)
    elements = np.array(list(product(range(prime), repeat=degree)), np.int64)
    weights = prime ** np.arange(degree - 1, -1, -1)  # an element's number, as `product` counts
    symbol = np.full(size, -1, np.int8)
    for element in elements:
        symbol[int(_square(tuple(element.tolist()), modulus, prime) @ weights)] = 1
    symbol[0] = 0
    sign = 1 if summed else -1
    combined = (elements[:, None, :] + sign * elements[None, :, :]) % prime
    return symbol[combined @ weights]


def _square(element: Polynomial, modulus: Polynomial, prime: int) -> np.ndarray:
    degree = len(element)
    product_ = np.convolve(element, element)
    for top in range(len(product_) - 1, degree - 1, -1):  # the modulus is monic
        product_[top - degree : top + 1] -= product_[top] * np.array(modulus)
    return product_[:degree] % prime


def _irreducible(prime: int, degree: int) -> Polynomial:
    """Return the first monic polynomial of this degree that no monic one of lower degree divides."""
    divisors = [(*low, 1) for half in range(1, degree // 2 + 1) for low in product(range(prime), repeat=half)]
    for low in product(range(prime), repeat=degree):
        candidate = (*low, 1)
        if not any(_divides(divisor, candidate, prime) for divisor in divisors):
            return candidate
    raise AssertionError("every degree has an irreducible polynomial")


def _divides(divisor: Polynomial, polynomial: Polynomial, prime: int) -> bool:
    rest = np.array(polynomial)
    degree = len(divisor) - 1
    for top in range(len(rest) - 1, degree - 1, -1):
        rest[top - degree : top + 1] = (rest[top - degree : top + 1] - rest[top] * np.array(divisor)) % prime
    return not rest.any()
