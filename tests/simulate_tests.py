"""Which test a table's rows get: family-wise error and power, simulated at our own spreads.

    python tests/simulate_tests.py [--studies 5000] [--figure FILE.png]

Prints the tables of report/templates/verdicts.md, which every folder of reports gets; a minute on
one core. A test may be used whose family-wise error is at most 5 % at every table's spreads and
every correlation; of those, the one with most power.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy import special, stats

from mae_ablation.report.paired import ALPHA, holm, power
from mae_ablation.report.sequential import DIFFERENT, run_sequential_tests
from mae_ablation.study.seeds import Sequential

# Standard deviations over seeds in the tables of the first edition, baseline first, in points.
SPREADS = {
    "augmentation": (1.05, 1.18, 0.92, 0.55, 0.61, 0.33),
    "decoder_depth": (0.61, 1.30, 1.18, 1.41, 0.64, 0.29, 0.33),
    "decoder_width": (0.61, 0.90, 0.56, 0.26, 1.18, 0.53, 0.33),
    "mask_ratio": (0.93, 1.25, 1.44, 0.68, 0.41, 0.48, 0.40, 0.60, 1.02, 0.53, 0.73, 0.26),
    "mask_sampling": (0.93, 0.50, 0.94, 0.58, 0.73, 0.26),
    "mask_token": (1.18, 0.61, 0.33, 0.72),
    "schedule": (0.81, 0.64, 0.96, 0.60, 2.06, 0.73, 0.26),
    "target": (1.18, 1.77, 0.50, 0.79, 0.61, 0.33),
    "tuned_probe": (0.64, 0.74, 0.58, 0.83, 0.21),
    "ten equal": (0.80,) * 10,
}
# Correlation of a level with the baseline by seed: in tables of five seeds from -0.39 to -0.09, in
# all tables about 0; training that pairing helps would have more.
CORRELATIONS = (-0.1, 0.0, 0.4)
SEEDS = (3, 5, 8, 12)
EFFECT = 1.5  # points, of every row where power is counted


def draw(rng, studies: int, spreads, seeds: int, correlation: float):
    """Accuracies (studies, baseline and rows, seeds) without effect."""
    z = rng.normal(size=(studies, len(spreads), seeds))
    if correlation > 0:
        z = np.sqrt(1 - correlation) * z + np.sqrt(correlation) * rng.normal(
            size=(studies, 1, seeds)
        )
    elif correlation < 0:  # levels among each other must agree where each disagrees with the first
        z[:, 1:] = np.sqrt(1 - correlation**2) * z[:, 1:] + correlation * z[:, :1]
    return z * np.array(spreads)[:, None]


def paired(values):
    """Row-wise t test of the differences by seed."""
    difference, n = values[:, 1:] - values[:, :1], values.shape[-1]
    return t_test(difference.mean(-1), difference.var(-1, ddof=1) / n, n - 1)


def welch(values):
    """Row-wise t test of independent samples with variances of their own."""
    n, variance = values.shape[-1], values.var(-1, ddof=1)
    return t_test(apart(values), *both(variance, n - 1, n))


def moderated(values, most: float = np.inf):
    """Paired, each row's variance shrunk towards the common one (Smyth 2004).

    most: degrees of freedom that the common variance has at most, in those of a row.
    """
    difference, n = values[:, 1:] - values[:, :1], values.shape[-1]
    variance, df = shrunk(difference.var(-1, ddof=1), n - 1, most * (n - 1))
    return t_test(difference.mean(-1), variance / n, df)


def moderated_unpaired(values):
    """Independent samples, the variance of each level and of the baseline shrunk."""
    n = values.shape[-1]
    variance, df = shrunk(values.var(-1, ddof=1), n - 1)
    return t_test(apart(values), *both(variance, df, n))


def dunnett(values):
    """One variance of all levels, single-step correction (Dunnett 1955)."""
    within = values - values.mean(-1, keepdims=True)
    return dunnett_p(values, within, values.shape[1] * (values.shape[-1] - 1))


def dunnett_mixed(values):
    """Likewise, each seed's own effect on all levels taken out."""
    within = values - values.mean(-1, keepdims=True)
    within = within - within.mean(1, keepdims=True)
    return dunnett_p(values, within, (values.shape[1] - 1) * (values.shape[-1] - 1))


TESTS = {
    "paired t (used)": paired,
    "Welch's t": welch,
    "moderated t, paired": moderated,
    "moderated t, paired, common part at most a row's own": lambda v: moderated(v, 1),
    "moderated t, paired, common part at most half of it": lambda v: moderated(v, 0.5),
    "moderated t, unpaired": moderated_unpaired,
    "Dunnett, one variance": dunnett,
    "Dunnett, one variance, seeds as blocks": dunnett_mixed,
}


def apart(values):
    means = values.mean(-1)
    return means[:, 1:] - means[:, :1]


def both(variance, df, n: int):
    """Squared error of a difference of two means, and Satterthwaite's degrees of freedom."""
    level, base = variance[:, 1:], variance[:, :1]
    return (level + base) / n, df * (level + base) ** 2 / (level**2 + base**2)


def t_test(difference, squared_error, df):
    return 2 * stats.t.sf(np.abs(difference) / np.sqrt(squared_error), df)


def shrunk(variance, df: int, most: float = np.inf):
    """Variances (studies, rows) shrunk within each study, and their degrees of freedom, as limma:
    moments of the logarithms, no more degrees of freedom than all rows have together."""
    rows = variance.shape[-1]
    logs = np.log(variance) - special.digamma(df / 2) + np.log(df / 2)
    excess = logs.var(-1, ddof=1) - special.polygamma(1, df / 2)
    half = inverse_trigamma(np.maximum(excess, 1e-8))
    common = np.exp(logs.mean(-1) + special.digamma(half) - np.log(half))[:, None]
    prior = np.minimum(2 * half, most)[:, None]
    return (prior * common + df * variance) / (prior + df), np.minimum(prior + df, rows * df)


