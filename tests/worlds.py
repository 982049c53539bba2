"""Worlds with a planted truth: made-up quants of which it is known where the proxy works and where it misleads.

All but `s15_normal` follow one margin model. Item j has the margin m_j ~ N(μ, 1), μ = .9, and quant k gets it right when
m_j − δ_k + σ_k·ε_kj + τ·u_{k, cluster of j} > 0, with ε and u standard normal. The reference has δ = σ = τ = 0. So the
true score is Φ((μ − δ_k) / √(1 + σ_k² + τ²)): σ plants volume (answers that change), δ plants direction (answers that get
worse), and δ = flat(σ) keeps the score of the reference exactly.

Every generator takes `rng` first and draws one world. In S0–S2 and S4 the proxy is exact and items are independent, so R runs
of n items are one world of R·n items: `s1_ladder(rng, n=300 * 400).scores.reshape(10, 400, 300)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MU = 0.9
"""Mean margin: the reference's true score is Φ(.9) = .816."""

LADDER_KLD = np.geomspace(0.003, 0.4, 10)
"""The ladder's proxy, in nats: ten quants from nearly lossless to badly hurt."""


@dataclass(frozen=True)
class World:
    """K quants on N items, and the truth about them.

    `reference` (N) and `scores` (K × N) are 0 or 1, NaN where unscored. `truth` (K) and `reference_truth` are the true
    scores. `proxy` (K) is larger for more damage, as are all `proxies` (name → K). `chunks` (K × C) are the proxy's values
    chunk by chunk; their mean is `proxy`. `size_bytes` (K). `providers` (K) and `clusters` (N) are integer codes.
    `replicate` (N) is the reference run once more. `sha256` names the quants' files. What a world does not have is None.
    """

    reference: FloatArray
    scores: FloatArray
    truth: FloatArray
    reference_truth: float
    proxy: FloatArray
    proxies: Mapping[str, FloatArray] = field(default_factory=dict)
    chunks: FloatArray | None = None
    size_bytes: FloatArray | None = None
    providers: IntArray | None = None
    clusters: IntArray | None = None
    replicate: FloatArray | None = None
    sha256: tuple[str, ...] | None = None


def flat(sigma: FloatArray | float) -> FloatArray:
    """Return the δ at which noise σ changes answers and leaves the true score as it is, μ·(1 − √(1 + σ²))."""
    return np.asarray(MU * (1 - np.sqrt(1 + np.square(sigma))))


def true_score(delta: FloatArray | float, sigma: FloatArray | float, tau: float = 0.0) -> FloatArray:
    """Return Φ((μ − δ) / √(1 + σ² + τ²))."""
    return np.asarray(ndtr((MU - np.asarray(delta)) / np.sqrt(1 + np.square(sigma) + tau**2)))


def draw(
    rng: np.random.Generator,
    n: int,
    delta: FloatArray,
    sigma: FloatArray | float,
    proxy: FloatArray,
    tau: float = 0.0,
    clusters: IntArray | None = None,
) -> World:
    """Draw n items of the margin model for the quants with these δ (K), σ (K or one for all) and τ."""
    margin = MU + rng.standard_normal(n, dtype=np.float32)
    shifted = _shifted(rng, margin, delta, sigma)
    if clusters is not None:
        shifted += (
            np.float32(tau) * rng.standard_normal((len(delta), clusters.max() + 1), dtype=np.float32)[:, clusters]
        )
    truth = np.broadcast_to(true_score(delta, sigma, tau), delta.shape)
    return World(_right(margin), _right(shifted), truth, float(ndtr(MU)), proxy, clusters=clusters)


def s0_equal(rng: np.random.Generator, n: int = 500, quants: int = 10) -> World:
    """S0: equal quants, σ = .25, δ = 0; the proxy is a ladder all the same, so every claim about a pair is false."""
    return draw(rng, n, np.zeros(quants), 0.25, np.geomspace(0.003, 0.4, quants))


