# SPDX-License-Identifier: MIT
"""results.json as pictures, one for each part that was measured, as PNG and as SVG."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

COLOURS = {"modalpool": "#d1495b", "modalpool, cat": "#e58a97", "floor": "#888888", "go": "#00798c", "js": "#edae49",
           "python": "#30638e", "python, asyncio": "#7fa8c9", "empty": "#888888"}
NAMES = {"floor": "floor (C++, gRPC core)", "go": "Go SDK", "js": "JS SDK", "python": "Python SDK",
         "python, asyncio": "Python SDK, asyncio"}


def name_of(peer):
    return NAMES.get(peer, peer)


def error(s):
    return [[s["median"] - s["p5"]], [s["p95"] - s["median"]]]


def bars(axes, values, label, form="{:.4g}"):
    """Lying bars: {peer: number, or spread}; the first on top."""
    for y, (peer, value) in enumerate(values.items()):
        median = value["median"] if isinstance(value, dict) else value
        axes.barh(y, median, color=COLOURS.get(peer, "#30638e"), xerr=error(value) if isinstance(value, dict) else None,
                  error_kw={"ecolor": "#333333", "capsize": 2, "lw": 1})
        end = value["p95"] if isinstance(value, dict) else value
        axes.annotate(form.format(median), (end, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(values)), [name_of(peer) for peer in values])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def limit(axes, x, text):
    axes.axvline(x, color="#2e7d32", ls="--", lw=1)
    axes.annotate(text, (x, 1), xycoords=("data", "axes fraction"), xytext=(3, 3), textcoords="offset points",
                  color="#2e7d32", fontsize=8)


def panels(n, title, height=3.4):
    figure, axes = plt.subplots(1, n, figsize=(6.4 * n if n == 1 else 5.6 * n, height), layout="constrained", squeeze=False)
    figure.suptitle(title)
    return figure, axes[0]


def acquire(found):
    figure, axes = panels(2, "Warm acquire: from the request to the moment a job may start", 2.6)
    for one, cores in zip(axes, ("one core", "any core")):
        here = found[cores]
        bars(one, {"empty FUSE mkdir": here["empty_mkdir_us"], "modalpool": here["modalpool_mkdir_us"],
                   "modalpool, and read environment": here["modalpool_mkdir_and_environment_us"],
                   "pool on the Python SDK": found["python_pool_us"]}, f"µs on {cores}")
        one.set_xscale("log")
        one.set_xlim(1)
        limit(one, 3 * here["empty_mkdir_us"]["median"], "target")
    return figure


def jobs(found):
    figure, axes = panels(2, "A job's round trip (true), no delay")
    here = found["true"]
    first, second = axes
    bars(first, {peer: v["p50_us"] / 1e3 for peer, v in here.items()}, "ms until its end is known: median, line to the 99th percentile")
    for y, v in enumerate(here.values()):
        first.plot([v["p50_us"] / 1e3, v["p99_us"] / 1e3], [y + 0.3, y + 0.3], color="#333333", lw=1)
    first.set_xlim(0, max(v["p50_us"] for v in here.values()) / 1e3 * 1.6)
    limit(first, 1.3 * here["floor"]["p50_us"] / 1e3, "target")
    bars(second, {peer: {k: s / 1e3 if k != "n" else s for k, s in v["cpu_us"].items()} for peer, v in here.items()},
         "ms of the client's processor time for each job")
    return figure


def delay(found):
    figure, axes = panels(len(found), "A job's round trip over a network with delay")
    for one, (ms, here) in zip(axes, found.items()):
        bars(one, {peer: v["round_trips"] for peer, v in here.items() if peer != "acquire"}, f"round trips of {2 * int(ms.split()[0])} ms")
        limit(one, 2.1, "target")
    return figure


def throughput(found):
    figure, (axes,) = panels(1, "Output as fast as it comes", 2.8)
    bars(axes, {peer: v["mib_per_s"] for peer, v in found.items() if isinstance(v, dict)}, "MiB/s to the reader", "{:.0f}")
    limit(axes, 0.8 * found["floor"]["mib_per_s"]["median"], "target")
    return figure


def lines(axes, found, value, label):
    peers = list(next(iter(found.values())))
    for peer in peers:
        xs = [int(n) for n in found]
        ys = [value(found[n][peer]) for n in found]
        medians = [y["median"] if isinstance(y, dict) else y for y in ys]
        axes.plot(xs, medians, "o-", color=COLOURS.get(peer), label=name_of(peer))
        if isinstance(ys[0], dict):
            axes.fill_between(xs, [y["p5"] for y in ys], [y["p95"] for y in ys], color=COLOURS.get(peer), alpha=0.15)
    axes.set_xscale("log")
    axes.set_xlabel("leases with jobs at once")
    axes.set_ylabel(label)
    axes.set_ylim(0)
    axes.spines[["top", "right"]].set_visible(False)


def scale(found):
    figure, axes = panels(3, "Jobs in many leases at once")
    lines(axes[0], found, lambda v: v["jobs_per_s"], "jobs a second")
    lines(axes[1], found, lambda v: v["cpu_us"], "µs of client CPU for each job")
    lines(axes[2], found, lambda v: v["resident_mib"], "MiB of memory")
    axes[0].legend(fontsize=8)
    return figure


def idle(found):
    counts = [n for n in found if n.isdigit()]
    xs = [int(n) for n in counts]
    figure, axes = panels(2, "Leases that do nothing")
    for name, colour in zip(found[counts[0]]["operations"], ("#00798c", "#edae49", "#d1495b")):
        for key, style in (("time_growth", "o-"), ("cpu_growth", "o:")):
            ys = [found[n]["operations"][name][key]["median"] for n in counts]
            axes[0].plot(xs, ys, style, color=colour, label=f"{name}, {'time' if key[0] == 't' else 'daemon CPU'}")
    axes[0].axhline(1.2, color="#2e7d32", ls="--", lw=1, label="target")
    axes[0].set_ylabel("cost beside that with ten leases")
    axes[1].plot(xs, [found[n]["resident_mib"] for n in counts], "o-", color=COLOURS["modalpool"], label="memory of the daemon")
    axes[1].axhline(100, color="#2e7d32", ls="--", lw=1, label="target for 10,000")
    axes[1].set_ylabel("MiB")
    for one in axes:
        one.set_xscale("log")
        one.set_xlabel("idle leases, each with a sandbox")
        one.set_ylim(0)
        one.legend(fontsize=8)
        one.spines[["top", "right"]].set_visible(False)
    return figure


def start(found):
    figure, axes = panels(2, "Start to the first result, and memory when idle")
    bars(axes[0], {peer: v["first_result_ms"] for peer, v in found.items()}, "ms from the program's start to a job's end")
    bars(axes[1], {peer: v["idle_mib"] for peer, v in found.items()}, "MiB")
    return figure


def draw(found, out):
    for draw_one in (acquire, jobs, delay, throughput, scale, idle, start):
        name = draw_one.__name__
        if name not in found:
            continue
        figure = draw_one(found[name])
        figure.savefig(out / f"{name}.png", dpi=110)
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
