"""llama-perplexity: what its real output says, what a damaged one must not say, and how it is run.

The logs were written by llama.cpp b11434 (CPU) from an F16 and its quants, over `text.txt` in chunks of 256:
`-f text.txt -c 256 --kl-divergence-base base.kld`, then `--kl-divergence --kl-divergence-base base.kld` for each quant.
`few.log` has 2 chunks of 64. The others are runs that failed with exit code 0.
"""

import math
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import MachineError, SpecError
from evalsuite.proxy.llama_perplexity import (
    Printout,
    base_size,
    copy_chunks,
    parse,
    proxy_row,
    read_base,
    run_base,
    run_groups,
    run_kld,
)
from evalsuite.proxy.programs import Tool
from evalsuite.proxy.records import ChunkMeans, ProxyRow, chunk_se, maximum_se, mean_se, quantile_se, scored_tokens

GOLD = Path(__file__).parent / "gold" / "llama-perplexity"
Q4_0 = (GOLD / "Q4_0.log").read_text(encoding="utf-8")


def silent(done: int, planned: int) -> None:
    pass


def row(printout: Printout, **more: float) -> ProxyRow:
    return proxy_row(printout, ctx=256, corpus="harbour", corpus_sha256="0", **more)


def test_every_printed_figure_is_read():
    """A quant's log gives its 5 rows and 34 statistics, in the printed units."""
    printout = parse(Q4_0)
    assert (len(printout.rows), len(printout.statistics), printout.ctx, printout.problems) == (5, 34, 256, ())
    assert printout.rows[4] == (25.4495, 0.20160, 0.29274, 12.956, 69.134)
    assert {label: printout.statistics[label] for label in EXPECTED} == EXPECTED


EXPECTED = {
    "Mean PPL(Q)": (25.449536, 2.550297),
    "Mean PPL(base)": (20.802951, 2.151870),
    "Cor(ln(PPL(Q)), ln(PPL(base)))": (95.08, None),
    "Mean ln(PPL(Q)/PPL(base))": (0.201603, 0.032110),
    "Mean PPL(Q)/PPL(base)": (1.223362, 0.039282),
    "Mean PPL(Q)-PPL(base)": (4.646585, 0.836116),
    "Mean KLD": (0.292739, 0.010955),
    "99.9% KLD": (2.431745, None),
    "5.0% KLD": (0.049756, None),
    "Minimum KLD": (0.002007, None),
    "Mean Δp": (-3.997, 0.489),
    "Maximum Δp": (36.138, None),
    "0.1% Δp": (-73.066, None),
    "RMS Δp": (12.956, 0.821),
    "Same top p": (69.134, 1.835),
}


def test_row_is_in_nats_and_shares():
    """Percents become shares, and the PPL ratio is taken against the reference's own run when that is known."""
    base_ppl = parse((GOLD / "base.log").read_text(encoding="utf-8")).statistics["Final PPL"][0]
    found = row(parse(Q4_0), base_ppl=base_ppl)
    assert base_ppl == 20.8029
    assert found.ppl_ratio == pytest.approx(25.449536 / 20.8029)
    assert found.ln_ppl_ratio == pytest.approx(math.log(25.449536 / 20.8029))
    assert (found.n_tokens, found.chunks, found.kld_mean, found.kld_p999) == (635, 5, 0.292739, 2.431745)
    assert (found.rms_dp, found.mean_dp, found.same_top_p) == pytest.approx((0.12956, -0.03997, 0.69134))
    assert (found.correlation, found.notes) == (0.9508, ())


@pytest.mark.parametrize("name", ["F16", "Q8_0", "Q4_0", "Q2_K"])
def test_chunk_means_average_to_the_printed_mean(name):
    """The means recovered from running means average to the final statistics, within the printed digits."""
    printout = parse((GOLD / f"{name}.log").read_text(encoding="utf-8"))
    found = row(printout)
    means = np.array(found.chunk_means).mean(axis=0)
    assert math.exp(means[0]) == pytest.approx(found.ppl, abs=1e-4)
    assert means[2] == pytest.approx(found.kld_mean, abs=1e-5)
    assert means[4] == pytest.approx(found.same_top_p, abs=1e-5)
    assert math.sqrt((np.array(found.chunk_means)[:, 3] ** 2).mean()) == pytest.approx(found.rms_dp, abs=1e-5)
    assert found.kld_mean_se == chunk_se(found.chunk_means).kld
    assert sum(chunk.n_tokens for chunk in found.chunk_means) == found.n_tokens


