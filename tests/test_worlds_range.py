"""The planted worlds: that they are what they say, and that range, ceiling, influence and intervals find what was planted.

A rate over R runs may miss its value by 3√(p(1 − p)/R). Where the reference value comes from R₀ runs itself, its own error is
in the tolerance: 3√(p(1 − p)(1/R + 1/R₀)). Every test prints what it found, beside its Monte-Carlo error.
"""

from math import isnan, sqrt

import numpy as np
import pytest
from worlds import (
    MU,
    World,
    draw,
    flat,
    s0_equal,
    s1_ladder,
    s2_silent_zone,
    s4_misleading,
    s5_two_proxies,
    s7_noisy_proxy,
    s8_documents,
    s9_run_noise,
    s10_degenerate,
    s11_broken,
    s13_unscored,
    s15_normal,
)

from evalsuite.stats.mean import clustered_mean
from evalsuite.stats.omnibus import cochran_q, max_t
from evalsuite.stats.rank import (
    associations,
    bonett_wright,
    coefficients,
    correlate,
    influence,
    pearson,
    percentile_interval,
    range_curve,
    resample_quants,
    silent_zone,
    undistinguished_zone,
)
from evalsuite.stats.reliability import ceiling, disattenuated, measure, measure_log, reliability, snr, split_half
from evalsuite.stats.resample import joint_bootstrap

ALPHA = 0.05


def spread(p, runs, reference_runs=None):
    """Return the tolerance on a rate p found in so many runs, against a value from so many (None: an exact one)."""
    return 3 * sqrt(p * (1 - p) * (1 / runs + (1 / reference_runs if reference_runs else 0)))


def rhos(x, scores):
    """Return Spearman's ρ of one proxy (K) with many runs of scores (R × K)."""
    return coefficients(x[np.newaxis], scores, "spearman")[0]


# What the generators plant


@pytest.mark.parametrize(("sigma", "flips"), [(0.05, 1.1), (0.1, 2.0), (0.2, 4.3), (0.3, 6.1), (0.6, 11.3)])
def test_volume_without_direction(sigma, flips):
    """σ with δ = flat(σ) changes the stated share of answers and leaves the score (10⁶ items)."""
    world = draw(np.random.default_rng(1), 1_000_000, flat(np.array([sigma])), sigma, np.ones(1))
    assert np.mean(world.scores[0] != world.reference) == pytest.approx(flips / 100, abs=0.0015)
    assert world.truth[0] == pytest.approx(world.reference_truth)
    assert world.scores.mean() == pytest.approx(world.truth[0], abs=3 * sqrt(0.15 / 1e6))


@pytest.mark.parametrize(
    "make", [s0_equal, s1_ladder, s2_silent_zone, s4_misleading, s11_broken, lambda rng, n: s5_two_proxies(rng, 12, n)]
)
def test_truth_is_the_mean_of_many(make):
    """With 200,000 items every quant's score is its stated truth."""
    world = make(np.random.default_rng(1), 200_000)
    assert world.scores.mean(axis=1) == pytest.approx(world.truth, abs=4 * sqrt(0.25 / 200_000))


def test_planted_differences():
    """S2 and S4 plant the stated differences, in points."""
    rng = np.random.default_rng(1)
    world = s2_silent_zone(rng, 10)
    assert 100 * (world.truth - world.reference_truth) == pytest.approx(
        [0, 0, 0, 0, 0, 0, -1.5, -3.9, -7.0, -10.9], abs=0.06
    )
    truth = s4_misleading(rng, 10).truth
    misled = {
        (i, j): 100 * (truth[j] - truth[i]) for i in range(10) for j in range(i + 1, 10) if truth[j] > truth[i] + 1e-9
    }
    assert misled == pytest.approx({(3, 4): 3.61, (3, 5): 2.55, (3, 6): 4.30, (4, 6): 0.69, (5, 6): 1.74}, abs=0.006)


@pytest.mark.parametrize(("omega", "flips"), [(0.05, 1.5), (0.1, 3.0), (0.2, 6.0)])
def test_run_noise_floor(omega, flips):
    """S9's reference differs from itself by the stated share (10⁶ items)."""
    world = s9_run_noise(np.random.default_rng(1), omega, 1_000_000)
    assert np.mean(world.reference != world.replicate) == pytest.approx(flips / 100, abs=0.001)