GRID = np.geomspace(1e-4, 1e8, 4000)
TRIGAMMA = special.polygamma(1, GRID)


def inverse_trigamma(value):
    return np.exp(np.interp(-np.log(value), -np.log(TRIGAMMA), np.log(GRID)))


def dunnett_p(values, within, df: int):
    """p values that are corrected already: the largest of the rows' |t| has this distribution."""
    n, rows = values.shape[-1], values.shape[1] - 1
    t = np.abs(apart(values)) / np.sqrt(2 * (within**2).sum((1, 2)) / df / n)[:, None]
    rng = np.random.default_rng(0)
    largest = np.abs(rng.normal(size=(100_000, rows)) - rng.normal(size=(100_000, 1))).max(-1)
    largest = np.sort(largest / np.sqrt(2 * rng.chisquare(df, size=100_000) / df))
    return 1 - np.searchsorted(largest, t) / len(largest)


def rejected(name: str, p):
    return (p if name.startswith("Dunnett") else holm(p)) <= ALPHA


def error_and_power(studies: int):
    """By test: family-wise errors (correlations, seeds, tables), and powers for Figure 5."""
    errors = {name: np.zeros((len(CORRELATIONS), len(SEEDS), len(SPREADS))) for name in TESTS}
    powers = {name: np.zeros((len(CORRELATIONS), len(SEEDS))) for name in TESTS}
    rng = np.random.default_rng(0)
    for c, correlation in enumerate(CORRELATIONS):
        for s, seeds in enumerate(SEEDS):
            for k, (table, spreads) in enumerate(SPREADS.items()):
                null = draw(rng, studies, spreads, seeds, correlation)
                effect = null + EFFECT * (np.arange(len(spreads)) > 0)[:, None]
                for name, test in TESTS.items():
                    errors[name][c, s, k] = rejected(name, test(null)).any(-1).mean()
                    if table == "mask_ratio":
                        powers[name][c, s] = rejected(name, test(effect)).mean()
    return errors, powers


def looked_at(studies: int, effects):
    """By spending: power of a row and its mean seeds, looks at 3, 5, 8, 12, 20, nine rows."""
    looks = (3, 5, 8, 12, 20)
    out = {}
    for spending in ("pocock", "obrien_fleming"):
        declared = Sequential(looks=looks, spending=spending)
        for effect in effects:
            rng = np.random.default_rng(1)
            draws = rng.normal(effect, 1, size=(studies, 9, looks[-1]))
            found = run_sequential_tests(draws, declared)
            seeds = np.array(looks)[found.stopped].mean()
            out[spending, effect] = (found.state == DIFFERENT).mean(), seeds
    return out


def tables(errors, powers) -> str:
    """Both tables in Markdown."""
    head = ["test", *(f"error, r = {c:g}" for c in CORRELATIONS)]
    head += [f"power, {n} seeds" for n in SEEDS]
    lines = [head, ["---"] * len(head)]
    for name in TESTS:
        worst = [f"{100 * e.max():.1f} ({100 * e.mean():.1f})" for e in errors[name]]
        power = [f"{a:.2f} / {b:.2f}" for a, b in zip(*powers[name][1:], strict=True)]
        lines.append([name, *worst, *power])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(path: Path, powers, looked, effects) -> None:
    """Power over seeds of every test, and of studies that are looked at over the effect."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    shown, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name in ("paired t (used)", "Welch's t", "moderated t, paired", "Dunnett, one variance"):
        style = "-" if name.startswith(("paired", "Welch")) else "--"
        left.plot(SEEDS, powers[name][1], style, marker="o", markersize=3, label=name)
    left.set(xlabel="seeds", ylabel="power of a row", ylim=(0, 1), xticks=SEEDS)
    left.set_title(
        f"{EFFECT:g} points at Figure 5's spreads\n(dashed: more than 5 % false)", size=9
    )
    for spending, name in (("pocock", "Pocock"), ("obrien_fleming", "O'Brien-Fleming")):
        found = np.array([looked[spending, effect] for effect in effects])
        (line,) = right.plot(effects, found[:, 0], label=f"looks, {name}")
        height = 0.93 if spending == "pocock" else 0.87
        for effect in (1.5, 2.0, 2.5, 3.0):
            seeds = f"{looked[spending, effect][1]:.0f}"
            right.annotate(seeds, (effect, height), color=line.get_color(), size=7, ha="center")
    for n in (5, 8, 20):
        chances = [float(power(max(effect, 1e-9), 1, n, ALPHA / 9)) for effect in effects]
        right.plot(effects, chances, ":", label=f"{n} seeds, fixed")
    right.set(xlabel="effect / sd of the paired difference", ylim=(0, 1.05))
    right.set_title("nine rows, looks at 3, 5, 8, 12, 20\n(numbers: mean seeds)", size=9)
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    shown.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=5000)
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    errors, powers = error_and_power(asked.studies)
    print("family-wise error in %: worst table (mean); power at r = 0 / 0.4")
    print(tables(errors, powers))
    effects = np.arange(0.25, 3.01, 0.25).tolist()
    looked = looked_at(asked.studies, effects)
    for (spending, effect), (chance, seeds) in looked.items():
        if effect in (1.0, 1.5, 2.0, 3.0):
            print(f"{spending}, effect {effect:g}: power {chance:.2f} with {seeds:.1f} seeds")
    if asked.figure:
        figure(asked.figure, powers, looked, effects)


if __name__ == "__main__":
    main()