@given(st.lists(st.tuples(*[st.floats(0.01, 5)] * 4, st.floats(0, 1)), min_size=2, max_size=30))
def test_chunk_means_undo_running_means(chunks):
    """Running means of any chunks, printed with llama-perplexity's digits, give the chunks back."""
    ln_ppl, ratio, kld, rms, top = np.array(chunks).T
    counts = np.arange(1, len(chunks) + 1)
    running = [np.cumsum(column) / counts for column in (ln_ppl, ratio, kld, rms**2, top)]
    printed = "".join(
        f"{c:4d}    {math.exp(p):9.4f} ± {1:9.4f}    {r:10.5f} ± {1:10.5f}    {k:10.5f} ± {1:10.5f}"
        f"    {100 * math.sqrt(m):6.3f} ± {1:6.3f} %    {100 * t:6.3f} ± {1:6.3f} %\n"
        for c, p, r, k, m, t in zip(counts, *running, strict=True)
    )
    found = np.array(row(parse(printed)).chunk_means)
    assert found[:, 2] == pytest.approx(kld, abs=1e-5 * len(chunks))
    assert found[:, 0] == pytest.approx(ln_ppl, abs=1e-4 * len(chunks))
    assert found[:, 3] ** 2 == pytest.approx(rms**2, abs=1e-3 * len(chunks))
    assert found[:, 4] == pytest.approx(top, abs=1e-5 * len(chunks))


def test_chunk_se_is_sd_over_root_c():
    """Chunk means 1, 2, 3 have the standard error 1/√3; the RMS column goes through its squares."""
    se = chunk_se([ChunkMeans(1, 1, 1, 1, 1, 5), ChunkMeans(2, 2, 2, 2, 1, 5), ChunkMeans(3, 3, 3, 3, 1, 5)])
    squares = np.array([1.0, 4.0, 9.0])
    rms_se = squares.std(ddof=1) / math.sqrt(3) / (2 * math.sqrt(squares.mean()))
    assert se == pytest.approx((1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3), rms_se, 0, 15))


def test_chunk_se_of_unequal_chunks_counts_tokens():
    """Chunks of 4, 2 and 4 tokens with means 2.5, 2 and 2.5 have the cluster-robust error that statsmodels gives, .12.

    `OLS([1, 2, 3, 4, 2, 2, 5, 1, 0, 4], ones(10)).fit(cov_type="cluster", cov_kwds={"groups": g}).bse`, g by chunk.
    """
    means, lengths = [2.5, 2.0, 2.5], [4, 2, 4]
    se = chunk_se([ChunkMeans(*[mean] * 5, length) for mean, length in zip(means, lengths, strict=True)])
    assert (se.kld, mean_se(np.array(means), lengths)) == pytest.approx((0.12, 0.12))


def simulated_kld(rng: np.random.Generator) -> np.ndarray:
    """Tokens of 64 chunks of 255, lognormal, with what the tokens of a chunk share."""
    return 0.02 * np.exp(0.4 * rng.normal(size=(64, 1)) + 1.2 * rng.normal(size=(64, 255)))


def test_errors_of_quantiles_are_those_of_another_text():
    """The errors that one text gives are, on average, the spread of the statistic over 60 texts."""
    texts = [simulated_kld(np.random.default_rng(seed)) for seed in range(60)]
    shares = [0.5, 0.99, 0.999]
    true = np.std([[*np.quantile(text, shares), text.max()] for text in texts], axis=0, ddof=1)
    told = [[*quantile_se([*text], shares), maximum_se(text.max(axis=1))] for text in texts]
    ratio = np.sqrt(np.mean(np.square(told), axis=0)) / true
    assert ratio[:3] == pytest.approx([1, 1, 1.1], abs=0.2)
    assert 0.8 < ratio[3] < 2  # one token: a rough figure, on the safe side


def test_maximum_of_nothing_has_no_error():
    """A model against itself, whose largest KLD is 0 or below by rounding, has no error of it."""
    assert maximum_se([0.1, 0.0, 0.2]) is None
    assert maximum_se([0.1]) is None


