"""What evalsuite claims in worlds whose truth is known: how often it is right, and how rarely it is wrong.

Reference rates come from independent simulations of the same worlds. A rate may miss its reference by three Monte-Carlo
errors, 3·√(p(1 − p)/R); both are printed.
"""

from collections.abc import Iterator

import numpy as np
import pytest
from worlds import (
    LADDER_KLD,
    World,
    s0_equal,
    s1_ladder,
    s2_silent_zone,
    s3_providers,
    s4_misleading,
    s5_two_proxies,
    s6_size,
    s9_run_noise,
    s10_degenerate,
    s12_budgets,
    s13_unscored,
    s14_one_pair,
    s16_twins,
)

from evalsuite.stats.agreement import better_p, pairwise_accuracy, soft_accuracy, tie_accuracy
from evalsuite.stats.contest import contest
from evalsuite.stats.misleading import Verdicts, by_proxy, first_equal, gap_p, judge, mcnemar_midps, pair_tests
from evalsuite.stats.multiple import holm
from evalsuite.stats.pareto import front_probability
from evalsuite.stats.providers import by_provider, calibration_leak
from evalsuite.stats.rank import resample_quants
from evalsuite.stats.regret import half_scores, regret
from evalsuite.stats.resample import joint_bootstrap
from evalsuite.stats.rows import rho_rows
from evalsuite.stats.sequential import decision, e_value
from evalsuite.stats.size import at_equal_size, partial_at_size
from evalsuite.stats.volume import above_floor, volume

ALPHA = 0.05


def error(rate: float, runs: int) -> float:
    return 3 * np.sqrt(rate * (1 - rate) / runs)


def check_rate(name: str, rate: float, reference: float, runs: int) -> None:
    print(f"{name}: {rate:.3f}, reference {reference} ± {error(reference, runs):.3f} (R = {runs})")
    assert abs(rate - reference) <= error(reference, runs)


def check_at_most(name: str, rate: float, bound: float, runs: int) -> None:
    print(f"{name}: {rate:.3f}, at most {bound} + {error(bound, runs):.3f} (R = {runs})")
    assert rate <= bound + error(bound, runs)


def runs_of(world: World, runs: int) -> Iterator[np.ndarray]:
    """Cut a world of R·n independent items into R runs, each quants × n."""
    return iter(np.split(world.scores, runs, axis=1))


def verdicts(scores: np.ndarray, proxy: np.ndarray = LADDER_KLD) -> Verdicts:
    """Judge one task and one proxy that has no noise: every gap is real."""
    tests = pair_tests(scores, binary=True)
    exact = np.where(proxy[tests.second] > proxy[tests.first], 0.0, 1.0)
    [found] = judge([by_proxy(tests, proxy, exact)])
    return found


def test_s0_equal_quants_mislead_nobody():
    """S0, R = 400: ten equal quants. Some pair is called misleading in at most 5 % of runs (reference .025).

    Point estimates contradict the proxy in every run, unadjusted mid-p in 43 %.
    """
    runs = 400
    found = [verdicts(scores) for scores in runs_of(s0_equal(np.random.default_rng(0), 500 * runs), runs)]
    against = [each.pairs.tests.delta > 0 for each in found]
    check_at_most("S0 claims", np.mean([(each.verdict == "misleading").any() for each in found]), ALPHA, runs)
    check_rate("S0 naive", np.mean([each.any() for each in against]), 1.0, runs)
    unadjusted = [(each.pairs.tests.p < ALPHA) & side for each, side in zip(found, against, strict=True)]
    check_rate("S0 unadjusted", np.mean([each.any() for each in unadjusted]), 0.43, runs)


def test_s1_a_perfect_proxy_misleads_nobody():
    """S1, R = 400: the proxy orders the quants as the truth does; claims in at most 5 % (reference 0, naive .815)."""
    runs = 400
    found = [verdicts(scores) for scores in runs_of(s1_ladder(np.random.default_rng(1), 500 * runs), runs)]
    check_at_most("S1 claims", np.mean([(each.verdict == "misleading").any() for each in found]), ALPHA, runs)
    check_rate("S1 naive", np.mean([(each.pairs.tests.delta > 0).any() for each in found]), 0.815, runs)
    assert np.mean([(each.verdict == "consistent").mean() for each in found]) > 0.1, "yet it finds what is there"