def s1_ladder(rng: np.random.Generator, n: int = 500) -> World:
    """S1: the proxy orders ten quants exactly as the scores do, δ = .6√κ, σ = .9√κ."""
    return draw(rng, n, 0.6 * np.sqrt(LADDER_KLD), 0.9 * np.sqrt(LADDER_KLD), LADDER_KLD)


def s2_silent_zone(rng: np.random.Generator, n: int = 500) -> World:
    """S2: six quants are exactly as good as the reference, four lose 1.5, 3.9, 7.0 and 10.9 points; the volume grows."""
    sigma = 0.9 * np.sqrt(LADDER_KLD)
    delta = flat(sigma) + np.maximum(0, np.sqrt(LADDER_KLD) - np.sqrt(0.05))
    return draw(rng, n, delta, sigma, LADDER_KLD)


def s3_providers(rng: np.random.Generator, n: int = 500) -> World:
    """S3: within each of three providers lower KLD is better; across them it is worse (Simpson).

    Five grades each. `proxies["plain"]` is the KLD on plain text, which leaks into provider 0's calibration the most and
    into provider 2's the least; `proxies["task_text"]` is the KLD on the tasks' own text and has no leak.
    """
    grade, provider = np.tile(np.linspace(0, 1, 5), 3), np.repeat([-1.0, 0.0, 1.0], 5)
    delta = 0.15 + 0.30 * grade - 0.12 * provider + flat(0.3)
    noise = 0.03 * rng.standard_normal((2, 15))
    plain = np.exp(np.log(0.02) + grade + 1.5 * provider + noise[0])
    task_text = np.exp(np.log(0.03) + grade + noise[1])
    return replace(
        draw(rng, n, delta, 0.3, plain),
        proxies={"plain": plain, "task_text": task_text},
        providers=provider.astype(np.int64) + 1,
    )


def s4_misleading(rng: np.random.Generator, n: int = 500) -> World:
    """S4: the ladder of S1 with δ of quant 6 set to that of 2 and of 3 to that of 7: five pairs truly mislead.

    Pairs (better by proxy, better in truth), points: (3, 4) 3.61, (3, 5) 2.55, (3, 6) 4.30, (4, 6) .69, (5, 6) 1.74.
    """
    delta = 0.6 * np.sqrt(LADDER_KLD)
    delta[[6, 3]] = delta[[2, 7]]
    return draw(rng, n, delta, 0.9 * np.sqrt(LADDER_KLD), LADDER_KLD)


def s5_two_proxies(rng: np.random.Generator, quants: int = 12, n: int = 1000, *, equal: bool = False) -> World:
    """S5: δ follows `proxies["chat"]`; `proxies["prose"]`, correlated .6 with it in the logarithm, only follows that.

    With `equal` both are equally good: each follows a hidden cause of the damage, and their logarithms correlate .6.
    """
    latent, first, second = rng.standard_normal((3, quants))
    if equal:
        log_chat, log_prose = (np.sqrt(0.6) * latent + np.sqrt(0.4) * own for own in (first, second))
    else:
        log_chat, log_prose = latent, 0.6 * latent + 0.8 * second
    damage, chat, prose = (np.exp(np.log(0.03) + each) for each in (latent, log_chat, log_prose))
    world = draw(rng, n, np.sqrt(damage) + flat(0.3), 0.3, chat)
    return replace(world, proxies={"chat": chat, "prose": prose})


def s6_size(rng: np.random.Generator, n: int = 2000) -> World:
    """S6: 14 quants whose proxy and score both follow the size; at equal size the proxy says nothing."""
    size = rng.uniform(8, 36, 14)
    proxy = 0.6 * np.exp(-0.12 * size + 0.3 * rng.standard_normal(14))
    delta = 0.9 * np.exp(-0.07 * size) + 0.03 * rng.standard_normal(14) + flat(0.2)
    return replace(draw(rng, n, delta, 0.2, proxy), size_bytes=size * 1e9)