def test_one_chunk_has_no_standard_error():
    """One chunk cannot tell how much chunks vary: the errors are undefined, with a note."""
    first = Q4_0.splitlines(keepends=True)
    found = row(parse("".join(line for line in first if not re.match(r"   [2-5] ", line))))
    assert (found.kld_mean_se, found.ppl_se, found.same_top_p_se) == (None, None, None)
    assert any("one chunk" in note for note in found.notes)


def test_nan_in_an_error_is_no_problem():
    """A model against itself prints -nan in an error and -0.000000 in a mean: a complete run all the same."""
    log = (GOLD / "F16.log").read_text(encoding="utf-8")
    assert "-nan" in log
    found = row(parse(log))
    assert (parse(log).problems, found.kld_mean, found.same_top_p) == ((), 0.0, 1.0)


def test_broken_quant_is_null_with_a_note():
    """PPL nan of a broken quant becomes None, and a note says so."""
    log = re.sub(r"(Mean PPL\(Q\) +: ) +[\d.]+", r"\1       nan", Q4_0)
    found = row(parse(log))
    assert (found.ppl, found.ppl_se, found.ppl_ratio) == (None, None, None)
    assert any("Mean PPL(Q) is nan" in note for note in found.notes)


def windows_decoded(log: str) -> str:
    return log.encode().decode("cp1252", errors="replace").replace("\n", "\r\n")


def ascii_decoded(log: str) -> str:
    return log.encode().decode("ascii", errors="replace")


def stderr_between(log: str) -> str:
    return log.replace("\n====== KL", "\n0.02.089.415 W sched: a line of another thread\n====== KL")


def header_per_chunk(log: str) -> str:
    return re.sub(r"(?m)^(   \d )", r"chunk  PPL  ln(PPL(Q)/PPL(base))  KL Divergence  Δp RMS  Same top p\n\1", log)


@pytest.mark.parametrize("change", [windows_decoded, stderr_between, header_per_chunk])
def test_spoiled_logs_say_the_same(change):
    """Another decoding, line ends, stderr in between and repeated headers change nothing."""
    assert parse(change(Q4_0)) == parse(Q4_0)


def test_lost_letters_say_the_same():
    """Where ± and Δ were replaced by several question marks each, the rows and the KLD block still read."""
    found, wanted = parse(ascii_decoded(Q4_0)), parse(Q4_0)
    assert (found.rows, found.statistics, found.problems) == (wanted.rows, wanted.statistics, ())


def test_streams_may_come_apart():
    """Standard output and error read separately say what the mixed log says."""
    apart = parse((GOLD / "Q4_0.stdout.txt").read_text(encoding="utf-8"), (GOLD / "Q4_0.stderr.txt").read_text("utf-8"))
    assert apart == parse(Q4_0)


def test_doubled_quantile_of_older_builds():
    """A build that prints the 99 % line twice and lacks those of 95, 90 and 0.1 % gives a row without them."""
    old = re.sub(r"(?m)^ ?(?:95|90|0\.1|95\.0|90\.0)%?.*KLD.*\n", "", Q4_0)
    old = re.sub(r"(?m)^(99\.0%   KLD:.*\n)", r"\1\1", old)
    found = row(parse(old))
    assert (found.kld_p99, found.kld_p999, found.kld_p95, found.kld_p90) == (1.611366, 2.431745, None, None)
    assert parse(old).problems == ()


@given(st.integers(0, len(Q4_0.rstrip()) - 1))
def test_truncated_log_is_a_problem(end):
    """A log cut anywhere before its last figure is no success, and no figure in it is a cut one."""
    cut, whole = parse(Q4_0[:end]), parse(Q4_0)
    assert cut.problems
    assert cut.statistics.items() <= whole.statistics.items()
    assert cut.rows == whole.rows[: len(cut.rows)]


def test_few_tokens_have_rows_but_no_blocks():
    """Below 100 scored tokens the means come from the last row, percentiles are undefined, and it is a success."""
    printout = parse((GOLD / "few.log").read_text(encoding="utf-8"))
    found = proxy_row(printout, ctx=64, corpus="harbour", corpus_sha256="0")
    assert printout.problems == ()
    assert (found.ppl, found.kld_mean, found.kld_p99, found.n_tokens) == (16.1737, 0.21925, None, 62)
    assert (found.rms_dp, found.same_top_p) == pytest.approx((0.12449, 0.72581))
    assert any("fewer than 100" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("short", "0 of 1 chunks have a row"),
        ("truncated-base", "2 of 5 chunks have a row"),
        ("small-context", "Increase it with -c"),
    ],
)
def test_failures_with_exit_code_0_are_problems(name, problem):
    """A text too short, a base cut off and a context too small are told from a success by what is printed."""
    assert problem in "; ".join(parse((GOLD / f"{name}.log").read_text(encoding="utf-8")).problems)