def test_s2_the_silent_zone_misleads_nobody():
    """S2, R = 400: six equal quants and four worse ones; false claims by Holm in at most 5 % (reference 0).

    Pairs shown equivalent within one point at N 2000 never differ by more in truth, in 95 % of 100 runs.
    """
    rng, runs = np.random.default_rng(2), 400
    found = [verdicts(scores) for scores in runs_of(s2_silent_zone(rng, 500 * runs), runs)]
    check_at_most("S2 claims", np.mean([(each.verdict == "misleading").any() for each in found]), ALPHA, runs)
    large, runs = s2_silent_zone(rng, 2000 * 100), 100
    apart = np.array(
        [abs(large.truth[j] - large.truth[i]) >= 0.01 for i, j in zip(*np.triu_indices(10, 1), strict=True)]
    )
    wrong = np.mean([(verdicts(scores).equivalent & apart).any() for scores in runs_of(large, runs)])
    check_at_most("S2 falsely equivalent", wrong, ALPHA, runs)


def test_s7_noise_of_the_text_misleads_nobody():
    """Chunks as in S7, R = 500: of two quants equal in KLD and unlike in score one seems misleading in at most 5 %."""
    rng, runs, claims = np.random.default_rng(7), 500, 0
    scores = np.zeros((2, 2000))
    scores[1, :200] = 1
    tests = pair_tests(scores, binary=True)
    for _ in range(runs):
        chunks = 0.01 * np.exp(0.35 * rng.standard_normal(32) + 0.6 * rng.standard_normal((2, 32)))
        [found] = judge([by_proxy(tests, chunks.mean(axis=1), gap_p(chunks))])
        claims += found.verdict[0] == "misleading"
    check_at_most("S7 claims", claims / runs, ALPHA, runs)
    assert claims > 0, "the score is decided, so only the proxy's own test holds the claim back"


@pytest.mark.parametrize(("n", "runs", "power"), [(100, 400, 0.005), (500, 400, 0.34), (2000, 200, 0.73)])
def test_s4_misleading_pairs_are_found(n, runs, power):
    """S4, R = 400, 400, 200: of five truly misleading pairs .005/.34/.73 are found at N 100/500/2000, and no false one.

    So often Holm's p-value finds them; the verdict also asks for a lower bound above 0, which costs a few points.
    """
    world = s4_misleading(np.random.default_rng(4), n * runs)
    first, second = np.triu_indices(10, 1)
    true = world.truth[second] > world.truth[first]
    assert true.sum() == 5
    found = [verdicts(scores) for scores in runs_of(world, runs)]
    claimed = np.array([each.verdict == "misleading" for each in found])
    by_holm = np.array([(each.p_holm < ALPHA) & (each.pairs.tests.delta > 0) for each in found])
    check_rate(f"S4 Holm's power at N {n}", by_holm[:, true].mean(), power, runs)
    by_pair = claimed[:, true].mean(axis=0)
    print(
        "per pair",
        dict(zip(zip(first[true].tolist(), second[true].tolist(), strict=True), by_pair.tolist(), strict=True)),
    )
    check_rate(f"S4 power at N {n}", by_pair.mean(), power, runs)
    check_at_most(f"S4 false claims at N {n}", claimed[:, ~true].any(axis=1).mean(), ALPHA, runs)


def test_s3_providers_are_told_apart():
    """S3, R = 300: pooling turns the sign (mean ρ +.39, within −.98), and flag, order and signs of the leak are all right."""
    rng, runs = np.random.default_rng(3), 300
    pooled, within, right = [], [], []
    for _ in range(runs):
        world = s3_providers(rng)
        found = by_provider(np.log(world.proxy), world.scores.mean(axis=1), world.providers, rng, draws=200)
        plain, task_text = world.proxies["plain"], world.proxies["task_text"]
        leak = [each.index.value for each in calibration_leak(plain, task_text, world.providers, rng, draws=200)]
        pooled.append(found.pooled)
        within.append(found.within)
        right.append(found.simpson and leak[0] < leak[1] < leak[2] and leak[0] < 0 < leak[2])
    print(f"S3 pooled {np.mean(pooled):.3f} (.39), within {np.mean(within):.3f} (−.98), least right {min(right)}")
    assert min(pooled) > 0
    assert max(within) <= -0.8
    assert all(right)
    assert np.mean(pooled) == pytest.approx(0.39, abs=3 * np.std(pooled) / np.sqrt(runs) + 0.01)
    assert np.mean(within) == pytest.approx(-0.98, abs=0.01)


