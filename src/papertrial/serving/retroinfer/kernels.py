"""The compiled decode step over a wave index: one key-value head, float32, on a CPU."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from papertrial.serving.kernels import add_listed, add_run, compiled, exponentiate, score_run

_LOWEST = np.finfo(np.float32).min


@compiled
@no_type_check
def step_of_one_head(
    queries,
    centroids,
    value_sums,
    sizes,
    starts,
    keys,
    values,
    steady_keys,
    steady_values,
    out,
    retrieved,
    estimated,
):
    """Fill out (group, dim) with tripartite attention; `queries` are already scaled.

    The exponentials of the centroid scores are computed once: their sums rank the clusters, and the same
    numbers, rescaled, are the estimate. Retrieved clusters are read as runs of rows. Chosen clusters are kept
    in index order, which reads memory forwards; the sums do not depend on it.
    """
    group = queries.shape[0]
    clusters = centroids.shape[0]
    weights = np.empty((group, clusters), np.float32)
    bits = np.empty(max(clusters, 1), np.int32)
    score_run(queries, centroids, 0, clusters, weights, 0)
    peaks = exponentiate_rows(weights, bits)
    best, next_best = choose(cluster_scores(weights, sizes), retrieved, estimated)

    tokens = steady_keys.shape[0]
    for c in best:
        tokens += sizes[c]
    exact = np.empty((group, tokens), np.float32)
    score_run(queries, steady_keys, 0, steady_keys.shape[0], exact, 0)
    place = steady_keys.shape[0]
    for c in best:
        score_run(queries, keys, starts[c], starts[c] + sizes[c], exact, place)
        place += sizes[c]
    if tokens > bits.shape[0]:
        bits = np.empty(tokens, np.int32)
    exact_peaks = exponentiate_rows(exact, bits)

    add_exact(exact, steady_values, values, starts, sizes, best, out)
    add_estimate(weights, value_sums, sizes, next_best, peaks, exact, exact_peaks, out)


@compiled
@no_type_check
def exponentiate_rows(rows, bits):
    """Replace each row by exp(row - its largest entry) and return the largest entries."""
    peaks = np.empty(rows.shape[0], np.float32)
    for g in range(rows.shape[0]):
        row = rows[g]
        peak = _LOWEST
        for x in row:
            if x > peak:
                peak = x
        for j in range(row.shape[0]):
            row[j] -= peak
        exponentiate(row, bits[: row.shape[0]])
        peaks[g] = peak
    return peaks


@compiled
@no_type_check
def cluster_scores(weights, sizes):
    """Return the summed softmax of every cluster over the query heads; the lowest number for an empty one."""
    group, clusters = weights.shape
    scores = np.zeros(clusters, np.float32)
    for g in range(group):
        total = np.float32(0)
        for x in weights[g]:
            total += x
        for c in range(clusters):
            scores[c] += weights[g, c] / total
    for c in range(clusters):
        if sizes[c] == 0:
            scores[c] = _LOWEST
    return scores


@compiled
@no_type_check
def choose(scores, retrieved, estimated):
    """Return the `retrieved` best clusters and the `estimated` next, in index order; ties: lower first."""
    touched = retrieved + estimated
    first = np.empty(retrieved, np.int32)
    second = np.empty(estimated, np.int32)
    order = np.partition(scores, scores.shape[0] - touched)
    low = order[scores.shape[0] - touched]
    high = np.partition(order[scores.shape[0] - touched :], estimated)[estimated]
    above_low = above_high = 0
    for x in scores:
        above_low += x > low
        above_high += x > high
    ties_low = touched - above_low
    ties_high = retrieved - above_high
    i = j = 0
    for c in range(scores.shape[0]):
        x = scores[c]
        if x > high or (x == high and ties_high > 0):
            if x == high:
                ties_high -= 1
                # One number may be both limits: a tie retrieved is no longer a tie to estimate.
                if high == low:
                    ties_low -= 1
            first[i] = c
            i += 1
        elif x > low or (x == low and ties_low > 0):
            if x == low:
                ties_low -= 1
            second[j] = c
            j += 1
    return first, second


@compiled
@no_type_check
def add_exact(exact, steady_values, values, starts, sizes, best, out):
    """Set out to the unnormalised sum over the steady zone and the runs of the retrieved clusters."""
    out[:] = np.float32(0)
    add_run(exact, 0, steady_values, 0, steady_values.shape[0], out)
    place = steady_values.shape[0]
    for c in best:
        add_run(exact, place, values, starts[c], starts[c] + sizes[c], out)
        place += sizes[c]


@compiled
@no_type_check
def add_estimate(weights, value_sums, sizes, listed, peaks, exact, exact_peaks, out):
    """Add the estimated clusters to the exact sums in `out` and divide by the joined denominator."""
    group, dim = out.shape
    totals = np.empty(group, np.float32)
    for g in range(group):
        joint = max(peaks[g], exact_peaks[g])
        shrink_exact = np.exp(exact_peaks[g] - joint)
        shrink_estimate = np.exp(peaks[g] - joint)
        total = np.float32(0)
        for x in exact[g]:
            total += x
        total *= shrink_exact
        for k in range(dim):
            out[g, k] *= shrink_exact
        for c in listed:
            weights[g, c] *= shrink_estimate
            if sizes[c] == 0:
                weights[g, c] = np.float32(0)
            total += sizes[c] * weights[g, c]
        totals[g] = total
    add_listed(weights, value_sums, listed, out)
    for g in range(group):
        for k in range(dim):
            out[g, k] /= totals[g]
