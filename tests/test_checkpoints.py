"""An ANALYZE killed by SIGKILL continues: it ends with the statistics of an undisturbed one."""

import multiprocessing
import os
import random
import shutil
import sys
import time

import duckdb
import killed
import octans
import pytest

KILLS = 20


@pytest.fixture(scope="module")
def processes():
    """Forked from a server that has imported everything: starting one takes milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # 3.11's server forgets sys.path
        first = context.Process(target=time.sleep, args=(0,))
        first.start()
        first.join()
    return context


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A catalog with everything declared, and the files it replays."""
    folder = tmp_path_factory.mktemp("killed")
    killed.record(folder)
    with octans.connect(folder / "declared.duckdb", base_dir=folder) as session:
        session.sql(killed.STATEMENTS)
    return folder


class Trial:
    """One catalog, analyzed until it is killed, and again."""

    def __init__(self, folder, processes, name):
        self.path = folder / f"{name}.duckdb"
        shutil.copy(folder / "declared.duckdb", self.path)
        self.processes = processes
        self.logs = []

    def analyze(self, **given):
        """The exit code of a process that analyzes; its log is the last of `logs`."""
        log = self.path.with_suffix(f".{len(self.logs)}")
        process = self.processes.Process(target=killed.analyze, args=(self.path, log), kwargs=given)
        process.start()
        process.join(60)
        self.logs.append(log.read_bytes() if log.exists() else b"")
        self.said = log.with_suffix(".said").read_text() if process.exitcode == 0 else None
        return process.exitcode

    def query(self, sql):
        """What the file says, looked at from outside."""
        with duckdb.connect(str(self.path)) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def undisturbed(world, processes):
    trial = Trial(world, processes, "undisturbed")
    began = time.perf_counter()
    assert trial.analyze() == 0
    trial.seconds = time.perf_counter() - began
    trial.statistics = trial.query(killed.STATISTICS)
    assert {row[1] for row in trial.statistics} >= {"latency", "failure", "quality", "accuracy"}
    return trial


def calls_of_runs(log, count):
    """Calls made in the first `count` runs of stages."""
    parts = log.split(b"r")
    return sum(part.count(b"c") for part in parts[:count])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_the_final_statistics_equal_an_undisturbed_runs(world, processes, undisturbed, seed):
    """Killed at a random call, or at a random time, which may be amid a write."""
    whole = undisturbed.logs[0]
    rng = random.Random(seed)
    trial = Trial(world, processes, f"trial{seed}")
    if seed % 2:
        exitcode = trial.analyze(kill_at=rng.randrange(1, whole.count(b"c")))
        assert exitcode == -9
    else:
        trial.analyze(kill_after=rng.random() * undisturbed.seconds)
        if trial.query("SELECT 1 FROM octans.runs WHERE status = 'done'"):
            return  # it had ended; another ANALYZE would measure times anew
    noted = trial.query("SELECT count(*) FROM octans_internal.checkpoints")[0][0]
    assert trial.analyze() == 0
    assert trial.query(killed.STATISTICS) == undisturbed.statistics
    # What was noted is not run again, and nothing but of the last round was not noted.
    before, after = trial.logs
    assert after.count(b"c") == whole.count(b"c") - calls_of_runs(whole, noted)
    assert noted >= before.rpartition(b"p")[0].count(b"r")
    assert (f"{noted} of its measurements are reused" in trial.said) == (noted > 0)
    assert trial.query("SELECT count(*) FROM octans_internal.checkpoints") == [(0,)]


@pytest.mark.slow
def test_killed_twice_it_continues_twice(world, processes, undisturbed):
    trial = Trial(world, processes, "twice")
    total = undisturbed.logs[0].count(b"c")
    assert trial.analyze(kill_at=total - 8) == -9
    assert trial.analyze(kill_at=4) == -9
    noted = trial.query("SELECT count(*) FROM octans_internal.checkpoints")[0][0]
    assert noted >= trial.logs[0].rpartition(b"p")[0].count(b"r") > 0
    assert trial.analyze() == 0
    assert trial.query(killed.STATISTICS) == undisturbed.statistics
    whole = undisturbed.logs[0]
    assert trial.logs[2].count(b"c") == total - calls_of_runs(whole, noted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_search_goes_on_as_it_would_have(world, processes, seed):
    """Killed while it searches, it profiles what is left, and finds what it would have found."""
    whole = Trial(world, processes, f"search{seed}")
    assert whole.analyze(text=killed.SEARCH) == 0
    assert "searched" in whole.said
    calls = whole.logs[0].count(b"c")
    trial = Trial(world, processes, f"searchkilled{seed}")
    kill_at = random.Random(seed).randrange(calls // 4, calls)
    assert trial.analyze(text=killed.SEARCH, kill_at=kill_at) == -9
    assert trial.analyze(text=killed.SEARCH) == 0
    assert trial.query(killed.STATISTICS) == whole.query(killed.STATISTICS)
    found = [
        line
        for said in (whole.said, trial.said)
        for line in said.split("\n")
        if "best plan" in line
    ]
    assert len(found) == 2
    assert found[0] == found[1]
    assert trial.logs[1].count(b"c") < calls
    assert trial.query("SELECT count(*) FROM octans_internal.histories") == [(1,)]