def fight(rng: np.random.Generator, quants: int, n: int, *, equal: bool = False):
    world = s5_two_proxies(rng, quants, n, equal=equal)
    chat, prose = np.log(world.proxies["chat"]), np.log(world.proxies["prose"])
    sampled = joint_bootstrap(world.scores, rng, draws=300)
    chosen = resample_quants(rng, 300, quants)
    scores = np.take_along_axis(sampled.draws, chosen, axis=1)
    drawn = rho_rows(chat[chosen], scores), rho_rows(prose[chosen], scores)
    return contest(chat, prose, sampled.observed, drawn, rng, swaps=9)


@pytest.mark.parametrize(
    ("quants", "n", "runs", "picked", "won"), [(12, 1000, 100, 0.99, 0.20), (20, 3000, 60, 1.0, 0.95)]
)
def test_s5_the_better_proxy_wins(quants, n, runs, picked, won):
    """S5, R = 100, 60: chat KLD has the larger |ρ| in .99 (12 quants) and 1.00 (20), and wins in .20 and .95 of runs."""
    rng = np.random.default_rng(5)
    found = [fight(rng, quants, n) for _ in range(runs)]
    # A rate of 1 has no Monte-Carlo error of its own: one run in R is allowed.
    rate = np.mean([each.delta.value > 0 for each in found])
    print(f"S5 picked {rate:.3f} (reference {picked}, R = {runs})")
    assert rate >= picked - max(error(picked, runs), 1 / runs)
    check_rate("S5 won", np.mean([each.verdict == "first" for each in found]), won, runs)


def test_s5_equal_proxies_draw():
    """S5, R = 100: of two equally good proxies one wins in at most 7 % of runs (reference 0)."""
    rng, runs = np.random.default_rng(55), 100
    won = [fight(rng, 12, 1000, equal=True).verdict in {"first", "second"} for _ in range(runs)]
    check_at_most("S5 equal", np.mean(won), 0.07, runs)


def test_s6_nothing_is_left_at_equal_size():
    """S6, R = 200: raw ρ −.87 ± .03, residual ρ −.1 ± .31 (mean, SD), and the refitted interval holds 0 in .93 or more.

    Where the proxy falls with size without exception there is no residual to correlate: at most 2 % of the runs.
    """
    rng, runs = np.random.default_rng(6), 200
    raw, left, held = [], [], []
    for _ in range(runs):
        world = s6_size(rng)
        log, scores = np.log(world.proxy), world.scores.mean(axis=1)
        found = at_equal_size(world.size_bytes, log, scores, rng, draws=400)
        raw.append(float(rho_rows(log, scores)))
        if not np.isnan(found.value):
            left.append(found.value)
            held.append(found.low <= 0 <= found.high)
    print(
        f"S6 raw {np.mean(raw):.3f}, residual {np.mean(left):.3f} ± {np.std(left):.3f}, held {np.mean(held):.3f} (.985)"
    )
    assert np.mean(raw) == pytest.approx(-0.87, abs=0.03)
    assert len(left) >= 0.98 * runs
    assert np.mean(left) == pytest.approx(-0.1, abs=3 * 0.31 / np.sqrt(runs))
    assert np.std(left) == pytest.approx(0.31, abs=0.05)
    assert np.mean(held) >= 0.93


@pytest.mark.parametrize(("omega", "flips", "power"), [(0.05, 0.015, 1.0), (0.1, 0.030, 1.0), (0.2, 0.060, 0.91)])
def test_s9_only_real_changes_rise_above_the_floor(omega, flips, power):
    """S9, R = 400: an identical file is above the floor in at most 5 %, σ = .3 in 1.0/1.0/.91 at ω .05/.1/.2."""
    rng, runs = np.random.default_rng(9), 400
    p, floor = [], []
    for _ in range(runs):
        world = s9_run_noise(rng, omega)
        rerun = world.replicate != world.reference
        p.append(above_floor(world.scores != world.reference, rerun))
        floor.append(rerun.mean())
    same, other = (np.array(p) < ALPHA).mean(axis=0)
    assert np.mean(floor) == pytest.approx(flips, abs=0.001)
    check_at_most("S9 identical file", same, ALPHA, runs)
    check_rate("S9 power", other, power, runs)