def s7_noisy_proxy(rng: np.random.Generator, chunks: int = 32, n: int = 2000) -> World:
    """S7: quants so alike in KLD that a few chunks hardly tell them apart; δ follows the true KLD, `proxies["true"]`."""
    true = np.geomspace(0.010, 0.016, 10)
    common, own = rng.standard_normal(chunks), rng.standard_normal((10, chunks))
    values = true[:, np.newaxis] * np.exp(0.35 * common + 0.6 * own - (0.35**2 + 0.6**2) / 2)
    delta = 0.25 + 0.12 * (np.log(true) - np.log(true).mean()) / np.log(true).std() + flat(0.2)
    return replace(draw(rng, n, delta, 0.2, values.mean(axis=1)), chunks=values, proxies={"true": true})


def s8_documents(rng: np.random.Generator, tau: float = 0.5, quants: int = 2) -> World:
    """S8: equal quants on 50 documents of 10 items each; each gets documents of its own wrong as a whole, σ = .3, δ = 0."""
    clusters = np.repeat(np.arange(50), 10)
    return draw(rng, 500, np.zeros(quants), 0.3, np.geomspace(0.003, 0.4, quants), tau, clusters)


def s9_run_noise(rng: np.random.Generator, omega: float = 0.1, n: int = 1000) -> World:
    """S9: every run has noise ω; quant 0 is the reference's own file, quant 1 has σ = .3 besides, at the same score.

    `replicate` is the reference run again.
    """
    margin = MU + rng.standard_normal(n, dtype=np.float32)
    reference, replicate, same = _right(_shifted(rng, margin, np.zeros(3), omega))
    sigma = float(np.hypot(0.3, omega))
    delta = flat(sigma) - flat(omega) * np.sqrt((1 + sigma**2) / (1 + omega**2))
    other = _right(_shifted(rng, margin, np.array([delta]), sigma))[0]
    truth = np.full(2, true_score(0.0, omega))
    return World(
        reference, np.stack((same, other)), truth, float(truth[0]), np.array([0.0, 0.03]), replicate=replicate,
        sha256=("reference", "quant 1"),
    )  # fmt: skip


def s10_degenerate(rng: np.random.Generator) -> Mapping[str, World]:
    """S10: tables that allow next to no statistic, by name."""
    chance = draw(rng, 100, np.zeros(4), 0.3, LADDER_KLD[:4])
    guesses = (rng.random((5, 100)) < 0.25).astype(np.float64)
    return {
        "all right": draw(rng, 100, np.full(10, -9.0), 0.1, LADDER_KLD),
        "all wrong": draw(rng, 100, np.full(10, 9.0), 0.1, LADDER_KLD),
        "all at chance": replace(
            chance, reference=guesses[0], scores=guesses[1:], truth=np.full(4, 0.25), reference_truth=0.25
        ),
        "one quant": draw(rng, 100, np.zeros(1), 0.3, LADDER_KLD[:1]),
        "one sample": draw(rng, 1, np.zeros(10), 0.3, LADDER_KLD),
        "nothing scored": replace(chance, scores=np.full((4, 100), np.nan)),
        "equal proxies": replace(chance, proxy=np.full(4, 0.1)),
    }


def s11_broken(rng: np.random.Generator, n: int = 1000, *, equal: bool = False) -> World:
    """S11: eight good quants for which higher KLD is *better*, and a broken one, the last, that turns ρ round.

    With `equal` the eight have the same true score.
    """
    delta = flat(0.15) - (0 if equal else 0.10) * np.linspace(0, 1, 8)
    return draw(
        rng,
        n,
        np.append(delta, 1.8 + flat(1.0)),
        np.append(np.full(8, 0.15), 1.0),
        np.append(np.geomspace(0.005, 0.03, 8), 2.0),
    )