def test_carrying_on_with_another_vocabulary_is_a_problem():
    """A complete table after `inconsistent vocabulary` does not count."""
    log = "0.00.220.443 E kl_divergence: inconsistent vocabulary (32000 vs 49152)\n" + Q4_0
    assert parse(log).problems == ("inconsistent vocabulary (32000 vs 49152)",)


def write_base(path: Path, ctx: int, n_vocab: int, chunks: int) -> int:
    codes = bytes(chunks * scored_tokens(ctx) * 2 * (2 * math.ceil(n_vocab / 2) + 4))
    path.write_bytes(struct.pack("<8sIii", b"_logits_", ctx, n_vocab, chunks) + bytes(4 * ctx * chunks) + codes)
    return path.stat().st_size


@pytest.mark.parametrize(("ctx", "n_vocab", "chunks"), [(8, 10, 2), (7, 11, 2), (512, 3, 1)])
def test_base_file_is_read_back(tmp_path, ctx, n_vocab, chunks):
    """The header of a base file is read back when its size fits the format, odd vocabularies included."""
    assert write_base(tmp_path / "b", ctx, n_vocab, chunks) == base_size(ctx, n_vocab, chunks)
    assert read_base(tmp_path / "b") == (ctx, n_vocab, chunks)


def test_base_size_of_a_real_file():
    """llama-perplexity wrote 401 145 748 bytes for 16 chunks of 512 at a vocabulary of 49152."""
    assert base_size(512, 49152, 16) == 401_145_748


def test_incomplete_base_is_refused(tmp_path):
    """A base file that lacks its last byte, or is another file, is refused with its name."""
    base = tmp_path / "b.kld"
    write_base(base, 8, 10, 2)
    base.write_bytes(base.read_bytes()[:-1])
    with pytest.raises(MachineError, match=r"b\.kld: .* incomplete"):
        read_base(base)
    base.write_bytes(b"GGUF")
    with pytest.raises(MachineError, match="not a base file"):
        read_base(base)


def program(tmp_path: Path, body: str, **more: float) -> Tool:
    """Write a stand-in for llama-perplexity, a program of its own."""
    path = tmp_path / "tool"
    path.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return Tool(path, threads=1, log=tmp_path / "log", **more)


def saying(name: str) -> str:
    return f"print(open({str(GOLD / name)!r}, encoding='utf-8').read())"


def kld(tool: Tool, tmp_path: Path, progress=silent) -> Printout:
    write_base(tmp_path / "base", 256, 10, 5)
    return run_kld(tool, Path("q.gguf"), tmp_path / "base", progress=progress)


def test_settings_are_fixed_and_the_environment_is_clean(tmp_path, monkeypatch):
    """Every quant gets the same explicit settings whatever the shell holds, and none of its secrets; context is the base's."""
    for name in ("LLAMA_ARG_CTX_SIZE", "HF_TOKEN", "EVALSUITE_API_KEY"):
        monkeypatch.setenv(name, "64")
    kld(program(tmp_path, f"print(sys.argv[1:], [*os.environ])\n{saying('Q4_0.log')}"), tmp_path)
    first = (tmp_path / "log").read_text(encoding="utf-8").splitlines()[0]
    for words in (
        "'-c', '256'",
        "'-b', '2048'",
        "'-fa', 'on'",
        "'-ctk', 'f16', '-ctv', 'f16'",
        "'-ngl', '0'",
        "'PATH'",
    ):
        assert words in first
    assert not re.search("LLAMA_ARG|HF_TOKEN|API_KEY", first)


def test_tool_that_falls_silent_is_ended(tmp_path):
    """A program that prints nothing more, and hears no SIGTERM, is ended, and the error says so."""
    wedged = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('pid', os.getpid(), flush=True)\ntime.sleep(600)"
    with pytest.raises(MachineError, match="it said nothing for 1 s and was ended"):
        kld(program(tmp_path, wedged, silence_s=1), tmp_path)
    pid = int((tmp_path / "log").read_text(encoding="utf-8").split()[-1])
    assert not Path(f"/proc/{pid}").exists()