@pytest.mark.parametrize("name", s10_degenerate(np.random.default_rng(10)))
def test_s10_where_nothing_can_be_said_nothing_is_said(name):
    """S10: on tables without information no pair is decided, and what is undefined is NaN, without warning or exception."""
    rng = np.random.default_rng(10)
    world = s10_degenerate(rng)[name]
    quants, sizes = len(world.scores), np.arange(1.0, len(world.scores) + 1)
    for binary in (True, False):
        tests = pair_tests(world.scores, binary=binary)
        [found] = judge([by_proxy(tests, world.proxy, gap_p(np.ones((quants, 20))))])
        assert set(found.verdict) <= {"undecided"}
        assert not (np.isnan(found.p) & found.equivalent).any()
        tied = tie_accuracy(world.proxy, tests, tests)
        assert 0 <= tied.value <= 1 if np.isfinite(tests.p).any() else np.isnan(tied.value)
        soft_accuracy(better_p(tests), gap_p(np.ones((quants, 20))))
    scores = joint_bootstrap(world.scores, rng, draws=20)
    accuracy = pairwise_accuracy(
        world.proxy, scores.observed, tests.p < 0, (np.tile(world.proxy, (20, 1)), scores.draws)
    )
    assert np.isnan(accuracy.significant)
    fought = contest(world.proxy, rng.normal(size=quants), scores.observed, None, rng, swaps=9)
    assert fought.verdict in {"too few quants", "undecided"}
    beside_size = at_equal_size(sizes, world.proxy, scores.observed, rng, draws=20)
    assert np.isnan(beside_size.value) == bool(beside_size.notes)
    assert partial_at_size(sizes, world.proxy, scores.observed).notes
    assert not by_provider(world.proxy, scores.observed, np.zeros(quants, dtype=np.int64), rng).simpson
    changes = volume(world.reference, world.scores[0])
    assert np.isnan(changes.harm.value) == (changes.lost + changes.gained == 0)
    assert len(front_probability(sizes, scores.draws)) == quants


@pytest.mark.parametrize(("n", "crossfit", "naive"), [(100, None, 1.30), (500, 0.17, 0.68), (3000, 0.51, 0.59)])
def test_s12_regret_is_bracketed(n, crossfit, naive):
    """S12, R = 300: the mean true regret (.55 points) lies between cross-fit and naive at N 100, 500 and 3000.

    Means within three standard errors of both simulations (R = 300 there too). At N 100 halves tie so often that the
    cross-fit hangs on how ties are broken (−1.0 smallest first, −.2 largest first, −.55 their mean): only the bracket.
    """
    rng, runs = np.random.default_rng(12), 300
    rows = []
    for _ in range(runs):
        world = s12_budgets(rng, n)
        limits = np.quantile(world.size_bytes, np.linspace(0.3, 1, 8))
        halves = half_scores(world.scores, rng, splits=8)
        found = regret(world.size_bytes, world.proxy, world.scores.mean(axis=1), halves, limits)
        rows.append(
            (found.crossfit, regret(world.size_bytes, world.proxy, world.truth, None, limits).naive, found.naive)
        )
    low, truth, high = 100 * np.mean(rows, axis=0)
    errors = 100 * np.std(rows, axis=0) / np.sqrt(runs)
    print(f"S12 N {n}: cross-fit {low:.2f}, truth {truth:.2f}, naive {high:.2f} points ± {errors.round(3)}")
    assert low < truth < high
    assert high == pytest.approx(naive, abs=3 * np.sqrt(2) * errors[2])
    if crossfit is not None:
        assert low == pytest.approx(crossfit, abs=3 * np.sqrt(2) * errors[0])


def test_s13_unscored_items_are_not_missing_at_random():
    """S13, R = 200: truth −9.8 points; scored samples of each −6.6, common ones −6.3, unscored as wrong −12.9.

    A pair compares the samples scored in both, whatever the other quants scored: −8.4.
    """
    rng, runs = np.random.default_rng(13), 200
    rows = []
    for _ in range(runs):
        scores = (world := s13_unscored(rng)).scores
        common = scores[:, ~np.isnan(scores).any(axis=0)]
        own = np.nanmean(scores[7]) - np.nanmean(scores[0])
        worst = [pair_tests(values, binary=True).delta[6] for values in (scores, common, np.nan_to_num(scores))]
        rows.append((own, *worst))
    own, both, common, as_wrong = 100 * np.mean(rows, axis=0)
    print(f"S13 own {own:.2f}, both {both:.2f}, common {common:.2f}, as wrong {as_wrong:.2f} points")
    assert 100 * (world.truth[7] - world.truth[0]) == pytest.approx(-9.8, abs=0.1)
    assert [own, common, as_wrong] == pytest.approx([-6.6, -6.3, -12.9], abs=0.3)
    assert common > both > -9.8