def test_unscored_items_flatter_the_worst():
    """S13's worst quant is 9.8 points below its best in truth, 6.3 on common items, 12.9 with failures as zero (R = 200)."""
    rng = np.random.default_rng(1)
    common, as_zero = [], []
    for _ in range(200):
        world = s13_unscored(rng)
        scores = world.scores[:, ~np.isnan(world.scores).any(axis=0)].mean(axis=1)
        common.append(scores[-1] - scores[0])
        scores = np.nan_to_num(world.scores).mean(axis=1)
        as_zero.append(scores[-1] - scores[0])
    found = [100 * each for each in (world.truth[-1] - world.truth[0], np.mean(common), np.mean(as_zero))]
    print(np.round(found, 2), "±", 300 * np.std(as_zero) / sqrt(200))
    assert found == pytest.approx([-9.8, -6.3, -12.9], abs=0.35)


# S0, S8: are the quants different at all?


def test_s0_omnibus_keeps_its_level():
    """Cochran's Q rejects ten equal quants in α of the runs (R = 2500; the reference value is .045)."""
    runs = 2500
    scores = s0_equal(np.random.default_rng(1), 500 * runs).scores.reshape(10, runs, 500)
    rate = np.mean([cochran_q(scores[:, run]).p < ALPHA for run in range(runs)])
    print(f"{rate:.4f} ± {spread(ALPHA, runs):.4f}")
    assert rate <= ALPHA + spread(ALPHA, runs)


def test_s8_omnibus_under_clusters():
    """Among six equal quants on 50 documents max-T keeps its level; Cochran's Q, blind to clusters, does not (R = 300)."""
    rng, runs = np.random.default_rng(1), 300
    found = []
    for _ in range(runs):
        world = s8_documents(rng, 0.5, 6)
        resampled = joint_bootstrap(world.scores, rng, world.clusters, draws=500)
        found.append((max_t(resampled).p < ALPHA, cochran_q(world.scores).p < ALPHA))
    rates = np.mean(found, axis=0)
    print(f"max-T {rates[0]:.3f}, Q {rates[1]:.3f} ± {spread(ALPHA, runs):.3f}")
    assert rates[0] <= ALPHA + spread(ALPHA, runs)
    assert rates[1] > 0.3


@pytest.mark.parametrize(("tau", "independent"), [(0.3, 0.84), (0.5, 0.75), (0.8, 0.67)])
def test_s8_intervals_under_clusters(tau, independent):
    """The independent interval covers far too seldom and the clustered t interval ≥ .93 − tolerance (R = 600)."""
    rng, runs = np.random.default_rng(1), 600
    held = []
    for _ in range(runs):
        world = s8_documents(rng, tau)
        delta = world.scores[1] - world.scores[0]
        held.append([(e := clustered_mean(delta, clusters)).low <= 0 <= e.high for clusters in (None, world.clusters)])
    plain, clustered = np.mean(held, axis=0)
    print(f"independent {plain:.3f}, clustered {clustered:.3f} ± {spread(0.945, runs, 400):.3f}")
    assert plain == pytest.approx(independent, abs=spread(independent, runs, 400))
    assert clustered >= 0.93
    assert clustered == pytest.approx(0.945, abs=spread(0.945, runs, 400))


# S1, S7: how strongly can a perfect proxy correlate?

S1_RUNS = 400


@pytest.mark.parametrize(
    ("n", "mean", "low", "high"),
    [(50, -0.79, -0.96, -0.44), (100, -0.88, None, None), (300, -0.95, None, None), (1000, -0.99, -1.0, -0.96)],
)
def test_s1_noise_alone_weakens_rho(n, mean, low, high):
    """With a perfect proxy ρ is −.79, −.88, −.95 and −.99 on the mean at N = 50, 100, 300 and 1000 (R = 400)."""
    world = s1_ladder(np.random.default_rng(1), n * S1_RUNS)
    found = rhos(world.proxy, world.scores.reshape(10, S1_RUNS, n).mean(axis=-1).T)
    error = 3 * found.std() / sqrt(S1_RUNS)
    print(f"{found.mean():.3f} ± {error:.3f}", np.quantile(found, [0.05, 0.95]).round(3))
    assert found.mean() == pytest.approx(mean, abs=error + 0.005)
    if low is not None:
        for share in (np.mean(found < low), np.mean(found > high)):
            assert share <= 0.05 + spread(0.05, S1_RUNS, 120)


