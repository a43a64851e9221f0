"""Compiled loops of the CPU decode step: scores, exponentials and weighted sums over rows of one head.

All arrays are float32 and C-contiguous; `rows` is (tokens, dim), `queries` (group, dim) holds the query heads
that share one key-value head, already multiplied by the softmax scale. Nothing here allocates per token or
takes the interpreter lock, so heads may run on threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from numba import njit

TOKENS_PER_BLOCK = 256
_LOG2_E = np.float32(1.4426950408889634)
_LOWEST_EXPONENT = np.float32(-126.0)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a loop without the interpreter lock; sums may be reordered, infinities and NaN stay exact.

    The result is kept beside the source. numba looks at one file only when it decides whether that is still
    true: after an edit here, touch the files whose loops call these.
    """
    return njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy", cache=True)(
        function
    )


@compiled
@no_type_check
def exponentiate(x, bits):
    """Replace every x <= 0 by exp(x), to 2e-7 relative; below -87 it is 1e-38. `bits` is int32 scratch.

    numpy's exp is one scalar call per element in compiled loops; this form is vectorised by the compiler:
    2^y = 2^rint(y) * 2^(y - rint(y)), the first factor written as exponent bits, the second as a polynomial.
    """
    for j in range(x.shape[0]):
        y = x[j] * _LOG2_E
        if y < _LOWEST_EXPONENT:
            y = _LOWEST_EXPONENT
        whole = np.rint(y)
        bits[j] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        rest = y - whole
        power = np.float32(1.5252733804059841e-05)
        power = power * rest + np.float32(1.5403530393381606e-04)
        power = power * rest + np.float32(1.3333558146428443e-03)
        power = power * rest + np.float32(9.6181291076284772e-03)
        power = power * rest + np.float32(5.5504108664821580e-02)
        power = power * rest + np.float32(2.4022650695910072e-01)
        power = power * rest + np.float32(6.9314718055994531e-01)
        x[j] = power * rest + np.float32(1.0)
    factors = bits.view(np.float32)
    for j in range(x.shape[0]):
        x[j] *= factors[j]


@compiled
@no_type_check
def score_run(queries, rows, start, stop, scores, first):
    """Write <query, row> of rows[start:stop] into scores[:, first:]; four heads share one read of a row."""
    group, dim = queries.shape
    fours = group - group % 4
    for g in range(0, fours, 4):
        for t in range(start, stop):
            s0 = np.float32(0)
            s1 = np.float32(0)
            s2 = np.float32(0)
            s3 = np.float32(0)
            for k in range(dim):
                x = rows[t, k]
                s0 += x * queries[g, k]
                s1 += x * queries[g + 1, k]
                s2 += x * queries[g + 2, k]
                s3 += x * queries[g + 3, k]
            j = first + t - start
            scores[g, j] = s0
            scores[g + 1, j] = s1
            scores[g + 2, j] = s2
            scores[g + 3, j] = s3
    for g in range(fours, group):
        for t in range(start, stop):
            total = np.float32(0)
            for k in range(dim):
                total += rows[t, k] * queries[g, k]
            scores[g, first + t - start] = total


@compiled
@no_type_check
def add_run(weights, first, rows, start, stop, out):
    """Add weights[:, first:] times rows[start:stop] to out (group, dim), four rows for each pass over out."""
    group, dim = out.shape
    fours = start + (stop - start) // 4 * 4
    for t in range(start, fours, 4):
        j = first + t - start
        for g in range(group):
            w0, w1, w2, w3 = weights[g, j], weights[g, j + 1], weights[g, j + 2], weights[g, j + 3]
            for k in range(dim):
                out[g, k] += w0 * rows[t, k] + w1 * rows[t + 1, k] + w2 * rows[t + 2, k] + w3 * rows[t + 3, k]
    for t in range(fours, stop):
        for g in range(group):
            w0 = weights[g, first + t - start]
            for k in range(dim):
                out[g, k] += w0 * rows[t, k]


@compiled
@no_type_check
def add_listed(weights, rows, listed, out):
    """Add weights[:, i] times rows[i] for every i in `listed` to out (group, dim)."""
    group, dim = out.shape
    fours = listed.shape[0] - listed.shape[0] % 4
    for n in range(0, fours, 4):
        a, b, c, d = listed[n], listed[n + 1], listed[n + 2], listed[n + 3]
        for g in range(group):
            w0, w1, w2, w3 = weights[g, a], weights[g, b], weights[g, c], weights[g, d]
            for k in range(dim):
                out[g, k] += w0 * rows[a, k] + w1 * rows[b, k] + w2 * rows[c, k] + w3 * rows[d, k]
    for n in range(fours, listed.shape[0]):
        a = listed[n]
        for g in range(group):
            w0 = weights[g, a]
            for k in range(dim):
                out[g, k] += w0 * rows[a, k]


@compiled
@no_type_check
def attend_run(queries, keys, values, start, stop, out, log_sum_exp):
    """Exact attention of one key-value head's queries over rows start..stop, in one pass with a running max.

    Fills out (group, dim) and log_sum_exp (group,).
    """
    group, dim = queries.shape
    scores = np.empty((group, TOKENS_PER_BLOCK), np.float32)
    bits = np.empty(TOKENS_PER_BLOCK, np.int32)
    highest = np.full(group, -np.inf, np.float32)
    total = np.zeros(group, np.float32)
    out[:] = np.float32(0)
    for block in range(start, stop, TOKENS_PER_BLOCK):
        end = min(block + TOKENS_PER_BLOCK, stop)
        score_run(queries, keys, block, end, scores, 0)
        for g in range(group):
            row = scores[g, : end - block]
            peak = highest[g]
            for x in row:
                if x > peak:
                    peak = x
            if peak > highest[g]:
                shrink = np.exp(highest[g] - peak)
                total[g] *= shrink
                for k in range(dim):
                    out[g, k] *= shrink
                highest[g] = peak
            for j in range(row.shape[0]):
                row[j] -= peak
            exponentiate(row, bits)
            for x in row:
                total[g] += x
        add_run(scores, 0, values, block, end, out)
    for g in range(group):
        log_sum_exp[g] = highest[g] + np.log(total[g])
        for k in range(dim):
            out[g, k] /= total[g]