def s12_budgets(rng: np.random.Generator, n: int = 500) -> World:
    """S12: 14 quants of 8 to 36 GB to pick from under a budget."""
    size = rng.uniform(8, 36, 14)
    kld = 0.6 * np.exp(-0.16 * size + 0.25 * rng.standard_normal(14))
    delta = 0.5 * np.sqrt(kld) + 0.03 * rng.standard_normal(14)
    return replace(draw(rng, n, delta, 0.7 * np.sqrt(kld), kld), size_bytes=size * 1e9)


def s13_unscored(rng: np.random.Generator, n: int = 1000) -> World:
    """S13: eight quants whose hard items stay unscored the more often the worse the quant, so the worst look better."""
    kld = np.geomspace(0.003, 0.4, 8)
    margin = MU + rng.standard_normal(n, dtype=np.float32)
    shifted = _shifted(rng, margin, 0.5 * np.sqrt(kld), 0.5 * np.sqrt(kld))
    lost = (shifted < 0.5) & (rng.random(shifted.shape) < (0.02 + 0.30 * np.sqrt(kld))[:, np.newaxis])
    truth = true_score(0.5 * np.sqrt(kld), 0.5 * np.sqrt(kld))
    return World(_right(margin), np.where(lost, np.nan, _right(shifted)), truth, float(ndtr(MU)), kld)


def s14_one_pair(rng: np.random.Generator, delta: float = 0.0, n: int = 2000, discordance: float = 0.06) -> World:
    """S14: one quant that changes 6 % of the items and differs from the reference by `delta` (share, quant − reference)."""
    gained, lost = (discordance + delta) / 2, (discordance - delta) / 2
    start = float(ndtr(MU))
    kind = rng.random(n)
    right = rng.random(n) < start
    reference = np.where(kind < gained + lost, kind >= gained, right).astype(np.float64)
    quant = np.where(kind < gained + lost, kind < gained, right).astype(np.float64)
    truth = (1 - discordance) * start + lost
    return World(reference, quant[np.newaxis], np.array([truth + delta]), truth, np.array([0.01]))


def s15_normal(rng: np.random.Generator, n: int, rho: float, runs: int) -> tuple[FloatArray, FloatArray]:
    """S15: `runs` draws of n points from a bivariate normal whose Spearman correlation is `rho`; two arrays runs × n."""
    pearson = 2 * np.sin(np.pi * rho / 6)
    x, own = rng.standard_normal((2, runs, n))
    return x, pearson * x + np.sqrt(1 - pearson**2) * own


def s16_twins(rng: np.random.Generator, n: int = 500) -> World:
    """S16: the ladder of S1 with one file more, the last, which is quant 3 under another name, run again with noise .05."""
    delta = np.append(0.6 * np.sqrt(LADDER_KLD), 0.6 * np.sqrt(LADDER_KLD[3]))
    sigma = 0.9 * np.sqrt(LADDER_KLD)
    margin = MU + rng.standard_normal(n, dtype=np.float32)
    shifted = _shifted(rng, margin, delta[:-1], sigma)
    again = _right(_shifted(rng, shifted[3], np.zeros(1), 0.05))
    return World(
        _right(margin), np.concatenate((_right(shifted), again)),
        true_score(delta, np.append(sigma, np.hypot(sigma[3], 0.05))), float(ndtr(MU)),
        np.append(LADDER_KLD, LADDER_KLD[3]), sha256=(*(f"file {k}" for k in range(10)), "file 3"),
    )  # fmt: skip


def _shifted(
    rng: np.random.Generator, margin: NDArray[np.float32], delta: FloatArray, sigma: FloatArray | float
) -> NDArray[np.float32]:
    """Return the quants' margins, K × N; single precision, since a run of 10 quants × 10⁶ items has to fit."""
    noise = rng.standard_normal((len(delta), len(margin)), dtype=np.float32)
    noise *= np.broadcast_to(np.asarray(sigma, np.float32), delta.shape)[:, np.newaxis]
    noise += margin
    noise -= delta.astype(np.float32)[:, np.newaxis]
    return noise


def _right(margin: NDArray[np.float32]) -> FloatArray:
    return (margin > 0).astype(np.float64)