@pytest.mark.parametrize(("n", "root", "truth"), [(100, 0.87, 0.883), (300, 0.96, 0.955), (1000, 0.99, 0.988)])
def test_s1_ceiling_is_what_a_perfect_proxy_reaches(n, root, truth):
    """√Rel_s is .87, .96 and .99, within .02 of the mean |ρ| of a perfect proxy (R = 200).

    The split half agrees to .04; with ten quants it reads high, since the error that it takes for signal is squared.
    """
    rng, runs = np.random.default_rng(1), 200
    scores = s1_ladder(rng, n * runs).scores.reshape(10, runs, n)
    found = np.array(
        [
            (
                ceiling(reliability(measure(scores[:, run]))).value,
                sqrt(split_half(scores[:, run], rng, splits=20).value),
            )
            for run in range(runs)
        ]
    )
    error = 3 * found.std(axis=0) / sqrt(runs)
    print(found.mean(axis=0).round(3), "±", error.round(3))
    assert found[:, 0].mean() == pytest.approx(root, abs=error[0] + 0.005)
    assert found[:, 1].mean() == pytest.approx(root, abs=0.04)
    assert found[:, 0].mean() == pytest.approx(truth, abs=0.02 + error[0])


def test_s1_lower_limit_of_reliability():
    """The lower 95 % limit lies below the true reliability in 97.5 % of runs (R = 1000, N = 300, quants drawn anew)."""
    rng, runs = np.random.default_rng(1), 1000
    n, sd, error = 300, 0.03, 0.03
    held = []
    for _ in range(runs):
        scores = 0.7 + sd * rng.normal(size=(12, 1)) + error * sqrt(n) * rng.normal(size=(12, n))
        held.append(reliability(measure(scores)).low <= 0.5)
    print(f"{np.mean(held):.3f} ± {spread(0.975, runs):.3f}")
    assert np.mean(held) == pytest.approx(0.975, abs=spread(0.975, runs))


@pytest.mark.parametrize(
    ("chunks", "rel", "truth", "r", "best"),
    [(8, 0.29, 0.32, 0.56, 0.52), (32, 0.58, 0.65, 0.80, 0.74), (128, 0.86, 0.88, 0.93, 0.92)],
)
def test_s7_noise_of_the_proxy(chunks, rel, truth, r, best):
    """Rel_x follows the truth to ± .1 and the ceiling the mean |r| to ± .08, from few chunks to many (R = 300).

    Corrected for both noises, r comes to within .05 of −1, which is the truth, once there are 32 chunks.
    """
    rng, runs = np.random.default_rng(1), 300
    found = []
    for _ in range(runs):
        world = s7_noisy_proxy(rng, chunks)
        proxy, scores = measure_log(world.chunks), measure(world.scores)
        rel_x = reliability(proxy)
        found.append(
            (
                rel_x.value,
                np.corrcoef(proxy.values, np.log(world.proxies["true"]))[0, 1] ** 2,
                abs(pearson(proxy.values, scores.values).value),
                ceiling(reliability(scores), rel_x).value,
                disattenuated(-abs(pearson(proxy.values, scores.values).value), reliability(scores), rel_x).value,
            )
        )
    means = np.nanmean(found, axis=0)
    print(means.round(3), "±", (3 * np.nanstd(found, axis=0) / sqrt(runs)).round(3))
    assert means[[0, 1]] == pytest.approx([rel, truth], abs=0.1)
    assert means[0] == pytest.approx(means[1], abs=0.1)
    assert means[[2, 3]] == pytest.approx([r, best], abs=0.08)
    if chunks > 8:
        assert means[4] == pytest.approx(-1, abs=0.05)


# S2: window and silent zone


def s2_runs(n, runs):
    """Return the proxy, the reference's scores (R × N) and the quants' (10 × R × N)."""
    world = s2_silent_zone(np.random.default_rng(2), n * runs)
    return world.proxy, world.reference.reshape(runs, n), world.scores.reshape(10, runs, n)


