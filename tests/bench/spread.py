# SPDX-License-Identifier: MIT
"""What many rounds come to. Machines differ and are busy, so what counts is the ratio of two in the same round."""

import statistics


def percentile(values, p):
    values = sorted(values)
    at = (len(values) - 1) * p / 100
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def spread(values):
    """Median and 5th to 95th percentile."""
    return {"median": statistics.median(values), "p5": percentile(values, 5), "p95": percentile(values, 95),
            "n": len(values)}


def ratio(ones, others):
    """Of two lists with an entry for each round."""
    return spread([a / b for a, b in zip(ones, others, strict=True)])


def text(s, digits=2):
    return f"{s['median']:.{digits}f} ({s['p5']:.{digits}f} to {s['p95']:.{digits}f})"