def test_progress_comes_from_the_rows(tmp_path):
    """The last report says that all chunks are done."""
    reports = []
    kld(program(tmp_path, saying("Q4_0.log")), tmp_path, progress=lambda *report: reports.append(report))
    assert reports[-1] == (5, 5)


def test_exit_code_0_after_a_failure_is_an_error(tmp_path):
    """A run that printed 2 of 5 chunks is an error with the program's own last words and the log's place."""
    with pytest.raises(MachineError) as caught:
        kld(program(tmp_path, saying("truncated-base.log")), tmp_path)
    assert "2 of 5 chunks have a row" in str(caught.value)
    assert "failed reading log-probs for chunk 2" in str(caught.value)
    assert str(tmp_path / "log") in str(caught.value)


def test_crash_after_a_complete_table_is_an_error(tmp_path):
    """A complete table with exit code 3 is not trusted."""
    with pytest.raises(MachineError, match="exited with code 3"):
        kld(program(tmp_path, f"{saying('Q4_0.log')}\nsys.exit(3)"), tmp_path)


def test_missing_program_is_an_error(tmp_path):
    """A program that is not there is an error with its name."""
    with pytest.raises(MachineError, match="nowhere"):
        kld(Tool(tmp_path / "nowhere", threads=1, log=tmp_path / "log"), tmp_path)