def test_s2_pooled_and_inside_the_window():
    """Pooled ρ is −.77 and that of the six equal quants 0; the volume is ordered in both, the direction not (R = 400)."""
    runs = 400
    proxy, reference, scores = s2_runs(500, runs)
    means = scores.mean(axis=-1).T
    volume, direction = (scores != reference).mean(axis=-1).T, (reference - scores).mean(axis=-1).T
    found = {
        "pooled": rhos(proxy, means),
        "window": rhos(proxy[:6], means[:, :6]),
        "volume": rhos(proxy, volume),
        "window volume": rhos(proxy[:6], volume[:, :6]),
        "window direction": rhos(proxy[:6], direction[:, :6]),
    }
    print({name: f"{each.mean():.3f} ± {3 * each.std() / sqrt(runs):.3f}" for name, each in found.items()})
    assert found["pooled"].mean() == pytest.approx(-0.77, abs=3 * found["pooled"].std() / sqrt(runs) + 0.005)
    for name in ("window", "window direction"):
        assert found[name].mean() == pytest.approx(0, abs=3 * found[name].std() / sqrt(runs))
    assert found["window"].std() == pytest.approx(0.5, abs=0.1)
    assert found["volume"].mean() == pytest.approx(0.97, abs=0.01)
    assert found["window volume"].mean() == pytest.approx(
        0.89, abs=3 * found["window volume"].std() / sqrt(runs) + 0.005
    )


def test_s2_window_cannot_tell():
    """In the window of six equal quants the item interval holds 0 in ≥ .95 − tolerance, and the reading is *cannot tell*.

    N = 500, R = 250. *blind here* would be wrong there, since no proxy could order equals: at most 3 % of runs.
    """
    rng, runs = np.random.default_rng(1), 250
    proxy, _, scores = s2_runs(500, runs)
    held, readings = [], []
    for run in range(runs):
        drawn = joint_bootstrap(scores[:6, run], rng, draws=300).draws
        (window, same) = range_curve(proxy[:6], measure(scores[:6, run]), drawn)
        assert same.rho.value == window.rho.value
        held.append(window.rho.low <= 0 <= window.rho.high)
        readings.append(window.reading)
    shares = {reading: readings.count(reading) / runs for reading in ("works", "blind here", "cannot tell")}
    print(f"holds 0: {np.mean(held):.3f} ± {spread(0.955, runs, 400):.3f}", shares)
    assert np.mean(held) == pytest.approx(0.955, abs=spread(0.955, runs, 400))
    assert shares["blind here"] <= 0.03
    assert shares["cannot tell"] >= 0.93


@pytest.mark.parametrize(
    ("n", "runs", "omnibus", "held", "tost"), [(500, 500, 6.7, 0.08, 4.1), (2000, 250, 6.0, 0.0, 6.3)]
)
def test_s2_zone_sizes(n, runs, omnibus, held, tost):
    """The omnibus prefix has 6.7 and 6.0 quants, 8 % of the former with a quant that lost 3.9 points; TOST 4.1 and 6.3.

    R = 500 and 250. The verdicts come from TOST with a normal interval, as the reference values do.
    """
    proxy, reference, scores = s2_runs(n, runs)
    gained, lost = (scores > reference).sum(axis=-1), (scores < reference).sum(axis=-1)
    delta = (gained - lost) / n
    half = 1.645 * np.sqrt((gained + lost) / n - delta**2) / sqrt(n)
    equivalent = np.abs(delta) + half < 0.02
    quiet = [silent_zone(proxy, equivalent[:, run]) for run in range(runs)]
    same = [undistinguished_zone(proxy, lambda some, run=run: cochran_q(scores[some, run]).p) for run in range(runs)]
    sizes = [np.array([len(zone) for zone in zones]) for zones in (same, quiet)]
    bad = np.mean([7 in zone for zone in same])
    errors = [3 * size.std() / sqrt(runs) for size in sizes]
    print([f"{size.mean():.2f} ± {error:.2f}" for size, error in zip(sizes, errors, strict=True)], f"held {bad:.3f}")
    assert sizes[0].mean() == pytest.approx(omnibus, abs=errors[0] + 0.05)
    assert sizes[1].mean() == pytest.approx(tost, abs=errors[1] + 0.05)
    assert bad == pytest.approx(held, abs=spread(0.08, runs, 400))
    assert not any(7 in zone for zone in quiet)