@pytest.mark.parametrize(
    ("delta", "rejected", "used", "fixed"),
    [(0.0, 0.034, None, 0.05), (0.01, 0.17, 0.91, 0.45), (0.02, 0.76, 0.62, 0.96), (0.03, 0.99, 0.29, 1.0)],
)
def test_s14_stopping_early(delta, rejected, used, fixed):
    """S14, R = 400: looking after every sample, equal quants are told apart in at most 5 %; 1/2/3 points in .17/.76/.99.

    The samples used are .91/.62/.29 of the 2000; mid-p at the end alone finds .45/.96/1.0.
    """
    runs, n = 400, 2000
    world = s14_one_pair(np.random.default_rng(14), delta, runs * n)
    change = (world.scores[0] - world.reference).reshape(runs, n)
    lost, gained = (change < 0).cumsum(axis=1), (change > 0).cumsum(axis=1)
    decided = e_value(lost, gained) >= 1 / ALPHA
    rate = decided.any(axis=1).mean()
    (check_at_most if delta == 0 else check_rate)(f"S14 delta {delta}", rate, ALPHA if delta == 0 else rejected, runs)
    last = mcnemar_midps(lost[:, -1], gained[:, -1]) < ALPHA
    check_rate("S14 mid-p at the end", last.mean(), fixed, runs)
    first = np.where(decided.any(axis=1), decided.argmax(axis=1) + 1, n)
    stop = first[:, np.newaxis] - 1
    at_stop = np.take_along_axis(lost, stop, axis=1)[:, 0], np.take_along_axis(gained, stop, axis=1)[:, 0]
    assert ((decision(*at_stop, 0) == "decided") == decided.any(axis=1)).all()
    if used is not None:
        share = first / n
        print(f"S14 used {share.mean():.3f}, reference {used} ± {3 * share.std() / np.sqrt(runs):.3f}")
        assert share.mean() == pytest.approx(used, abs=3 * share.std() / np.sqrt(runs))


def test_s14_peeking_without_an_e_value_goes_wrong():
    """S14, R = 400: mid-p looked at every 50 samples tells equal quants apart in .27 of runs."""
    runs, n = 400, 2000
    world = s14_one_pair(np.random.default_rng(140), 0.0, runs * n)
    change = (world.scores[0] - world.reference).reshape(runs, n)
    lost, gained = ((change * sign > 0).cumsum(axis=1)[:, 49::50] for sign in (-1, 1))
    peeked = mcnemar_midps(lost.ravel(), gained.ravel()).reshape(lost.shape) < ALPHA
    check_rate("S14 peeking", peeked.any(axis=1).mean(), 0.27, runs)


def test_s16_a_file_under_two_names_is_one_quant():
    """S16, R = 200: hash or equal vectors find the twin, the pair is equivalent, and claims about it stay at most 5 %."""
    rng, runs = np.random.default_rng(16), 200
    world = s16_twins(rng, 2000 * runs)
    hashes = np.unique(world.sha256, return_inverse=True)[1][:, np.newaxis].astype(float)
    assert first_equal(hashes).tolist() == [*range(10), 3]
    published = np.column_stack((world.proxy, world.truth[[*range(10), 3]]))
    assert first_equal(published).tolist() == [*range(10), 3]
    twins = [pair_tests(scores[[3, 10]], binary=True) for scores in runs_of(world, runs)]
    judged = [judge([by_proxy(each, np.array([0.1, 0.2]), np.zeros(1))])[0] for each in twins]
    check_at_most("S16 claims", np.mean([each.verdict[0] != "undecided" for each in judged]), ALPHA, runs)
    assert np.mean([each.equivalent[0] for each in judged]) > 0.95
    untied = by_proxy(pair_tests(world.scores[:, :500], binary=True), world.proxy)
    assert len(untied.p_proxy) == 54, "the twins' proxies tie: they are no pair"


def test_s1_agreement_of_a_perfect_proxy():
    """S1 at N 2000: PA_sig is 1, SPA is near 1, the two-level interval holds PA, and the front's members are likely."""
    rng = np.random.default_rng(101)
    world = s1_ladder(rng, 2000)
    tests = pair_tests(world.scores, binary=True)
    sampled, chosen = joint_bootstrap(world.scores, rng, draws=500), resample_quants(rng, 500, 10)
    drawn = world.proxy[chosen], np.take_along_axis(sampled.draws, chosen, axis=1)
    found = pairwise_accuracy(world.proxy, sampled.observed, holm(tests.p) < ALPHA, drawn)
    assert (found.significant, found.separated + found.undecided) == (1, 45)
    assert found.accuracy.low <= found.accuracy.value <= found.accuracy.high
    chunks = world.proxy[:, np.newaxis] * np.exp(0.1 * rng.normal(size=(10, 64)))
    assert soft_accuracy(better_p(tests), gap_p(chunks)) > 0.8
    assert front_probability(-world.proxy, sampled.draws)[-1] == 1, "nothing is smaller than the smallest"