def test_child_ends_with_an_exception(tmp_path):
    """An exception on our side (here from the progress display) ends the program at once."""
    tool = program(
        tmp_path, f"{saying('few.log')}\nsys.stdout.flush()\nprint('pid', os.getpid(), flush=True)\ntime.sleep(600)"
    )

    def interrupt(done: int, planned: int) -> None:
        if "pid" in (tmp_path / "log").read_text(encoding="utf-8"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kld(tool, tmp_path, interrupt)
    pid = int((tmp_path / "log").read_text(encoding="utf-8").split()[-1])
    assert not Path(f"/proc/{pid}").exists()


def base_of(tool: Tool, tmp_path: Path, n_vocab: int, groups: int = 1) -> Printout:
    return run_base(
        tool, Path("f16.gguf"), GOLD / "text.txt", tmp_path / "base", ctx=256, chunks=5, n_vocab=n_vocab,
        groups=groups, progress=silent,
    )  # fmt: skip


def test_disk_space_is_checked_before(tmp_path):
    """A base file that cannot fit is refused before anything runs, with the gigabytes needed and free."""
    with pytest.raises(MachineError, match=r"needs \d{4,}\.\d\d GB and [\d.]+ GB are free"):
        base_of(program(tmp_path, ""), tmp_path, n_vocab=2**33)


def test_short_text_is_the_users_to_mend(tmp_path):
    """A text of 193 tokens where 512 are needed is a SpecError with both numbers."""
    with pytest.raises(SpecError, match="has 193 tokens and llama-perplexity needs 512"):
        base_of(program(tmp_path, saying("short.log")), tmp_path, n_vocab=10)


def test_unfinished_base_is_not_left(tmp_path):
    """When the program reports success but its base file is short, neither the file nor its part stays."""
    tool = program(
        tmp_path,
        "open(sys.argv[sys.argv.index('--kl-divergence-base') + 1], 'wb').write(b'_logits_' + bytes(99))\n"
        + saying("base.log"),
    )
    with pytest.raises(MachineError, match="incomplete"):
        base_of(tool, tmp_path, n_vocab=10)
    assert not list(tmp_path.glob("base*"))


def test_groups_give_the_errors_of_quantiles():
    """The error of what is no mean is the spread of the groups' figures / √G; each chunk mean comes from its group."""
    logs = [parse((GOLD / f"{name}.log").read_text(encoding="utf-8")) for name in ("Q8_0", "Q4_0", "Q2_K")]
    whole = parse(Q4_0)
    found = row(whole, groups=logs)
    p99 = [log.statistics["99.0% KLD"][0] for log in logs]
    assert found.kld_p99_se == pytest.approx(np.std(p99, ddof=1) / math.sqrt(3))
    maxima = [log.statistics["Maximum KLD"][0] for log in logs]
    assert found.kld_max_se == pytest.approx(max(maxima) * np.std(np.log(maxima), ddof=1))
    assert (found.kld_p99, found.kld_max) == (row(whole).kld_p99, row(whole).kld_max)
    assert found.chunk_means == tuple(chunk for log in logs for chunk in row(log).chunk_means)


def test_quantile_beyond_the_groups_has_no_error():
    """A group of 635 tokens says nothing of the 99.9 %: no error, and a note says why."""
    found = row(parse(Q4_0), groups=[parse(Q4_0), parse(Q4_0)])
    assert (found.kld_p999_se, found.kld_median_se) == (None, 0)
    assert "kld_p999 has no standard error: the smallest group has 635 tokens, too few so far out" in found.notes


@pytest.mark.parametrize(("ctx", "n_vocab"), [(8, 10), (7, 11)])
def test_copied_chunks_are_those_of_the_base(tmp_path, ctx, n_vocab):
    """Parts of a base file hold its tokens and records, each once and in order, odd vocabularies included."""
    size = write_base(tmp_path / "base", ctx, n_vocab, 5)
    header, content = 20, np.random.default_rng(1).bytes(size)
    base = struct.pack("<8sIii", b"_logits_", ctx, n_vocab, 5) + content[header:]
    (tmp_path / "base").write_bytes(base)
    tokens, records = b"", b""
    for first, end in ((0, 2), (2, 3), (3, 5)):
        copy_chunks(tmp_path / "base", tmp_path / "part", first, end)
        assert read_base(tmp_path / "part") == (ctx, n_vocab, end - first)
        part = (tmp_path / "part").read_bytes()[header:]
        tokens, records = tokens + part[: 4 * ctx * (end - first)], records + part[4 * ctx * (end - first) :]
    assert tokens + records == base[header:]


def test_text_too_short_for_its_groups_is_the_users_to_mend(tmp_path):
    """Five chunks in five groups are well, six groups leave one without a chunk: refused before any quant is compared."""
    write_base(tmp_path / "made", 256, 10, 5)
    tool = program(
        tmp_path,
        f"import shutil\nshutil.copy({str(tmp_path / 'made')!r}, sys.argv[sys.argv.index('--kl-divergence-base') + 1])\n"
        + saying("base.log"),
    )
    assert base_of(tool, tmp_path, n_vocab=10, groups=5)
    with pytest.raises(SpecError, match="6 groups of 5 chunks have 0 scored tokens each"):
        base_of(tool, tmp_path, n_vocab=10, groups=6)


@pytest.mark.llama_cpp
@pytest.mark.live
def test_groups_of_a_real_base_add_up(llama_cpp, ladder, tmp_path):
    """Runs on parts of a real base file are complete, and their figures are those of the whole."""
    base, tool = tmp_path / "base", Tool(llama_cpp.tools["perplexity"], threads=1, log=tmp_path / "log")
    reference, quant = ladder / "F16.gguf", ladder / "Q4_0.gguf"
    run_base(tool, reference, GOLD / "text.txt", base, ctx=256, chunks=3, n_vocab=49152, groups=3, progress=silent)
    whole = run_kld(tool, quant, base, progress=silent).statistics
    groups = [group.statistics for group in run_groups(tool, quant, base, 3, progress=silent)]
    assert np.mean([group["Mean KLD"][0] for group in groups]) == pytest.approx(whole["Mean KLD"][0], rel=0.01)
    assert max(group["Maximum KLD"][0] for group in groups) == pytest.approx(whole["Maximum KLD"][0], rel=0.02)
    assert [path.name for path in tmp_path.glob("base*")] == ["base"]


@pytest.mark.llama_cpp
@pytest.mark.live
def test_real_run_of_a_model_against_itself(llama_cpp, smollm2, tmp_path):
    """The real program writes a whole base, and the model against its own base has KLD 0 and PPL ratio 1."""
    base, tool = tmp_path / "base", Tool(llama_cpp.tools["perplexity"], threads=1, log=tmp_path / "log")
    reference = run_base(
        tool, smollm2, GOLD / "text.txt", base, ctx=128, chunks=3, n_vocab=49152, progress=silent
    )  # fmt: skip
    found = proxy_row(
        run_kld(tool, smollm2, base, progress=silent), ctx=128, corpus="harbour", corpus_sha256="0",
        base_ppl=reference.statistics["Final PPL"][0],
    )  # fmt: skip
    assert (found.chunks, found.n_tokens) == (3, 189)
    assert (found.kld_mean, found.ppl_ratio, found.same_top_p) == pytest.approx((0, 1, 1), abs=1e-4)