@pytest.mark.parametrize("n", [300, 1000])
def test_a_proxy_that_works_is_not_called_blind(n):
    """In S1 and S2 hardly any window is called blind, though ρ in it may be weak: at most 3 % (R = 30 each)."""
    rng = np.random.default_rng(1)
    readings = []
    for make in (s1_ladder, s2_silent_zone):
        for _ in range(30):
            world = make(rng, n)
            drawn = joint_bootstrap(world.scores, rng, draws=300).draws
            readings += [window.reading for window in range_curve(world.proxy, measure(world.scores), drawn)]
    print({reading: readings.count(reading) / len(readings) for reading in ("works", "blind here", "cannot tell")})
    assert readings.count("blind here") <= 0.03 * len(readings)


def test_a_proxy_that_turns_the_order_round_is_called_blind():
    """In S11 with 8000 items the eight good quants, which the proxy orders upside down, are read as *blind here* (R = 30)."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        world = s11_broken(rng, 8000)
        drawn = joint_bootstrap(world.scores, rng, draws=300).draws
        curve = range_curve(world.proxy, measure(world.scores), drawn)
        assert [window.reading for window in curve if window.rho.n == 8 and window.direction == "upto"] == [
            "blind here"
        ]


# S10: next to nothing


@pytest.mark.parametrize(
    "name",
    ["all right", "all wrong", "all at chance", "one quant", "one sample", "nothing scored", "equal proxies"],
)
def test_s10_undefined_has_a_note(name):
    """Degenerate tables raise nothing and warn of nothing, and whatever has no value says why."""
    rng = np.random.default_rng(1)
    world = s10_degenerate(rng)[name]
    resampled, measured = joint_bootstrap(world.scores, rng, draws=100), measure(world.scores)
    rel = reliability(measured)
    best = ceiling(rel)
    tests = [cochran_q(world.scores), max_t(resampled)]
    found = associations(
        world.proxy[np.newaxis], resampled.observed[np.newaxis], rng,
        proxy_draws=[None], task_draws=[resampled.draws], draws=100,
    )  # fmt: skip
    curve = range_curve(world.proxy, measured, resampled.draws)
    influences = influence(world.proxy, resampled.observed)
    estimates = [
        rel, best, disattenuated(-0.5, rel, rel), split_half(world.scores, rng), pearson(world.proxy, resampled.observed),
        *(each.estimate for each in found.values()),
        *(correlate(world.proxy, resampled.observed, method).estimate for method in ("spearman", "kendall")),
    ]  # fmt: skip
    assert all(estimate.notes for estimate in estimates if isnan(estimate.value))
    assert all(test.notes for test in tests if isnan(test.p))
    assert influences.notes or not isnan(influences.rho)
    assert all(window.reading == "cannot tell" for window in curve if isnan(window.rho.value))
    if name in {"all right", "all wrong"}:
        assert isnan(rel.value)
        assert isnan(snr(measured))
        assert tests[0].p == 1


# S11: one broken quant


@pytest.mark.parametrize(("equal", "rho", "without", "flagged"), [(False, 0.32, 0.89, 1.0), (True, -0.29, 0.0, 0.82)])
def test_s11_one_quant_makes_the_correlation(equal, rho, without, flagged):
    """ρ is +.32 with the broken quant and +.89 without it, and the flag always goes up (R = 300).

    Where the eight others are equal ρ is −.29, shifts by .3 without the broken one, and the flag goes up in 82 %.
    """
    rng, runs = np.random.default_rng(1), 300
    found = []
    for _ in range(runs):
        world = s11_broken(rng, equal=equal)
        each = influence(world.proxy, world.scores.mean(axis=1))
        found.append((each.rho, each.without[-1], each.flag[-1]))
    means, error = np.mean(found, axis=0), 3 * np.std(found, axis=0) / sqrt(runs)
    print(means.round(3), "±", error.round(3))
    assert means[0] == pytest.approx(rho, abs=error[0] + 0.005)
    assert means[1] == pytest.approx(without, abs=error[1] + 0.005)
    assert means[2] == pytest.approx(flagged, abs=spread(flagged, runs, 400))


# S15 and the three questions: do the intervals hold what they should?

COVERAGE = [
    (6, 0.0, 0.965, 0.958), (6, -0.7, 0.955, 0.965), (6, -0.95, 0.73, 0.75),
    (8, 0.0, 0.958, 0.955), (8, -0.7, 0.963, 0.982), (8, -0.95, 0.905, 0.942),
    (12, 0.0, 0.960, 0.945), (12, -0.7, 0.963, 0.958), (12, -0.95, 0.93, 0.99),
    (20, 0.0, 0.963, 0.955), (20, -0.7, 0.963, 0.975), (20, -0.95, 0.935, 0.968),
    (30, 0.0, 0.965, 0.955), (30, -0.7, 0.940, 0.945), (30, -0.95, 0.925, 0.952),
]  # fmt: skip
"""n, ρ, and the coverage of Bonett and Wright's and of the percentile interval, each from 400 runs."""


@pytest.mark.parametrize(("n", "rho", "expected", "percentile"), COVERAGE)
def test_s15_coverage(n, rho, expected, percentile):
    """Both intervals over other quants cover as in the reference table (R = 2000 and 250, 400 draws; reference R = 400)."""
    rng, runs, draws = np.random.default_rng(n), 250, 400
    x, y = s15_normal(rng, n, rho, 2000)
    found = coefficients(x[:, np.newaxis], y[:, np.newaxis], "spearman")[:, 0, 0]
    limits = np.array([bonett_wright(float(value), n) for value in found])
    held = np.mean((limits[:, 0] <= rho) & (rho <= limits[:, 1]))
    chosen = resample_quants(rng, runs * draws, n).reshape(runs, draws, n)
    drawn = (np.take_along_axis(side[:runs, np.newaxis], chosen, axis=-1)[:, :, np.newaxis] for side in (x, y))
    low, high = percentile_interval(np.moveaxis(coefficients(*drawn, "spearman")[..., 0, 0], 1, 0))
    held_too = np.mean((low <= rho) & (rho <= high))
    errors = spread(expected, 2000, 400), spread(percentile, runs, 400)
    print(f"Bonett-Wright {held:.3f} ± {errors[0]:.3f}, percentile {held_too:.3f} ± {errors[1]:.3f}")
    assert held == pytest.approx(expected, abs=errors[0])
    assert held_too == pytest.approx(percentile, abs=errors[1])


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_s15_few_points_have_no_interval(n):
    """Up to six points no interval is given."""
    x, y = s15_normal(np.random.default_rng(1), n, -0.7, 20)
    for method in ("spearman", "kendall"):
        assert all(isnan(correlate(*points, method).estimate.low) for points in zip(x, y, strict=True))


def test_width_at_eight():
    """With 8 quants and ρ = −.7 the interval over other quants is 1.05 wide (R = 2000, mean)."""
    x, y = s15_normal(np.random.default_rng(1), 8, -0.7, 2000)
    found = coefficients(x[:, np.newaxis], y[:, np.newaxis], "spearman")[:, 0, 0]
    widths = [high - low for low, high in (bonett_wright(float(value), 8) for value in found) if not isnan(low)]
    print(np.mean(widths), bonett_wright(-0.7, 8))
    assert np.mean(widths) == pytest.approx(1.05, abs=0.05)


@pytest.mark.parametrize(("quants", "n"), [(10, 300), (20, 1000)])
def test_the_narrow_question_does_not_answer_the_broad_one(quants, n):
    """For quants drawn anew the interval over items covers far below 95 %, those over quants and over both as they should.

    S5's prose proxy, ρ_S = −6/π·asin(.3); R = 120, 250 draws; over quants .92–.98, over both .95 or more, less the tolerance.
    """
    rng, runs, truth = np.random.default_rng(1), 120, -6 / np.pi * np.arcsin(0.3)
    held = []
    for _ in range(runs):
        world: World = s5_two_proxies(rng, quants, n)
        resampled = joint_bootstrap(world.scores, rng, draws=250)
        found = associations(
            world.proxies["prose"][np.newaxis], resampled.observed[np.newaxis], rng,
            proxy_draws=[None], task_draws=[resampled.draws], draws=250,
        )[0, 0, "spearman"]  # fmt: skip
        both = found.estimate.low, found.estimate.high
        held.append([low <= truth <= high for low, high in (found.items, found.quants, both)])
    items, over_quants, both = np.mean(held, axis=0)
    print(f"items {items:.3f}, quants {over_quants:.3f}, both {both:.3f} ± {spread(0.95, runs):.3f}")
    assert items < 0.8
    assert over_quants >= 0.95 - spread(0.95, runs)
    assert both >= 0.95 - spread(0.95, runs)


def test_margin_of_the_reference():
    """The reference's true score is Φ(.9)."""
    assert s1_ladder(np.random.default_rng(1), 10).reference_truth == pytest.approx(0.81594, abs=1e-5)
    assert MU == 0.9
